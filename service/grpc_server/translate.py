"""Inference requests and answers between gRPC's messages and the JSON with binary tensors of `/v2`."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pixeltier.service.api.tensors import HEADER_LENGTH
from pixeltier.service.grpc_server import open_inference as pb

LENGTH_BYTES = 4
"""Before each element of a BYTES tensor, little endian."""


def request_of(message: pb.ModelInferRequest) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request to `/v2`.

    Raises:
        ValueError: tensors that no request could hold; the message says which.
    """
    inputs, tails = [], []
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise ValueError(
            f"raw_input_contents holds {len(raw)} tensors and there are {len(message.inputs)} inputs"
        )
    for place, tensor in enumerate(message.inputs):
        if raw and tensor.HasField("contents"):
            raise ValueError(
                f"input {tensor.name[:64]!r} has contents, and raw_input_contents are there, too"
            )
        tail = raw[place] if raw else b"".join(map(_element, tensor.contents.bytes_contents))
        size = {"binary_data_size": len(tail)}
        inputs.append(
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": values_of(tensor.parameters) | size,
            }
        )
        tails.append(tail)
    document: dict[str, Any] = {
        "parameters": values_of(message.parameters) | {"binary_data_output": True},
        "inputs": inputs,
        "outputs": [
            # Whatever is asked: an answer here has no JSON for a tensor to stand in.
            {"name": one.name, "parameters": values_of(one.parameters) | {"binary_data": True}}
            for one in message.outputs
        ],
    }
    if message.id:
        document["id"] = message.id
    head = json.dumps(document, separators=(",", ":")).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return b"".join((head, *tails)), headers


def answer_of(body: bytes, header_length: str | None) -> pb.ModelInferResponse:
    """The message of an answer whose outputs all came as binary data."""
    end = len(body) if header_length is None else int(header_length)
    document, at = json.loads(body[:end]), end
    answer = pb.ModelInferResponse(
        model_name=document["model_name"],
        model_version=document["model_version"],
        id=document.get("id", ""),
        parameters=_parameters(document["parameters"]),
    )
    for output in document["outputs"]:
        answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = output["parameters"]["binary_data_size"]
        answer.raw_output_contents.append(body[at : at + size])
        at += size
    return answer


def values_of(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """Parameters as JSON has them; one without a value is null."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        chosen = parameter.WhichOneof("parameter_choice")
        found[name] = None if chosen is None else getattr(parameter, chosen)
    return found


def _parameters(values: Mapping[str, Any]) -> dict[str, pb.InferParameter]:
    return {name: _parameter(value) for name, value in values.items()}


def _parameter(value: Any) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=str(value))


def _element(value: bytes) -> bytes:
    return len(value).to_bytes(LENGTH_BYTES, "little") + value


def tensors_of(documents: Iterable[Mapping[str, Any]]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    """Descriptions of tensors."""
    return [pb.ModelMetadataResponse.TensorMetadata(**one) for one in documents]

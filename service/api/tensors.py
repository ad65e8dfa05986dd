"""Tensors of the Open Inference Protocol v2: JSON, the binary data extension that its clients use by default, and
the classification extension."""

import base64
import binascii
import json
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from pydantic_core import ErrorDetails

from pixeltier.service.task_specs.tensor import Tensor

HEADER_LENGTH = "Inference-Header-Content-Length"

_JSON_OVERHEAD = 64 * 1024

INPUT = "image"
"""The name of the one input that every model takes."""


def body_limit(max_body_bytes: int) -> int:
    """The longest body of a request whose images have so many bytes together: base64 makes them a third longer."""
    return max_body_bytes * 4 // 3 + _JSON_OVERHEAD


class TensorError(ValueError):
    """The request is not a valid inference request; the message says where."""


class _Strict(BaseModel):
    """What it does not know it refuses: a key that is ignored silently was meant to do something."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class InputParameters(_Strict):
    """How an input's data comes."""

    binary_data_size: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="Bytes of the tensor behind the JSON, each element's length included."
    )
    content_type: Literal["base64"] | None = Field(default=None, description="What `data` holds anyway.")


class InferInput(_Strict):
    """One input tensor."""

    name: str = Field(examples=[INPUT])
    shape: list[int] = Field(examples=[[1]])
    datatype: str = Field(examples=["BYTES"])
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description="The image's bytes in base64.", examples=[["iVBORw0KGgo="]]
    )


class OutputParameters(_Strict):
    """How an output is wanted."""

    binary_data: StrictBool | None = Field(
        default=None, description="Whether it comes behind the JSON; stronger than `binary_data_output`."
    )
    classification: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        description="Of `probabilities`: the best so many classes as strings `value:index:label`.",
    )


class InferOutput(_Strict):
    """A wanted output tensor."""

    name: str = Field(examples=["labels"])
    parameters: OutputParameters = OutputParameters()


class InferRequest(_Strict):
    """The JSON part of a request."""

    id: str | None = Field(default=None, max_length=256)
    model_name: str | None = Field(default=None, description="As in the URL; some clients repeat it.")
    model_version: str | None = Field(default=None, description="As in the URL; some clients repeat it.")
    parameters: dict[str, Any] = Field(default={}, examples=[{"tier": "fast"}])
    inputs: list[InferInput] = Field(min_length=1)
    outputs: list[InferOutput] | None = Field(default=None, description="All outputs if absent or empty.")


def parse(body: bytes, header_length: str | None) -> tuple[InferRequest, list[bytes]]:
    """The request and each image's bytes.

    Raises:
        TensorError: malformed JSON, tensor, base64 or binary data; an input that there is not.
    """
    head, tail = body, b""
    if header_length is not None:
        # Its digits are counted first: Python refuses to convert thousands of them.
        if not header_length.isdecimal() or len(header_length) > 18 or int(header_length) > len(body):
            raise TensorError(f"{HEADER_LENGTH} is not a length within the body")
        if int(header_length) == 0:
            return _raw(body)
        head, tail = body[: int(header_length)], body[int(header_length) :]
    try:
        request = InferRequest.model_validate(json.loads(head, object_pairs_hook=_unique))
    except ValidationError as error:
        raise TensorError(_explain(error.errors()[0])) from error
    except (ValueError, RecursionError) as error:
        raise TensorError(f"the body is not valid JSON: {error}") from error
    for tensor in request.inputs:
        if tensor.name != INPUT:
            raise TensorError(f"there is no input {tensor.name[:64]!r}; the one input is {INPUT!r}")
    if len(request.inputs) > 1:
        raise TensorError(f"input {INPUT!r} is given {len(request.inputs)} times; send images as one tensor")
    return request, _images(request.inputs[0], tail)


def _raw(body: bytes) -> tuple[InferRequest, list[bytes]]:
    """A header length of 0: the body is the one element of the one input, with or without its length before it."""
    if len(body) >= 4 and struct.unpack_from("<I", body)[0] == len(body) - 4:
        body = body[4:]
    return InferRequest(inputs=[InferInput(name=INPUT, shape=[1], datatype="BYTES")]), [body]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice[:64]!r} in one object")
    return found


def _explain(error: ErrorDetails) -> str:
    place = ".".join(str(part)[:64] for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg']}"
    if str(error["loc"][-1]).startswith("shared_memory"):
        return f"{place}: this service has no shared memory; send tensors in the body"
    return f"{place}: there is no such {'parameter' if 'parameters' in error['loc'] else 'key'}"


def _images(tensor: InferInput, tail: bytes) -> list[bytes]:
    if tensor.datatype != "BYTES":
        raise TensorError(
            f"input {tensor.name}: datatype must be BYTES, compressed images; got {tensor.datatype[:64]}"
        )
    count = tensor.shape[0] if tensor.shape else 0
    if count < 1 or tensor.shape[1:] not in ([], [1]):
        raise TensorError(f"input {tensor.name}: shape must be [N], N images; got {tensor.shape}")
    size = tensor.parameters.binary_data_size
    if size is not None:
        images = _binary_images(tensor, size, tail)
    else:
        if tail:
            raise TensorError(f"{len(tail)} bytes follow the JSON, but no input has a binary_data_size")
        images = [_decoded(tensor, text) for text in _flat(tensor.data)]
    if len(images) != count:
        raise TensorError(f"input {tensor.name}: the shape says {count} images, the data holds {len(images)}")
    return images


def _flat(data: Any) -> list[Any]:
    """The elements of nested lists, as a tensor's data may come."""
    if not isinstance(data, list):
        return [data]
    return [element for part in data for element in _flat(part)]


def _decoded(tensor: InferInput, text: Any) -> bytes:
    if not isinstance(text, str):
        raise TensorError(f"input {tensor.name}: data must hold base64 strings")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TensorError(f"input {tensor.name}: {error}") from error


def _binary_images(tensor: InferInput, size: int, tail: bytes) -> list[bytes]:
    if tensor.data is not None:
        raise TensorError(f"input {tensor.name}: give data or binary_data_size, not both")
    if size != len(tail) or size < 4:
        raise TensorError(f"input {tensor.name}: binary_data_size does not fit the body")
    images, at = [], 0
    while at < size:
        end = at + 4 + int.from_bytes(tail[at : at + 4], "little")
        if at + 4 > size or end > size:
            raise TensorError(f"input {tensor.name}: an element's length does not fit binary_data_size")
        images.append(tail[at + 4 : end])
        at = end
    return images


def check_outputs(request: InferRequest, known: Sequence[str], classified: str | None) -> None:
    """Refuse outputs that there are not, before anything is computed.

    Args:
        known: names of the model's outputs.
        classified: the output that may be asked for as classification, if the model has one.

    Raises:
        TensorError: an unknown output, one named twice, `classification` of another output.
    """
    seen: set[str] = set()
    for output in request.outputs or ():
        if output.name not in known:
            raise TensorError(f"there is no output {output.name[:64]!r}; the outputs are {', '.join(known)}")
        if output.name in seen:
            raise TensorError(f"output {output.name!r} is named twice")
        seen.add(output.name)
        if output.parameters.classification is not None and output.name != classified:
            where = f"only output {classified!r} has it" if classified else "this model names no classes"
            raise TensorError(f"output {output.name!r}: no classification: {where}")


def stacked(answers: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The outputs of several images as one tensor each, the images as the first dimension.

    Raises:
        TensorError: outputs of different sizes, which no tensor can hold.
    """
    if len(answers) == 1:
        return list(answers[0])
    found = []
    for outputs in zip(*answers, strict=True):
        first = outputs[0]
        if any(output.shape != first.shape for output in outputs):
            raise TensorError(
                f"output {first.name!r} differs in size between the images; ask for one at a time"
            )
        rest = first.shape[1:] if first.shape[0] == 1 else first.shape
        values = [value for output in outputs for value in output.values]
        found.append(Tensor(first.name, first.datatype, [len(outputs), *rest], values))
    return found


def classification_count(request: InferRequest) -> int:
    """The most classes that an output asks for as classification; 0 if none does."""
    return max((output.parameters.classification or 0 for output in request.outputs or ()), default=0)


def select(
    request: InferRequest,
    tensors: Sequence[Tensor],
    *,
    binary_by_default: bool = False,
    classify: Callable[[str, int], Tensor] | None = None,
) -> list[tuple[Tensor, bool]]:
    """The wanted outputs, each with whether it is to be binary.

    Args:
        binary_by_default: the request's `binary_data_output`.
        classify: makes an output's classification of so many classes.

    Raises:
        TensorError: an output that there is not.
    """
    if not request.outputs:
        return [(tensor, binary_by_default) for tensor in tensors]
    known = {tensor.name: tensor for tensor in tensors}
    chosen = []
    for output in request.outputs:
        if output.name not in known:
            raise TensorError(f"there is no output {output.name[:64]!r}; the outputs are {', '.join(known)}")
        count, binary = output.parameters.classification, output.parameters.binary_data
        tensor = known[output.name] if count is None or classify is None else classify(output.name, count)
        chosen.append((tensor, binary_by_default if binary is None else binary))
    return chosen


def compose(document: dict[str, Any], outputs: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, dict[str, str]]:
    """The response's body and headers."""
    described: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for tensor, binary in outputs:
        if not binary:
            described.append(tensor.as_json())
            continue
        tails.append(tensor.as_binary())
        described.append({**tensor.describe(), "parameters": {"binary_data_size": len(tails[-1])}})
    head = json.dumps({**document, "outputs": described}, separators=(",", ":")).encode()
    if not tails:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return head + b"".join(tails), headers

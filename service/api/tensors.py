"""Tensors of the Open Inference Protocol v2: JSON, and the binary data extension that its clients use by default."""

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

HEADER_LENGTH = "Inference-Header-Content-Length"

JSON_OVERHEAD = 64 * 1024

Datatype = Literal["BYTES", "FP32", "INT32"]


class TensorError(ValueError):
    """The request is no valid inference request; the message says where."""


class InferInput(BaseModel):
    """One input tensor."""

    name: str = Field(examples=["image"])
    shape: list[int] = Field(examples=[[1]])
    datatype: str = Field(examples=["BYTES"])
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(
        None, description="The image's bytes in base64.", examples=[["iVBORw0KGgo="]]
    )


class InferOutput(BaseModel):
    """A wanted output tensor."""

    name: str = Field(examples=["labels"])
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The JSON part of a request."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = Field(None, max_length=256)
    parameters: dict[str, Any] = Field({}, examples=[{"tier": "fast"}])
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = None

    @property
    def binary_by_default(self) -> bool:
        """Whether outputs come as binary data unless they say otherwise."""
        return bool(self.parameters.get("binary_data_output", False))


def parse(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """The request and the image's bytes.

    Raises:
        TensorError: malformed JSON, tensor, base64 or binary data.
    """
    head, tail = body, b""
    if header_length is not None:
        # Its digits are counted first: Python refuses to convert thousands of them.
        if not header_length.isdecimal() or len(header_length) > 18 or int(header_length) > len(body):
            raise TensorError(f"{HEADER_LENGTH} is not a length within the body")
        head, tail = body[: int(header_length)], body[int(header_length) :]
    try:
        request = InferRequest.model_validate(json.loads(head))
    except ValidationError as error:
        first = error.errors()[0]
        raise TensorError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise TensorError(f"the body is no JSON: {error}") from error
    return request, _image(request.inputs[0], tail)


def _image(tensor: InferInput, tail: bytes) -> bytes:
    if tensor.datatype != "BYTES":
        raise TensorError(
            f"input {tensor.name}: datatype must be BYTES, a compressed image; got {tensor.datatype}"
        )
    if tensor.shape not in ([1], [1, 1]):
        raise TensorError(f"input {tensor.name}: shape must be [1], one image a request; got {tensor.shape}")
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if not isinstance(size, int) or size != len(tail) or size < 4:
            raise TensorError(f"input {tensor.name}: binary_data_size does not fit the body")
        (length,) = struct.unpack_from("<I", tail)
        if length != size - 4:
            raise TensorError(f"input {tensor.name}: the element's length does not fit binary_data_size")
        return tail[4:]
    data = tensor.data
    while isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str):
        raise TensorError(f"input {tensor.name}: data must hold one base64 string")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TensorError(f"input {tensor.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output: flat values and their shape."""

    name: str
    datatype: Datatype
    shape: list[int]
    values: Sequence[Any]

    def describe(self) -> dict[str, Any]:
        """Name, datatype and shape."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}

    def as_json(self) -> dict[str, Any]:
        """With its values; bytes that are no text in base64, which a parameter then says."""
        if self.datatype != "BYTES":
            return {**self.describe(), "data": list(self.values)}
        if all(isinstance(value, str) for value in self.values):
            return {**self.describe(), "data": list(self.values)}
        encoded = [base64.b64encode(value).decode("ascii") for value in self.values]
        return {**self.describe(), "parameters": {"content_type": "base64"}, "data": encoded}

    def as_binary(self) -> bytes:
        """Little-endian values; each BYTES element after its length."""
        if self.datatype == "FP32":
            return struct.pack(f"<{len(self.values)}f", *self.values)
        if self.datatype == "INT32":
            return struct.pack(f"<{len(self.values)}i", *self.values)
        elements = [value.encode() if isinstance(value, str) else bytes(value) for value in self.values]
        return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def select(request: InferRequest, tensors: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
    """The wanted outputs, each with whether it is to be binary.

    Raises:
        TensorError: an output that there is not.
    """
    if request.outputs is None:
        return [(tensor, request.binary_by_default) for tensor in tensors]
    known = {tensor.name: tensor for tensor in tensors}
    chosen = []
    for output in request.outputs:
        if output.name not in known:
            raise TensorError(f"there is no output {output.name!r}; the outputs are {', '.join(known)}")
        binary = output.parameters.get("binary_data", request.binary_by_default)
        chosen.append((known[output.name], bool(binary)))
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

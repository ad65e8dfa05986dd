"""An output of a model, in the terms of the Open Inference Protocol."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Datatype = Literal["BYTES", "FP32", "INT32"]


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What an output looks like; -1 stands for a side that differs from answer to answer."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


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
        """With its values; bytes that are not text in base64, which a parameter then says."""
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

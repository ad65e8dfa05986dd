"""MACs of an ONNX network, counted from its graph by the rule of docs/counting.md."""

from collections.abc import Callable
from math import prod
from pathlib import Path

try:
    import onnx
except ImportError as error:
    raise ImportError("counting an ONNX network needs onnx: pip install 'pixeltier[evaluate]'") from error

Shape = tuple[int, ...]

UNCOUNTABLE = frozenset(
    {"QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul", "DeformConv", "Einsum", "Attention"}
    | {"LSTM", "GRU", "RNN", "If", "Loop", "Scan"}
)
"""Operators that multiply and add, or hold graphs of their own, and that the rule here does not cover."""


class OnnxGraph:
    """A network with one image input, NCHW.

    Raises:
        ValueError: the file is not an ONNX model, or has another input.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._model = onnx.load(str(path))
        except OSError:
            raise
        except Exception as error:  # protobuf has its own hierarchy, which it does not promise
            raise ValueError(f"{path} is not an ONNX model: {error}") from error
        self._path = path
        weights = {tensor.name for tensor in self._model.graph.initializer}
        inputs = [value for value in self._model.graph.input if value.name not in weights]
        if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
            raise ValueError(f"{path} must have one input, NCHW; it has {[value.name for value in inputs]}")
        self._input = inputs[0].name

    def macs(self, height: int, width: int) -> int:
        """MACs on one image of that size.

        Raises:
            ValueError: a node cannot be counted, or its shape cannot be known; the message names it.
        """
        shapes = self._shapes(height, width)
        total = 0
        for node in self._model.graph.node:
            if node.op_type in UNCOUNTABLE:
                raise ValueError(f"{self._path}: MACs of a {node.op_type} node are not known here")
            rule = RULES.get(node.op_type)
            if rule is None:
                continue
            names = [*node.input[:2], node.output[0]]
            unknown = [name for name in names if name not in shapes]
            if unknown:
                raise ValueError(f"{self._path}: the shape of {unknown[0]!r} ({node.op_type}) is not known")
            first, second, output = (shapes[name] for name in names)
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            total += rule(first[::-1] if transposed else first, second, output)
        return total

    def _shapes(self, height: int, width: int) -> dict[str, Shape]:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for value in model.graph.input:
            if value.name == self._input:
                for dim, size in zip(value.type.tensor_type.shape.dim, (1, 3, height, width), strict=True):
                    dim.dim_value = size
        del model.graph.value_info[:]  # shapes of other sizes would contradict
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "value":
                    shapes[node.output[0]] = tuple(attribute.t.dims)
        for value in (*graph.input, *graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                shapes[value.name] = tuple(dim.dim_value for dim in dims)
        return shapes


RULES: dict[str, Callable[[Shape, Shape, Shape], int]] = {
    # weight [O, I / groups, kernel...]: each output is a sum over I / groups * kernel
    "Conv": lambda image, weight, output: prod(output) * prod(weight[1:]),  # noqa: ARG005
    # weight [I, O / groups, kernel...]: each input is added to O / groups * kernel outputs
    "ConvTranspose": lambda image, weight, output: prod(image) * prod(weight[1:]),  # noqa: ARG005
    "Gemm": lambda a, b, output: prod(output) * a[1],  # noqa: ARG005
    "MatMul": lambda a, b, output: prod(output) * a[-1],  # noqa: ARG005
}

"""Dense networks in engines that one could pick instead: ONNX Runtime and OpenVINO, in float and quantised to INT8."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixeltier.models.networks.layout import channels_last

Run = Callable[[Tensor], Any]
"""A float32 batch of the shape that the network was prepared for to the engine's own kind of output."""


def export(network: nn.Module, example: Tensor) -> bytes:
    """The network as ONNX, for inputs of the example's shape."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), path, input_names=["x"], output_names=["y"], dynamo=False)
        return path.read_bytes()


def onnxruntime_run(model: bytes, threads: int) -> Run:
    """A network of one input, given as ONNX, in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})


def openvino_run(onnx: bytes, dtype: torch.dtype, threads: int, shape: tuple[int, ...] | None = None) -> Run:
    """A network of one input, given as ONNX, in OpenVINO.

    Args:
        shape: of the input, where the file leaves it open.
    """
    import openvino

    model = openvino.Core().read_model(onnx, b"")
    if shape is not None:
        model.reshape(list(shape))
    return compile_openvino(model, dtype, threads)


def compile_openvino(model: Any, dtype: torch.dtype, threads: int) -> Run:
    """A model of OpenVINO's; one that is quantised computes the rest of its layers in `dtype`."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: request.infer({0: np.ascontiguousarray(x.numpy())})


def quantised_openvino(network: nn.Module, photos: Sequence[Tensor]) -> Any:
    """The network as OpenVINO's model, quantised by NNCF after training on photos of the input's shape.

    Raises:
        ImportError: OpenVINO or NNCF is not installed.
    """
    import nncf
    import openvino

    network = channels_last(network.eval().requires_grad_(False))
    model = openvino.Core().read_model(export(network, photos[0]), b"")
    data = nncf.Dataset([photo.numpy() for photo in photos])
    return nncf.quantize(model, data, subset_size=len(photos))


def quantised_onnx(network: nn.Module, photos: Sequence[Tensor]) -> bytes:
    """The network as a static QDQ model of ONNX Runtime's: bytes for features, weights per output channel.

    Ranges are the extremes over photos of the input's shape.

    Raises:
        ImportError: ONNX Runtime or onnx is not installed.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Tensor] = iter(photos)

        def get_next(self) -> dict[str, Any] | None:
            photo = next(self._left, None)
            return None if photo is None else {"x": photo.numpy()}

    network = channels_last(network.eval().requires_grad_(False))
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        plain.write_bytes(export(network, photos[0]))
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)  # it would want sympy
        quantize_static(
            prepared,
            quantised,
            Photos(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return quantised.read_bytes()


def prepare_int8(network: nn.Module, photos: Sequence[Tensor], threads: int) -> Run:
    """The network in OpenVINO, quantised by NNCF on photos of the input's shape."""
    return compile_openvino(quantised_openvino(network, photos), torch.float32, threads)


def first_output(run: Run) -> Callable[[Tensor], Tensor]:
    """An engine's first output as a tensor, whatever it gives."""

    def tensor(x: Tensor) -> Tensor:
        result = run(x)
        return result if isinstance(result, Tensor) else torch.from_numpy(np.array(result[0]))

    return tensor

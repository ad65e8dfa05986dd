"""Dense networks in engines that one could pick instead: ONNX Runtime, OpenVINO, OpenVINO with INT8 by NNCF."""

import tempfile
from collections.abc import Callable
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


def prepare_int8(network: nn.Module, photos: list[Tensor], threads: int) -> Run | None:
    """The network in OpenVINO, quantised by NNCF on photos like the inputs; None where NNCF is not installed."""
    try:
        import nncf
    except ImportError:
        return None
    import openvino

    network = channels_last(network.eval().requires_grad_(False))
    model = openvino.Core().read_model(export(network, photos[0]), b"")
    data = nncf.Dataset([photo.numpy() for photo in photos])
    return _compile(nncf.quantize(model, data, subset_size=len(photos)), torch.float32, threads)


def openvino_run(onnx: bytes, dtype: torch.dtype, threads: int) -> Run:
    """A network of one input, given as ONNX, in OpenVINO."""
    import openvino

    return _compile(openvino.Core().read_model(onnx, b""), dtype, threads)


def _compile(model: Any, dtype: torch.dtype, threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: request.infer({0: np.ascontiguousarray(x.numpy())})

"""The dense networks in the engines a user could pick instead: same weights, same precision, same threads."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.layout import channels_last
from models.networks.resnet18 import ResNet18
from models.networks.srresnet import SRResNet

Run = Callable[[Tensor], Any]
ENGINES = ("torch", "inductor", "onnxruntime", "openvino")


class PlainSRResNet(nn.Module):
    """SRResNet without base and importance: what the dense reference counts."""

    def __init__(self, model: SRResNet) -> None:
        super().__init__()
        self.head = nn.Sequential(model.head, model.head_act)
        self.blocks = nn.ModuleList(nn.Sequential(b.conv1, b.act, b.conv2) for b in model.residual_blocks)
        self.mid = model.mid
        self.up = nn.Sequential(
            model.up1,
            nn.PixelShuffle(2),
            model.up1_act,
            model.up2,
            nn.PixelShuffle(2),
            model.up2_act,
            model.tail,
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 3, 4H, 4W]."""
        first = trunk = self.head(x)
        for block in self.blocks:
            trunk = trunk + block(trunk)
        out: Tensor = self.up(first + self.mid(trunk))
        return out


class PlainResNet18(nn.Module):
    """ResNet-18 without importance."""

    def __init__(self, model: ResNet18) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, classes]."""
        out: Tensor = self.model(x)
        return out


def prepare(engine: str, network: nn.Module, example: Tensor, dtype: torch.dtype, threads: int) -> Run | None:
    """The network in an engine, or None where the engine cannot run that precision."""
    network = channels_last(network.eval().requires_grad_(False))
    if engine in ("torch", "inductor"):
        return _torch(network, example, dtype, compiled=engine == "inductor")
    if engine == "onnxruntime":
        return None if dtype == torch.bfloat16 else _onnxruntime(network, example, threads)
    return _openvino(network, example, dtype, threads)


def _torch(network: nn.Module, example: Tensor, dtype: torch.dtype, compiled: bool) -> Run:
    import copy

    network = channels_last(copy.deepcopy(network).to(dtype))

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            out: Tensor = network(x.to(dtype=dtype, memory_format=torch.channels_last)).float()
            return out

    if not compiled:
        return run
    import torch._inductor.config as inductor

    inductor.freezing = True
    fast = torch.compile(network)

    def run_compiled(x: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = fast(x.to(dtype=dtype, memory_format=torch.channels_last)).float()
            return out

    run_compiled(example)
    return run_compiled


def _export(network: nn.Module, example: Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), path, input_names=["x"], output_names=["y"], dynamo=False)
        return path.read_bytes()


def _onnxruntime(network: nn.Module, example: Tensor, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        _export(network, example), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": x.numpy()})


def _openvino(network: nn.Module, example: Tensor, dtype: torch.dtype, threads: int) -> Run:
    import openvino

    model = openvino.Core().read_model(_export(network, example), b"")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: request.infer({0: np.ascontiguousarray(x.numpy())})

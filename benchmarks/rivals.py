"""The dense networks in the engines a user could pick instead: same weights, same precision, same threads."""

import copy

import torch
from torch import Tensor, nn

from pixeltier.models.evaluation.engines import Run, export, onnxruntime_run, openvino_run
from pixeltier.models.networks.layout import channels_last
from pixeltier.models.networks.resnet18 import ResNet18
from pixeltier.models.networks.srresnet import SRResNet

ENGINES = ("torch", "inductor", "onnxruntime", "openvino")


class PlainSRResNet(nn.Module):
    """SRResNet alone, without what it takes in from the base: what the dense reference counts."""

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
    """ResNet-18 alone, without what it takes in from the base: what the dense reference counts."""

    def __init__(self, model: ResNet18) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.fuse = None

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
        return None if dtype == torch.bfloat16 else onnxruntime_run(export(network, example), threads)
    return openvino_run(export(network, example), dtype, threads)


def _torch(network: nn.Module, example: Tensor, dtype: torch.dtype, compiled: bool) -> Run:
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

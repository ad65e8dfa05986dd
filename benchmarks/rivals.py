"""The dense networks in the engines a user could pick instead: same weights, same photos, same threads."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pixeltier.models.evaluation.engines import (
    Run,
    compile_openvino,
    export,
    onnxruntime_run,
    openvino_run,
    quantised_onnx,
    quantised_openvino,
)
from pixeltier.models.evaluation.plain_networks import PlainEfficientNetLite, PlainESPAN, PlainRefinement
from pixeltier.models.networks.classification import ClassificationNetwork, base_input, refinement_input
from pixeltier.models.networks.layout import channels_last
from pixeltier.models.networks.resnet18 import ResNet18
from pixeltier.models.networks.srresnet import SRResNet
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork

PRECISIONS = {
    "torch": ("fp32", "bf16"),
    "inductor": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""Engines and what they compute in here."""

ENGINES = tuple(PRECISIONS)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


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


class ExactClassifier(nn.Module):
    """Both networks on every cell, with the exact tier's answer: its shares of them are constants."""

    def __init__(self, model: ClassificationNetwork) -> None:
        super().__init__()
        self.model = model
        self.base_weight = model.combination.base_weights[-1].item()
        self.refinement_weight = model.combination.refinement_weights[-1].item()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to logits [N, classes]."""
        model = self.model
        context, _, base = model.base.all_features(base_input(x))
        stem = model.refinement.stem(refinement_input(x))
        trunk = model.refinement.trunk(stem, context if model.shape.context else None, None)
        refined: Tensor = model.refinement.classify(trunk)
        if not model.shape.base_answers:
            return refined
        return self.base_weight * base.log_softmax(1) + self.refinement_weight * refined.log_softmax(1)


def dense_networks(model: ClassificationNetwork | SuperResolutionNetwork) -> dict[str, nn.Module]:
    """What rivals compute, on RGB in [0, 1]: the base, the refinement network, and both with the exact answer."""
    model = copy.deepcopy(model).float().eval().requires_grad_(False)
    if isinstance(model, ClassificationNetwork):
        refinement: nn.Module = PlainRefinement(PlainResNet18(model.refinement))
        return {
            "base": PlainEfficientNetLite(model.base),
            "refinement": refinement,
            "both": ExactClassifier(model),
        }
    return {"base": PlainESPAN(model.base), "refinement": PlainSRResNet(model.refinement), "both": model}


class Rivals:
    """Networks in engines; what an INT8 model costs to make is paid once for each network and shape."""

    def __init__(self, networks: dict[str, nn.Module], photos: Sequence[Tensor]) -> None:
        """`photos`: what INT8 is calibrated on, each of the input's shape, float32 RGB in [0, 1]."""
        self.networks = networks
        self._photos = photos
        self._int8: dict[tuple[str, str], Any] = {}

    def prepare(self, engine: str, name: str, precision: str, example: Tensor, threads: int) -> Run | None:
        """A network in an engine, or None where the engine does not compute in that precision here."""
        if precision not in PRECISIONS[engine]:
            return None
        if precision != "int8":
            return prepare(engine, self.networks[name], example, DTYPES[precision], threads)
        quantise = quantised_onnx if engine == "onnxruntime" else quantised_openvino
        if (engine, name) not in self._int8:
            self._int8[engine, name] = quantise(self.networks[name], self._photos)
        model = self._int8[engine, name]
        if engine == "onnxruntime":
            return onnxruntime_run(model, threads)
        return compile_openvino(model, torch.float32, threads)


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

"""EfficientNet-Lite, the classifier's base: its answer, and the features that importance and refinement read."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pixeltier.models.inference.dense import frozen_copy, rows_of
from pixeltier.models.inference.device import to_device
from pixeltier.models.networks.classification import base_input
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.native import mbconv

PIXEL_MEAN, PIXEL_DEVIATION = 127, 128
"""Of a byte: the network sees (byte - 127) / 128."""


def pixel_levels() -> Tensor:
    """What each byte stands for, [3, 256]."""
    return ((torch.arange(256.0) - PIXEL_MEAN) / PIXEL_DEVIATION).expand(3, 256).contiguous()


def float_layers(model: EfficientNetLite) -> mbconv.Network:
    """The network's layers as the kernels name them, in float32."""
    blocks = []
    for index, block in enumerate(model.inverted_residuals):
        expand = model.stem if index == 0 else cast("nn.Conv2d", block.expand)
        layers = _layer(expand), _layer(block.depthwise), _layer(block.project)
        blocks.append(mbconv.Block(*layers, stride=block.shape.stride))
    return mbconv.Network(tuple(blocks), _layer(model.head), _layer(model.fc))


def _layer(module: nn.Conv2d | nn.Linear) -> mbconv.Layer:
    assert module.bias is not None
    return mbconv.Layer(module.weight.detach().float(), module.bias.detach().float())


@dataclass(frozen=True, slots=True)
class ByteUnit:
    """Feature = scale * (byte - zero)."""

    scale: float
    zero: int


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """What the base says of a batch.

    logits: float32 [N, classes]; features: the last ones [N, 1280, h, w]; context: rows [N * cells + 1, c] for the
    refinement, the last one zero.
    """

    logits: Tensor
    features: Tensor
    context: Tensor


class NativeEfficientNetLite:
    """Inference of a trained network on the native kernels, in float32 or quantised; equal to it within rounding.

    Args:
        layers: what `float_layers` or `pixeltier.models.quantization.quantize` returned.
        context: the block whose output the refinement reads; -1 for none.
        unit: what a byte of that output stands for, where layers are int8.
        dtype: of the context's rows.
        isa: another instruction set than the best one.
    """

    def __init__(
        self,
        layers: mbconv.Network,
        context: int = -1,
        dtype: torch.dtype = torch.float32,
        unit: ByteUnit | None = None,
        isa: str | None = None,
    ) -> None:
        self._packed = mbconv.prepack(layers, isa)
        self._levels = pixel_levels() if layers.dtype == torch.float32 else None
        self._context, self._dtype, self._unit = context, dtype, unit

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> BaseAnswer:
        """uint8 RGB [N, H, W, 3]."""
        count, height, width = pixels.shape[:3]
        logits, features, context = mbconv.run(pixels, self._packed, self._levels, self._context)
        if self._unit is not None:
            context = self._unit.scale * (context.float() - self._unit.zero)
        rows = context.new_zeros((context.shape[0] + 1, context.shape[1]), dtype=self._dtype)
        rows[:-1] = context
        grid = features[:-1].view(count, -(-height // 32), -(-width // 32), -1).permute(0, 3, 1, 2)
        return BaseAnswer(logits, grid, rows)


class TorchEfficientNetLite:
    """Inference through torch, where there are no kernels of our own for this network."""

    def __init__(
        self, model: EfficientNetLite, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self._model = frozen_copy(model, dtype).to(device)
        self._device = torch.device(device)
        self._dtype = dtype

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> BaseAnswer:
        """uint8 RGB [N, H, W, 3], from anywhere."""
        x = to_device(pixels, self._device).permute(0, 3, 1, 2).float() / 255
        x = base_input(x).to(dtype=self._dtype, memory_format=torch.channels_last)
        context, features, logits = self._model.all_features(x)
        return BaseAnswer(logits.float(), features, rows_of(context))

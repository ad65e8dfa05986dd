"""The super-resolver on native kernels: the base everywhere, the refinement on active cells."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixeltier.models.inference.costs import SuperResolutionCosts
from pixeltier.models.inference.espan import ESPANResult, RowESPAN
from pixeltier.models.inference.geometry import every_cell, whole_table, whole_tiles
from pixeltier.models.inference.srresnet import SparseSRResNet
from pixeltier.models.networks.masks import pool_to_windows
from pixeltier.models.networks.super_resolution import SuperResolution
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """What the base says of an image x [1, 3, H, W], float32; the refinement adds to its pixels."""

    x: Tensor
    base: ESPANResult


class SparseSuperResolution(SuperResolutionCosts):
    """Inference of a trained `SuperResolution`, one image at a time; equal to it within rounding at every mask."""

    def __init__(self, model: SuperResolution, dtype: torch.dtype) -> None:
        self.shape = model.shape
        self._base = RowESPAN(model.base, dtype)
        self._refinement = SparseSRResNet(model.refinement, dtype)
        self._winograd = ops.has_winograd(dtype)
        convs = [layer for layer in model.importance if isinstance(layer, nn.Conv2d)]
        self._importance = [
            ops.prepack_weight(
                conv.weight,
                conv.bias,
                None if conv is convs[-1] else torch.zeros(conv.out_channels),
                dtype=dtype,
                winograd=self._winograd and conv.kernel_size == (3, 3),
            )
            for conv in convs
        ]

    def base(self, x: Tensor) -> BaseAnswer:
        """The base on an image [1, 3, H, W], float32 RGB in [0, 1]."""
        return BaseAnswer(x, self._base(x))

    @torch.inference_mode()
    def window_logits(self, answer: BaseAnswer) -> Tensor:
        """float32 [1, 1, ceil(H / window), ceil(W / window)]."""
        height, width = answer.x.shape[2:]
        alone = every_cell(1, height, width).view(-1, 1)
        around = whole_tiles(1, height, width) if self._winograd else whole_table(1, height, width, 3)
        rows = answer.base.features
        for layer in self._importance:
            rows, _ = ops.sparse_conv2d(rows, alone if layer.taps == 1 else around, layer)
        return pool_to_windows(rows[:-1].float().view(1, 1, height, width), self.shape.window)

    def refine(self, answer: BaseAnswer, active: Tensor) -> int:
        """Refine the active cells, int32 [A], of `answer` in place; returns the MACs executed."""
        return self._refinement(answer.base.lines, answer.base.features, active, answer.base.pixels)

    def image(self, answer: BaseAnswer) -> Tensor:
        """uint8 [4H, 4W, 3]."""
        return ops.compose(answer.x.contiguous(), answer.base.pixels)[0]

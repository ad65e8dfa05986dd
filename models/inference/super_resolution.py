"""The super-resolver: the base everywhere, the refinement on active cells."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixeltier.models.calibration import Calibration
from pixeltier.models.inference.backend import Backend, CpuBackend
from pixeltier.models.inference.costs import SuperResolutionCosts
from pixeltier.models.inference.device import expand_windows
from pixeltier.models.inference.device_espan import DeviceESPAN
from pixeltier.models.inference.espan import ESPANResult, RowESPAN
from pixeltier.models.inference.srresnet import SparseSRResNet
from pixeltier.models.networks.masks import pool_to_windows
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What the base says of images x [N, 3, H, W], float32; the refinement adds to its pixels."""

    x: Tensor
    base: ESPANResult


@dataclass(frozen=True, slots=True)
class Enlarged:
    """uint8 [N, 4H, 4W, 3], importance [N, 1, h, w] of the windows, active cells int32 [N]: on the backend's device."""

    image: Tensor
    windows: Tensor
    counts: Tensor


class SparseSuperResolution(SuperResolutionCosts):
    """Inference of a trained `SuperResolutionNetwork`; equal to it within rounding at every mask.

    One image at a time on the processor, a batch on a GPU.
    """

    def __init__(self, model: SuperResolutionNetwork, backend: Backend) -> None:
        self.shape = model.shape
        self._backend = backend
        on_processor = isinstance(backend, CpuBackend)
        self._base = RowESPAN(model.base, backend.dtype) if on_processor else DeviceESPAN(model.base, backend)
        self._refinement = SparseSRResNet(model.refinement, backend)
        convs = [layer for layer in model.importance if isinstance(layer, nn.Conv2d)]
        self._importance = [
            backend.pack_conv(
                conv,
                None if conv is convs[-1] else torch.zeros(conv.out_channels),
                tiled=conv.kernel_size == (3, 3),
            )
            for conv in convs
        ]

    @torch.inference_mode()
    def base(self, x: Tensor) -> BaseImage:
        """The base on images [N, 3, H, W], float32 RGB in [0, 1], from anywhere."""
        x = self._backend.put(x)
        return BaseImage(x, self._base(x))

    @torch.inference_mode()
    def window_logits(self, answer: BaseImage) -> Tensor:
        """float32 [N, 1, ceil(H / window), ceil(W / window)]."""
        count, _, height, width = answer.x.shape
        alone = self._backend.whole_map(count, height, width, 1)
        around = self._backend.whole_tiled_map(count, height, width)
        rows = answer.base.features
        for layer in self._importance:
            rows, _ = ops.sparse_conv2d(rows, alone if layer.taps == 1 else around, layer)
        return pool_to_windows(rows[:-1].float().view(count, 1, height, width), self.shape.window)

    def refine(self, answer: BaseImage, active: Tensor) -> int:
        """Refine the active cells, int32 [A] in the host's memory, of `answer` in place; returns the MACs executed."""
        base = answer.base
        return self._refinement(base.image, base.features, active, base.pixel_rows)

    @torch.inference_mode()
    def compose(self, answer: BaseImage) -> Tensor:
        """uint8 [N, 4H, 4W, 3], where it is computed."""
        return ops.compose(answer.x.contiguous(), answer.base.pixels)

    def image(self, answer: BaseImage) -> Tensor:
        """uint8 [4H, 4W, 3] of one image, in the host's memory."""
        return self.compose(answer)[0].cpu()

    @torch.inference_mode()
    def enlarge(self, x: Tensor, thresholds: Tensor, calibrate: Calibration) -> Enlarged:
        """The whole way without waiting for a GPU, so that a CUDA graph can capture it.

        Args:
            x: images [N, 3, H, W], float32 RGB in [0, 1].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        height, width = x.shape[-2:]
        answer = self.base(x)
        windows = calibrate(self.window_logits(answer))
        active = self._backend.active(expand_windows(windows, self.shape.window, height, width), thresholds)
        base = answer.base
        self._refinement(base.image, base.features, active.cells, base.pixel_rows, bounded=False)
        return Enlarged(self.compose(answer), windows, active.per_image)

    def macs(self, cells: int, active: int) -> int:
        """What `enlarge` executes for so many cells, so many of them active."""
        return cells * (self.base_macs + self.importance_macs) + active * (self.body_macs + self.tail_macs)

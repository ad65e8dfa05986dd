"""The super-resolver on CUDA: every convolution of both networks runs on the sparse kernels, over rows.

The interface is that of `pixeltier.models.inference.super_resolution.SparseSuperResolution`, for batches, too;
`enlarge` does the whole way without waiting for the device, so that a CUDA graph can capture it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.calibration import Calibration
from pixeltier.models.inference import bands
from pixeltier.models.inference.costs import SuperResolutionCosts
from pixeltier.models.inference.device import expand_windows, to_device, whole_table
from pixeltier.models.inference.srresnet import body_layers
from pixeltier.models.networks.espan import gate
from pixeltier.models.networks.layout import pixels_last
from pixeltier.models.networks.masks import pool_to_windows
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.models.networks.super_resolution import SuperResolution
from pixeltier.models.networks.tail import embed_tail
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class DeviceBaseAnswer:
    """What the base says of images x [N, 3, H, W], as rows [N * H * W + 1, C]: the images themselves, features and, in
    float32, pixels, to which the refinement adds."""

    x: Tensor
    image_rows: Tensor
    table: Tensor
    context: Tensor
    pixel_rows: Tensor

    @property
    def pixels(self) -> Tensor:
        """float32 [N * H * W, 48]."""
        return self.pixel_rows[:-1]


@dataclass(frozen=True, slots=True)
class Enlarged:
    """uint8 [N, 4H, 4W, 3], importance [N, 1, h, w] of the windows, and active cells int32 [N]: on the device."""

    image: Tensor
    windows: Tensor
    counts: Tensor


class DeviceSuperResolution(SuperResolutionCosts):
    """Inference of a trained `SuperResolution`; equal to it within rounding at every mask."""

    def __init__(
        self, model: SuperResolution, dtype: torch.dtype, device: torch.device, isa: str | None = None
    ) -> None:
        self.shape = shape = model.shape
        self.dtype = dtype
        self.device = device
        self._isa = isa
        self._image_channels = 16 // torch.empty(0, dtype=dtype).element_size()  # rows of 16 bytes
        base, refinement = model.base, model.refinement
        self._base_head = self._pack(_wider(base.head, self._image_channels))
        self._blocks = [[self._pack(conv) for conv in block.convolutions] for block in base.gated_blocks]
        self._last_conv = self._pack(base.last_conv)
        self._base_fuse = self._pack(base.fuse)
        self._to_pixels = self._pack(pixels_last(base.to_pixels))
        convs = [layer for layer in model.importance if isinstance(layer, nn.Conv2d)]
        self._importance = [self._pack(conv, relu=conv is not convs[-1]) for conv in convs]
        self._head = self._pack(_wider(refinement.head, self._image_channels), refinement.head_act)
        self._fuse = self._pack(refinement.fuse)
        self._body = [self._pack(conv, act) for conv, act in body_layers(refinement)]
        self._up1 = self._pack(refinement.up1, refinement.up1_act, shuffle=2)
        self._up2 = self._pack(refinement.up2, refinement.up2_act, shuffle=2)
        bias = refinement.tail.bias if refinement.tail.bias is not None else torch.zeros(3)
        tail_weight, tail_bias = embed_tail(refinement.tail.weight, bias)
        tail_macs = SCALE**2 * counting.conv_macs(shape.channels, 3, 9)
        self._tail = ops.prepack_weight(
            tail_weight, tail_bias, dtype=dtype, macs_per_row=tail_macs, device=device, isa=isa
        )

    @torch.inference_mode()
    def base(self, x: Tensor) -> DeviceBaseAnswer:
        """The base on images [N, 3, H, W], float32 RGB in [0, 1], from anywhere."""
        x = to_device(x, self.device)
        count, colours, height, width = x.shape
        image = x.new_zeros((count * height * width + 1, self._image_channels), dtype=self.dtype)
        image[:-1].view(count, height, width, -1)[..., :colours] = x.permute(0, 2, 3, 1)
        wide = whole_table(count, height, width, 9, device=self.device)
        around = whole_table(count, height, width, 3, device=self.device)
        alone = whole_table(count, height, width, 1, device=self.device)
        head, _ = ops.sparse_conv2d(image, wide, self._base_head)
        outputs = [head]
        for block in self._blocks:
            outputs.append(_gated_block(outputs[-1], block, around))
        last, _ = ops.sparse_conv2d(outputs[-1], around, self._last_conv)
        joined = torch.cat([head, last, outputs[1], outputs[-1]], dim=1)
        context, _ = ops.sparse_conv2d(joined, alone, self._base_fuse)
        pixels, _ = ops.sparse_conv2d(context, around, self._to_pixels)
        return DeviceBaseAnswer(x, image, around, context, pixels.float())

    @torch.inference_mode()
    def window_logits(self, answer: DeviceBaseAnswer) -> Tensor:
        """float32 [N, 1, ceil(H / window), ceil(W / window)], on the device."""
        count, _, height, width = answer.x.shape
        alone = whole_table(count, height, width, 1, device=self.device)
        rows = answer.context
        for layer in self._importance:
            rows, _ = ops.sparse_conv2d(rows, answer.table if layer.taps == 9 else alone, layer)
        return pool_to_windows(rows[:-1].float().view(count, 1, height, width), self.shape.window)

    @torch.inference_mode()
    def refine(self, answer: DeviceBaseAnswer, active: Tensor) -> int:
        """Refine the active cells of `answer` in place.

        Args:
            active: int32 [A] from `pixeltier.native.ops.plan` on the images' grid, in the host's memory: unpadded.

        Returns:
            The MACs that the kernels executed, counted as `SparseSRResNet` counts them.
        """
        if active.numel() == 0:
            return 0
        if not bands.needed(active.numel()) or answer.x.shape[0] > 1:
            self._refine(answer, to_device(active, self.device))
            return active.numel() * (self.body_macs + self.tail_macs)
        listed = to_device(active, self.device)
        trunk, _ = self._body_of(answer, listed)
        return active.numel() * self.body_macs + self._upsample_in_bands(answer, trunk, active)

    @torch.inference_mode()
    def enlarge(self, x: Tensor, thresholds: Tensor, calibrate: Calibration) -> Enlarged:
        """The whole way on the device, which the host does not wait for.

        Args:
            x: images [N, 3, H, W], float32 RGB in [0, 1].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        height, width = x.shape[-2:]
        answer = self.base(x)
        windows = calibrate(self.window_logits(answer))
        cells = expand_windows(windows, self.shape.window, height, width)
        active, counts = ops.plan_padded(cells, thresholds)
        self._refine(answer, active)
        return Enlarged(self.compose(answer), windows, counts)

    def macs(self, cells: int, active: int) -> int:
        """What `enlarge` executes for so many cells, so many of them active."""
        return cells * (self.base_macs + self.importance_macs) + active * (self.body_macs + self.tail_macs)

    @torch.inference_mode()
    def compose(self, answer: DeviceBaseAnswer) -> Tensor:
        """uint8 [N, 4H, 4W, 3], on the device."""
        return ops.compose(answer.x.contiguous(), answer.pixels)

    def image(self, answer: DeviceBaseAnswer) -> Tensor:
        """uint8 [4H, 4W, 3] of the one image that `answer` was made from, in the host's memory."""
        return self.compose(answer)[0].cpu()

    def _refine(self, answer: DeviceBaseAnswer, active: Tensor) -> None:
        trunk, table = self._body_of(answer, active)
        self._upsample(answer, trunk, table, active)

    def _body_of(self, answer: DeviceBaseAnswer, active: Tensor) -> tuple[Tensor, Tensor]:
        """Trunk rows [A + 1, C] behind the body, and the table of the active list."""
        count, _, height, width = answer.x.shape
        wide = ops.dense_table(active, count, height, width, 9)
        features, _ = ops.sparse_conv2d(answer.image_rows, wide, self._head)
        entry, _ = ops.sparse_conv2d(answer.context, active.view(-1, 1), self._fuse, residual=features)
        table = ops.packed_table(active, count, height, width, 3)
        return ops.sparse_residual_body(entry, table, self._body)[0], table

    def _upsample(self, answer: DeviceBaseAnswer, trunk: Tensor, table: Tensor, active: Tensor) -> None:
        """Trunk rows through the tail, onto the pixels of cells `active`; PADDING there writes nothing."""
        twice, _ = ops.sparse_conv2d(trunk, table, self._up1)
        four, _ = ops.sparse_conv2d(twice, ops.child_table(table), self._up2)
        # The sixteen rows of a cell side by side; what would be the zero row is never read.
        wide = SCALE**2 * four.shape[1]
        cells = four.as_strided((table.shape[0] + 1, wide), (wide, 1))
        ops.sparse_conv2d_scatter_(answer.pixel_rows, cells, table, self._tail, active)

    def _upsample_in_bands(self, answer: DeviceBaseAnswer, trunk: Tensor, active: Tensor) -> int:
        """As `SparseSRResNet` does it: memory is bounded, and the halo's rows are computed twice."""
        height, width = answer.x.shape[2:]
        macs = 0
        for band in bands.bands(height, width):
            rows = torch.tensor([band.first, band.top, band.bottom, band.last])
            first, inner_first, inner_last, last = torch.searchsorted(
                active, (rows * width).to(torch.int32)
            ).tolist()
            if inner_first == inner_last:
                continue
            computed = to_device(active[first:last], self.device)
            written = computed.clone()
            written[: inner_first - first] = len(answer.pixel_rows)  # no row: the halo writes nothing
            written[inner_last - first :] = len(answer.pixel_rows)
            table = ops.packed_table(computed, 1, height, width, 3)
            self._upsample(answer, F.pad(trunk[first:last], (0, 0, 0, 1)), table, written)
            macs += (last - first) * self.tail_macs
        return macs

    def _pack(
        self, conv: nn.Conv2d, act: nn.PReLU | None = None, shuffle: int = 1, relu: bool = False
    ) -> ops.PackedWeight:
        slope = act.weight if act is not None else torch.zeros(1) if relu else None
        return ops.prepack_weight(
            conv.weight,
            conv.bias,
            slope if slope is None or slope.numel() > 1 else slope.expand(conv.out_channels // shuffle**2),
            dtype=self.dtype,
            shuffle=shuffle,
            device=self.device,
            isa=self._isa,
        )


def _gated_block(rows: Tensor, layers: list[ops.PackedWeight], around: Tensor) -> Tensor:
    """See `pixeltier.models.networks.espan.GatedBlock`."""
    first, *rest = layers
    features, _ = ops.sparse_conv2d(rows, around, first)
    for layer in rest:
        features, _ = ops.sparse_conv2d(F.silu(features), around, layer)
    return gate(features, rows)


def _wider(conv: nn.Conv2d, inputs: int) -> nn.Conv2d:
    """The same convolution on more input channels, which it ignores."""
    result = nn.Conv2d(inputs, conv.out_channels, conv.kernel_size[0], padding=conv.padding)  # type: ignore[arg-type]
    missing = inputs - conv.in_channels
    result.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, missing)))
    result.bias = conv.bias
    return result

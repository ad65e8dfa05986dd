"""SRResNet on CUDA: every convolution, the light path's too, runs on the sparse kernels, over rows.

The interface is that of `models.inference.srresnet.SparseSRResNet`, for batches, too; `enlarge` does the whole way
without waiting for the device, so that a CUDA graph can capture it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import counting
from models.calibration import Calibration
from models.inference import bands
from models.inference.costs import SRResNetCosts
from models.inference.device import expand_windows, to_device, whole_table
from models.inference.light_path import pixels_last
from models.inference.srresnet import body_layers
from models.networks.masks import pool_to_windows
from models.networks.srresnet import SCALE, SRResNet
from models.networks.tail import embed_tail
from native import ops


@dataclass(frozen=True, slots=True)
class DeviceLightPath:
    """What every pixel gets, as rows [N * H * W + 1, C]: features and, in float32, the base image's pixels."""

    x: Tensor
    table: Tensor
    entry_rows: Tensor
    context_rows: Tensor
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


class DeviceSRResNet(SRResNetCosts):
    """Inference of a trained `SRResNet`; equal to it within rounding at every mask."""

    def __init__(
        self, model: SRResNet, dtype: torch.dtype, device: torch.device, isa: str | None = None
    ) -> None:
        self.shape = shape = model.shape
        self.dtype = dtype
        self.device = device
        self._isa = isa
        self._image_channels = 16 // torch.empty(0, dtype=dtype).element_size()  # rows of 16 bytes
        self._head = self._pack(_wider(model.head, self._image_channels), model.head_act)
        base = list(model.base)
        self._base = [
            self._pack(conv, act)
            for conv, act in zip(base[0::2], base[1::2], strict=True)
            if isinstance(conv, nn.Conv2d) and isinstance(act, nn.PReLU)
        ]
        self._base_out = self._pack(pixels_last(model.base_out))
        convs = [layer for layer in model.importance if isinstance(layer, nn.Conv2d)]
        self._importance = [self._pack(conv, relu=conv is not convs[-1]) for conv in convs]
        self._fuse = self._pack(model.fuse)
        self._body = [self._pack(conv, act) for conv, act in body_layers(model)]
        self._up1 = self._pack(model.up1, model.up1_act, shuffle=2)
        self._up2 = self._pack(model.up2, model.up2_act, shuffle=2)
        bias = model.tail.bias if model.tail.bias is not None else torch.zeros(3)
        tail_weight, tail_bias = embed_tail(model.tail.weight, bias)
        tail_macs = SCALE**2 * counting.conv_macs(shape.channels, 3, 9)
        self._tail = ops.prepack_weight(
            tail_weight, tail_bias, dtype=dtype, macs_per_row=tail_macs, device=device, isa=isa
        )

    @torch.inference_mode()
    def light_path(self, x: Tensor) -> DeviceLightPath:
        """Head and base on images [N, 3, H, W], float32 RGB in [0, 1], from anywhere."""
        x = to_device(x, self.device)
        count, colours, height, width = x.shape
        rows = x.new_zeros((count * height * width + 1, self._image_channels), dtype=self.dtype)
        rows[:-1].view(count, height, width, -1)[..., :colours] = x.permute(0, 2, 3, 1)
        wide = whole_table(count, height, width, 9, device=self.device)
        features, _ = ops.sparse_conv2d(rows, wide, self._head)
        table = whole_table(count, height, width, 3, device=self.device)
        context = features
        for layer in self._base:
            where = table if layer.taps == 9 else whole_table(count, height, width, 1, device=self.device)
            context, _ = ops.sparse_conv2d(context, where, layer)
        pixels, _ = ops.sparse_conv2d(context, table, self._base_out)
        return DeviceLightPath(x, table, features, context, pixels.float())

    @torch.inference_mode()
    def window_logits(self, light: DeviceLightPath) -> Tensor:
        """float32 [N, 1, ceil(H / window), ceil(W / window)], on the device."""
        count, _, height, width = light.x.shape
        rows = light.context_rows
        for layer in self._importance:
            where = (
                light.table if layer.taps == 9 else whole_table(count, height, width, 1, device=self.device)
            )
            rows, _ = ops.sparse_conv2d(rows, where, layer)
        return pool_to_windows(rows[:-1].float().view(count, 1, height, width), self.shape.window)

    @torch.inference_mode()
    def heavy_path(self, light: DeviceLightPath, active: Tensor, height: int, width: int) -> int:
        """Add R(x) of the active cells to `light.pixels`, in place.

        Args:
            active: int32 [A] from `native.ops.plan` on the images' grid, in the host's memory: unpadded.

        Returns:
            The MACs that the kernels executed, counted as `SparseSRResNet` counts them.
        """
        if active.numel() == 0:
            return 0
        if not bands.needed(active.numel()) or light.x.shape[0] > 1:
            self._heavy(light, to_device(active, self.device))
            return active.numel() * (self.body_macs + self.tail_macs)
        listed = to_device(active, self.device)
        trunk, _ = self._body_of(light, listed)
        return active.numel() * self.body_macs + self._upsample_in_bands(light, trunk, active, height, width)

    @torch.inference_mode()
    def enlarge(self, x: Tensor, thresholds: Tensor, calibrate: Calibration) -> Enlarged:
        """The whole way on the device, which the host does not wait for.

        Args:
            x: images [N, 3, H, W], float32 RGB in [0, 1].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        height, width = x.shape[-2:]
        light = self.light_path(x)
        windows = calibrate(self.window_logits(light))
        cells = expand_windows(windows, self.shape.window, height, width)
        active, counts = ops.plan_padded(cells, thresholds)
        self._heavy(light, active)
        return Enlarged(self.compose(light), windows, counts)

    def macs(self, cells: int, active: int) -> int:
        """What `enlarge` executes for so many cells, so many of them active."""
        return cells * (self.light_macs + self.importance_macs) + active * (self.body_macs + self.tail_macs)

    @torch.inference_mode()
    def compose(self, light: DeviceLightPath) -> Tensor:
        """uint8 [N, 4H, 4W, 3], on the device."""
        return ops.compose(light.x.contiguous(), light.pixels)

    def image(self, x: Tensor, light: DeviceLightPath) -> Tensor:
        """uint8 [4H, 4W, 3] of the one image that `light` was made from, in the host's memory."""
        del x  # it is on the device already
        return self.compose(light)[0].cpu()

    def _heavy(self, light: DeviceLightPath, active: Tensor) -> None:
        trunk, table = self._body_of(light, active)
        self._upsample(light, trunk, table, active)

    def _body_of(self, light: DeviceLightPath, active: Tensor) -> tuple[Tensor, Tensor]:
        """Trunk rows [A + 1, C] behind the body, and the table of the active list."""
        count, _, height, width = light.x.shape
        features = ops.gather_rows(light.entry_rows, active)
        entry, _ = ops.sparse_conv2d(light.context_rows, active.view(-1, 1), self._fuse, residual=features)
        table = ops.packed_table(active, count, height, width, 3)
        return ops.sparse_residual_body(entry, table, self._body)[0], table

    def _upsample(self, light: DeviceLightPath, trunk: Tensor, table: Tensor, active: Tensor) -> None:
        """Trunk rows through the tail, onto the pixels of cells `active`; PADDING there writes nothing."""
        twice, _ = ops.sparse_conv2d(trunk, table, self._up1)
        four, _ = ops.sparse_conv2d(twice, ops.child_table(table), self._up2)
        # The sixteen rows of a cell side by side; what would be the zero row is never read.
        wide = SCALE**2 * four.shape[1]
        cells = four.as_strided((table.shape[0] + 1, wide), (wide, 1))
        ops.sparse_conv2d_scatter_(light.pixel_rows, cells, table, self._tail, active)

    def _upsample_in_bands(
        self, light: DeviceLightPath, trunk: Tensor, active: Tensor, height: int, width: int
    ) -> int:
        """As `SparseSRResNet` does it: memory is bounded, and the halo's rows are computed twice."""
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
            written[: inner_first - first] = len(light.pixel_rows)  # no row: the halo writes nothing
            written[inner_last - first :] = len(light.pixel_rows)
            table = ops.packed_table(computed, 1, height, width, 3)
            self._upsample(light, F.pad(trunk[first:last], (0, 0, 0, 1)), table, written)
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


def _wider(conv: nn.Conv2d, inputs: int) -> nn.Conv2d:
    """The same convolution on more input channels, which it ignores."""
    result = nn.Conv2d(inputs, conv.out_channels, conv.kernel_size[0], padding=conv.padding)  # type: ignore[arg-type]
    missing = inputs - conv.in_channels
    result.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, missing)))
    result.bias = conv.bias
    return result

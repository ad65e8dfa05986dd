"""SRResNet on sparse kernels, packed from head to tail: active cells only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.inference import bands
from pixeltier.models.inference.backend import Backend, PackedMaps
from pixeltier.models.inference.image_convolution import ImageRows
from pixeltier.models.networks.srresnet import SCALE, SRResNet
from pixeltier.models.networks.tail import embed_tail
from pixeltier.native import ops


class SparseSRResNet:
    """Inference of a trained `SRResNet`; equal to it within rounding at every mask."""

    def __init__(self, model: SRResNet, backend: Backend) -> None:
        self._backend = backend
        self._head = backend.image_convolution(model.head, model.head_act.weight)
        self._fuse = backend.pack_conv(model.fuse)
        self._body = [
            backend.pack_conv(conv, None if act is None else act.weight, tiled=True)
            for conv, act in body_layers(model)
        ]
        self._up1 = backend.pack_conv(model.up1, model.up1_act.weight, shuffle=2, tiled=True)
        self._up2 = backend.pack_conv(model.up2, model.up2_act.weight, shuffle=2, tiled=True)
        bias = model.tail.bias if model.tail.bias is not None else torch.zeros(3)
        tail_macs = SCALE**2 * counting.conv_macs(model.shape.channels, 3, 9)
        self._tail = backend.pack(*embed_tail(model.tail.weight, bias), macs_per_row=tail_macs)

    @torch.inference_mode()
    def __call__(
        self, image: ImageRows, context: Tensor, active: Tensor, pixels: Tensor, *, bounded: bool = True
    ) -> int:
        """Add the residual of the active cells to `pixels`, in place.

        Args:
            image: of N images of H x W.
            context: the base's features as rows [N * H * W + 1, c].
            active: int32 [A] from `pixeltier.native.ops.plan`: in the host's memory, or as the backend lists them.
            pixels: float32 [N * H * W + 1, 48], the 4x4 pixels of each cell.
            bounded: one image's tail in bands where it is large; not of a list that only the device knows.

        Returns:
            The MACs that the kernels executed, those of padding included.
        """
        if active.numel() == 0:
            return 0
        cells = self._backend.put(active)
        features, head_macs = self._head.over(image, cells)
        entry, macs = ops.sparse_conv2d(context, cells.view(-1, 1), self._fuse, residual=features)
        maps = self._backend.packed_maps(cells, image.count, image.height, image.width)
        trunk, executed = ops.sparse_residual_body(entry, maps.layer, self._body)
        macs += head_macs + executed
        if bounded and image.count == 1 and bands.needed(active.numel()):
            return macs + self._upsample_in_bands(pixels, trunk, active, image)
        return macs + self._upsample(pixels, trunk, maps, cells, slice(None))

    def _upsample(self, pixels: Tensor, trunk: Tensor, maps: PackedMaps, cells: Tensor, inner: slice) -> int:
        """Trunk rows [A + 1, C] through the tail, onto the pixels of those of the cells [A] that are inner ones."""
        twice, first = ops.sparse_conv2d(trunk, maps.layer, self._up1)
        four, second = ops.sparse_conv2d(twice, self._backend.children(maps.table), self._up2)
        joined = ops.joined_rows(four, SCALE**2)
        return first + second + self._backend.add_rows(pixels, joined, maps.table, self._tail, cells, inner)

    def _upsample_in_bands(self, pixels: Tensor, trunk: Tensor, active: Tensor, image: ImageRows) -> int:
        """The tail of a large image band by band, so that memory is bounded; the halo's rows are computed twice."""
        height, width = image.height, image.width
        macs = 0
        for band in bands.bands(height, width):
            rows = torch.tensor([band.first, band.top, band.bottom, band.last])
            first, inner_first, inner_last, last = torch.searchsorted(
                active, (rows * width).to(torch.int32)
            ).tolist()
            if inner_first == inner_last:
                continue
            cells = self._backend.put(active[first:last].contiguous())
            maps = self._backend.packed_maps(cells, 1, height, width)
            inner = slice(inner_first - first, inner_last - first)
            macs += self._upsample(pixels, F.pad(trunk[first:last], (0, 0, 0, 1)), maps, cells, inner)
        return macs


def body_layers(model: SRResNet) -> list[tuple[nn.Conv2d, nn.PReLU | None]]:
    """The body's 33 convolutions with the activation that follows each."""
    pairs: list[tuple[nn.Conv2d, nn.PReLU | None]] = []
    for block in model.residual_blocks:
        pairs += [(block.conv1, block.act), (block.conv2, None)]
    return [*pairs, (model.mid, None)]

"""ESPAN on a GPU: every convolution on the sparse kernels, activations through torch, batches of images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixeltier.models.inference.backend import Backend
from pixeltier.models.inference.espan import ESPANResult
from pixeltier.models.inference.image_convolution import PixelConvolution
from pixeltier.models.networks.espan import ESPAN, gate
from pixeltier.models.networks.layout import pixels_last
from pixeltier.native import ops


class DeviceESPAN:
    """Inference of an `ESPAN`; equal to it within rounding."""

    def __init__(self, network: ESPAN, backend: Backend) -> None:
        self._backend = backend
        head = backend.image_convolution(network.head)
        assert isinstance(head, PixelConvolution)
        self._head = head
        self._blocks = [
            [backend.pack_conv(conv) for conv in block.convolutions] for block in network.gated_blocks
        ]
        self._last_conv = backend.pack_conv(network.last_conv)
        self._fuse = backend.pack_conv(network.fuse)
        self._to_pixels = backend.pack_conv(pixels_last(network.to_pixels))

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> ESPANResult:
        """Images [N, 3, H, W], float32 RGB in [0, 1], on the device."""
        count, _, height, width = x.shape
        image = self._head.rows(x)
        around = self._backend.whole_map(count, height, width, 3)
        alone = self._backend.whole_map(count, height, width, 1)
        head, macs = self._head.over(image)
        outputs = [head]

        def convolve(rows: Tensor, table: Tensor, layer: ops.PackedWeight) -> Tensor:
            nonlocal macs
            result, executed = ops.sparse_conv2d(rows, table, layer)
            macs += executed
            return result

        for first, *rest in self._blocks:
            features = convolve(outputs[-1], around, first)
            for layer in rest:
                features = convolve(F.silu(features), around, layer)
            outputs.append(gate(features, outputs[-1]))
        last = convolve(outputs[-1], around, self._last_conv)
        joined = torch.cat([head, last, outputs[1], outputs[-1]], dim=1)
        context = convolve(joined, alone, self._fuse)
        pixels = convolve(context, around, self._to_pixels)
        return ESPANResult(context, pixels.float(), image, macs)

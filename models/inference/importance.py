"""The classifier's importance network on the row kernels: a dozen small layers with little around them."""

import torch
from torch import Tensor, nn

from models.inference.dense import frozen_copy
from models.inference.geometry import parents, whole_table
from models.networks.masks import standard_scores
from models.networks.resnet18 import ImportanceNet
from native import ops


class RowImportance:
    """Inference of a trained `ImportanceNet`; equal to it within rounding."""

    def __init__(self, network: ImportanceNet, dtype: torch.dtype) -> None:
        self._window = network.window
        self._near = _pack(network.near, dtype, relu=True)
        self._down = _pack(network.down, dtype, relu=True)
        self._far = _pack(network.far, dtype, relu=True)
        self._whole = frozen_copy(network.whole, torch.float32)
        self._up = _pack(network.up, dtype)
        self._logit = _pack(network.logit, dtype)

    @torch.inference_mode()
    def __call__(self, stem: Tensor) -> Tensor:
        """Stem features [N, 64, H, W] to float32 standard scores [N, 1, ceil(H / window), ceil(W / window)]."""
        count, channels, rows_in, columns_in = stem.shape
        height, width = -(-rows_in // self._window), -(-columns_in // self._window)
        cells = stem.permute(0, 2, 3, 1).reshape(-1, channels)
        rows = ops.pool_windows(cells, count, rows_in, columns_in, self._window)
        near, _ = ops.sparse_conv2d(rows, whole_table(count, height, width, 3), self._near)
        far, _ = ops.sparse_conv2d(near, whole_table(count, height, width, 3, 2), self._down)
        low, narrow = (height + 1) // 2, (width + 1) // 2
        far, _ = ops.sparse_conv2d(far, whole_table(count, low, narrow, 3), self._far)
        cells = far[:-1].view(count, low * narrow, -1)
        whole = self._whole(cells.float().mean(dim=1)).to(far.dtype)
        cells.add_(whole[:, None]).relu_()
        up, _ = ops.sparse_conv2d(far, whole_table(count, low, narrow, 1), self._up)
        near[:-1].add_(up.index_select(0, parents(count, height, width))).relu_()
        logits, _ = ops.sparse_conv2d(near, whole_table(count, height, width, 3), self._logit)
        return standard_scores(logits[:-1].view(count, 1, height, width))


def _pack(conv: nn.Conv2d, dtype: torch.dtype, relu: bool = False) -> ops.PackedWeight:
    slope = torch.zeros(conv.out_channels) if relu else None
    return ops.prepack_weight(conv.weight, conv.bias, slope, dtype=dtype)

"""From importance to nested masks, in plain torch.

A mask is 1 where a cell is computed and 0 where it is skipped. Every function here is monotone in its
threshold: raising it never activates a cell.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT_VARIANCE = 1e-4
"""Added to a variance of logits, so that rounding does not decide about a flat image."""


def pool_to_windows(cells: Tensor, window: int) -> Tensor:
    """Average a map [N, 1, H, W] over windows; a ragged last window averages the cells it has.

    Returns:
        [N, 1, ceil(H / window), ceil(W / window)].
    """
    if window == 1:
        return cells
    return F.avg_pool2d(cells, window, window, ceil_mode=True, count_include_pad=False)


def expand_from_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Repeat each value of a window map [N, 1, h, w] over its cells: [N, 1, height, width]."""
    if window == 1:
        return windows
    cells = windows.repeat_interleave(window, dim=2).repeat_interleave(window, dim=3)
    return cells[:, :, :height, :width]


def standard_scores(logits: Tensor) -> Tensor:
    """A map [N, 1, h, w] in units of each image's own spread, about its own mean: float32 of the same shape.

    Where the network is unsure of an image its logits are flat, and a high threshold would leave nothing of just the
    images that need most. An image whose logits are all equal becomes zeros.
    """
    values = logits.float()
    spread, mean = torch.var_mean(values, dim=(2, 3), correction=0, keepdim=True)
    return (values - mean) * torch.rsqrt(spread + FLAT_VARIANCE)


def threshold_mask(importance: Tensor, threshold: Tensor, keep_best: bool) -> Tensor:
    """Cells whose importance reaches the threshold of their image.

    Args:
        importance: [N, 1, h, w] in [0, 1].
        threshold: [N].
        keep_best: an image's most important cell stays active however high its threshold is.

    Returns:
        A boolean mask [N, 1, h, w].
    """
    active = importance >= threshold.view(-1, 1, 1, 1)
    if keep_best:
        flat = importance.flatten(1)
        best = F.one_hot(flat.argmax(dim=1), flat.shape[1]).bool().view_as(importance)
        active = active | best
    return active


def top_share_mask(scores: Tensor, share: float) -> Tensor:
    """The highest-scoring share of all windows of a batch: how training meets a budget without a penalty.

    Args:
        scores: [N, 1, h, w].
        share: in (0, 1]; at least one window is kept.

    Returns:
        A boolean mask [N, 1, h, w].
    """
    flat = scores.flatten()
    count = max(1, round(share * flat.numel()))
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(count).indices] = True
    return mask.view_as(scores)

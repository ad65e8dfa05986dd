"""Colours under transparent pixels, which nobody sees until something mixes them with their neighbours.

Visible colours are spread into hidden pixels, as texture tools do, rather than premultiplied: what is flat stays flat
for the network, and nothing is divided by a small alpha. Averages over ever larger squares fill what is far away
(Gortler et al., "The Lumigraph", 1996, pull-push).
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from pixeltier.service.worker.decode import Decoded

Floats = npt.NDArray[np.floating]

NEGLIGIBLE = 8
"""A pixel keeps its colour from 1/8 of the alpha of its most opaque neighbour on; below, it is mixed."""


def visible_colours(decoded: Decoded) -> Image.Image:
    """The colours with those of hidden pixels replaced by colours of visible pixels near them."""
    if decoded.alpha is None:
        return decoded.rgb
    alpha = np.asarray(decoded.alpha, dtype=np.float32)
    near = np.asarray(decoded.alpha.filter(ImageFilter.MaxFilter(3)), dtype=np.float32)
    kept = np.minimum(1, NEGLIGIBLE * alpha / np.maximum(near, 1))[..., None]
    if kept.min() == 1:
        return decoded.rgb
    colours = np.asarray(decoded.rgb, dtype=np.float32)
    filled = kept * colours + (1 - kept) * _spread(alpha[..., None] / 255, colours)
    return Image.fromarray(np.rint(filled).astype(np.uint8))


def _spread(weight: Floats, colours: Floats) -> Floats:
    """Weighted colours of each pixel's neighbourhood, as small a one as has any weight; all zero where none has.

    Args:
        weight: [H, W, 1] in [0, 1].
        colours: [H, W, 3].
    """
    height, width = weight.shape[:2]
    sums = _halved(np.concatenate([weight * colours, weight], axis=2))
    total = sums[..., 3:]
    means = sums[..., :3] / np.maximum(total, 1e-6)
    if max(sums.shape[:2]) > 1:
        enough = np.minimum(1, total)
        means = enough * means + (1 - enough) * _spread(enough, means)
    return means.repeat(2, 0).repeat(2, 1)[:height, :width]


def _halved(values: Floats) -> Floats:
    """Sums of 2x2 pixels."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    rows = padded[0::2] + padded[1::2]
    return rows[:, 0::2] + rows[:, 1::2]

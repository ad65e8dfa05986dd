"""What super-resolution is compared with besides networks that run: bicubic, published figures."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pixeltier.models import counting
from pixeltier.models.evaluation.metrics import Pixels
from pixeltier.models.networks.srresnet import SCALE

FSRCNN_MACS = (
    counting.conv_macs(1, 56, 5)
    + counting.conv_macs(56, 12, 1)
    + 4 * counting.conv_macs(12, 12, 3)
    + counting.conv_macs(12, 56, 1)
    + counting.conv_macs(56, 1, 9)
)
"""Per low-resolution pixel: FSRCNN(56, 12, 4) on luma. Its last layer is a transposed convolution: 81 taps an input."""

FSRCNN = "FSRCNN (published)"
SRRESNET = "SRResNet (published)"
SOURCES = {
    FSRCNN: "Dong et al., arXiv 1608.00367, as quoted in later x4 comparisons",
    SRRESNET: "Ledig et al., arXiv 1609.04802, as quoted in later x4 comparisons",
}
MACS = {FSRCNN: FSRCNN_MACS, SRRESNET: counting.srresnet_dense()}
PSNR = {
    "set5": {FSRCNN: 30.71, SRRESNET: 32.05},
    "set14": {FSRCNN: 27.59, SRRESNET: 28.53},
    "bsd100": {FSRCNN: 26.98, SRRESNET: 27.57},
}
ALIASES = {"b100": "bsd100", "bsds100": "bsd100"}


@dataclass(frozen=True, slots=True)
class Published:
    """A figure from a paper: dB on luma for x4, and the MACs its network saves against SRResNet."""

    name: str
    psnr_y: float
    macs_saved: float
    source: str


def published(dataset: str) -> list[Published]:
    """What papers give for a data set called Set5, Set14 or BSD100 (in any case); nothing for others."""
    key = dataset.lower()
    figures = PSNR.get(ALIASES.get(key, key), {})
    return [
        Published(name, psnr_y, 1 - MACS[name] / counting.srresnet_dense(), SOURCES[name])
        for name, psnr_y in figures.items()
    ]


def bicubic(lr: Pixels) -> Pixels:
    """Bicubic x4 with a = -0.5, as papers have it: uint8 [h, w, 3] to [4h, 4w, 3]."""
    height, width = lr.shape[:2]
    size = (SCALE * width, SCALE * height)
    return np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))

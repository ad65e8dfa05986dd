"""What the classifier sees of a photo, and what a photo looks like that was compressed. Torch-free."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

RESIZE = 256
CROP = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def classify_input(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The central square of an RGB image, resized: ImageNet's resize to 256 and crop of 224 in one step.

    Only the part that is seen is resized, so the cost is bounded for every aspect ratio.

    Returns:
        uint8 [224, 224, 3].
    """
    side = min(image.size) * CROP / RESIZE
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=box))


def read_classify_input(path: Path) -> npt.NDArray[np.uint8]:
    """`classify_input` of a file that is trusted: for training and evaluation, not for requests."""
    with Image.open(path) as image:
        return classify_input(image.convert("RGB"))


def compressed(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """An image [h, w, 3] after JPEG of a quality, its colours at half the size, as cameras and web pages do."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as decoded:
        return np.array(decoded.convert("RGB"))

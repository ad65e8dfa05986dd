"""PSNR and SSIM of the super-resolver at each threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.engine import SuperResolver
from models.evaluation.metrics import Pixels, luma, psnr, ssim
from models.networks.srresnet import SCALE

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True, slots=True)
class SuperResolveRow:
    """Means over the images of a data set; `macs_saved` is of the total, not a mean of ratios."""

    tier: str | None
    threshold: float
    macs_saved: float
    psnr_y: float
    ssim_y: float


def image_pairs(directory: Path) -> list[tuple[Path, Path]]:
    """The images of `HR/` and those of `LR_x4/` whose names begin alike.

    Raises:
        FileNotFoundError: a folder or an image's partner is missing.
    """
    folders = directory / "HR", directory / "LR_x4"
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: the directory must hold HR/ and LR_x4/")
    large, small = (sorted(p for p in f.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) for f in folders)
    if len(large) != len(small) or not large:
        raise FileNotFoundError(
            f"{directory} holds {len(large)} HR and {len(small)} LR_x4 images: they must pair up"
        )
    for hr, lr in zip(large, small, strict=True):
        if not lr.stem.startswith(hr.stem):
            raise FileNotFoundError(f"{hr.name} has no partner in LR_x4 (found {lr.name} in its place)")
    return list(zip(large, small, strict=True))


def evaluate(
    resolver: SuperResolver, directory: Path, thresholds: Sequence[tuple[str | None, float]]
) -> list[SuperResolveRow]:
    """Measure every (tier, threshold) on the pairs of a directory."""
    pairs = [(_read(hr), _read(lr)) for hr, lr in image_pairs(directory)]
    rows = []
    bar = tqdm(total=len(pairs) * len(thresholds), desc=directory.name, unit="image")
    for tier, threshold in thresholds:
        scores, dense, executed = [], 0, 0
        for hr, lr in pairs:
            result = resolver.upscale(lr, threshold)
            dense += result.macs_dense
            executed += result.macs_executed
            scores.append(_score(hr, result.image))
            bar.update()
        psnr_y, ssim_y = np.mean(scores, axis=0)
        rows.append(SuperResolveRow(tier, threshold, 1 - executed / dense, float(psnr_y), float(ssim_y)))
    bar.close()
    return rows


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _score(hr: Pixels, result: Pixels) -> tuple[float, float]:
    """HR photos may be up to three pixels larger than four times their LR: compare what both have."""
    height, width = result.shape[:2]
    if not (0 <= hr.shape[0] - height < SCALE and 0 <= hr.shape[1] - width < SCALE):
        raise ValueError(f"an HR image of {hr.shape[:2]} does not fit a result of {result.shape[:2]}")
    wanted, got = luma(hr[:height, :width]), luma(result)
    return psnr(wanted, got), ssim(wanted, got)

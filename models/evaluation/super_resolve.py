"""PSNR and SSIM of the super-resolver at each threshold, of an oracle's map, and of what it is compared with."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from pixeltier.models.budgets import threshold_within
from pixeltier.models.engine import SuperResolver
from pixeltier.models.evaluation.dense_resolvers import DenseResolver
from pixeltier.models.evaluation.metrics import SHAVE, Pixels, luma, psnr, ssim
from pixeltier.models.evaluation.points import Evaluation, Point, Row, rows, stacked
from pixeltier.models.evaluation.ranking import ranks
from pixeltier.models.evaluation.rivals import bicubic, published
from pixeltier.models.images import compressed
from pixeltier.models.networks.masks import pool_to_windows
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.models.results import SuperResolution

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


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
    resolver: SuperResolver,
    directory: Path,
    thresholds: Sequence[tuple[str | None, float]],
    oracle: bool = False,
    dense: Sequence[DenseResolver] = (),
    jpeg_quality: int | None = None,
) -> Evaluation:
    """Measure every (tier, threshold) on the pairs of a directory, and the rivals; the oracle's map if asked for.

    Args:
        jpeg_quality: the inputs are compressed as JPEG of that quality first.
    """
    paths = image_pairs(directory)
    learned = {threshold: _Runs() for _, threshold in thresholds}
    ranked = {threshold: _Runs() for _, threshold in thresholds}
    exact, base, enlarged = _Runs(), _Runs(), _Runs()
    others = [_Runs() for _ in dense]
    for hr_path, lr_path in tqdm(paths, desc=directory.name, unit="image"):
        hr, lr = _read(hr_path), _read_input(lr_path, jpeg_quality)
        whole, light = resolver.upscale(lr, 0.0), base_alone(resolver, lr)
        exact.add(hr, whole)
        base.add(hr, light)
        enlarged.add_image(hr, bicubic(lr), 0, whole.macs_dense)
        for rival, runs in zip(dense, others, strict=True):
            runs.add_image(hr, rival(lr), rival.macs(*lr.shape[:2]), whole.macs_dense)
        gains = ranks(window_gains(hr, light.image, whole.image, resolver.card.window)) if oracle else None
        for threshold, runs in learned.items():
            result = resolver.upscale(lr, threshold) if threshold > 0 else whole
            runs.add(hr, result)
            if gains is not None:
                ranked[threshold].add(hr, _at_equal_macs(resolver, lr, gains, result.macs_executed))

    reference = exact.point("exact tier", 0.0)
    rivals = [enlarged.point("bicubic", None), base.point("base alone", None)]
    if 0 not in learned:
        rivals.append(reference)
    rivals += [runs.point(rival.name, None) for rival, runs in zip(dense, others, strict=True)]
    return Evaluation(
        images=len(paths),
        learned=rows([learned[t].point(tier, t) for tier, t in thresholds], reference),
        oracle=rows([ranked[t].point(tier, t) for tier, t in thresholds], reference) if oracle else [],
        rivals=[*rows(rivals, reference), *([] if jpeg_quality else _published(directory.name))],
    )


def base_alone(resolver: SuperResolver, lr: Pixels) -> SuperResolution:
    """The base's own image, without any refinement."""
    window = resolver.card.window
    nothing = np.zeros((-(-lr.shape[0] // window), -(-lr.shape[1] // window)), np.float32)
    return resolver.upscale(lr, 1.0, nothing)


def low_resolution_images(directory: Path, jpeg_quality: int | None = None) -> Iterator[Pixels]:
    """The inputs of a directory, uint8 [h, w, 3] each."""
    for _, lr in image_pairs(directory):
        yield _read_input(lr, jpeg_quality)


def window_gains(hr: Pixels, base: Pixels, exact: Pixels, window: int) -> npt.NDArray[np.float32]:
    """Mean squared error on luma that the refinement removes from each window; what PSNR shaves off counts nothing.

    Args:
        hr: uint8 [>= 4h, >= 4w, 3]; base, exact: uint8 [4h, 4w, 3].
        window: in low-resolution cells.

    Returns:
        float32 [ceil(h / window), ceil(w / window)], negative where the base is better.
    """
    height, width = exact.shape[:2]
    wanted = luma(hr[:height, :width], shave=0)
    removed = (luma(base, shave=0) - wanted) ** 2 - (luma(exact, shave=0) - wanted) ** 2
    counted = np.zeros_like(removed)
    inner = slice(SHAVE, height - SHAVE), slice(SHAVE, width - SHAVE)
    counted[inner] = removed[inner]
    pooled = pool_to_windows(torch.from_numpy(counted)[None, None], SCALE * window)
    return pooled[0, 0].float().numpy()


def _at_equal_macs(
    resolver: SuperResolver, lr: Pixels, importance: npt.NDArray[np.float32], macs: int
) -> SuperResolution:
    """The same network on the windows of another map, as many as fit into the given MACs."""
    threshold = threshold_within(resolver.cost(lr, importance).macs, 0.0, macs)
    return resolver.upscale(lr, 1.0 if threshold is None else threshold, importance)


class _Runs:
    """One way to compute, over the images."""

    def __init__(self) -> None:
        self._scores: list[dict[str, float]] = []
        self._executed: list[int] = []
        self._dense: list[int] = []

    def add(self, hr: Pixels, result: SuperResolution) -> None:
        self.add_image(hr, result.image, result.macs_executed, result.macs_dense)

    def add_image(self, hr: Pixels, image: Pixels, executed: int, dense: int) -> None:
        self._scores.append(_score(hr, image))
        self._executed.append(executed)
        self._dense.append(dense)

    def point(self, name: str | None, threshold: float | None) -> Point:
        return Point(
            name,
            threshold,
            np.array(self._executed, np.int64),
            np.array(self._dense, np.int64),
            stacked(self._scores),
        )


def _published(dataset: str) -> list[Row]:
    return [
        Row(figure.name, None, figure.macs_saved, {"psnr_y": figure.psnr_y}, source=figure.source)
        for figure in published(dataset)
    ]


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _read_input(path: Path, jpeg_quality: int | None) -> Pixels:
    pixels = _read(path)
    return pixels if jpeg_quality is None else compressed(pixels, jpeg_quality)


def _score(hr: Pixels, result: Pixels) -> dict[str, float]:
    """HR photos may be up to three pixels larger than four times their LR: compare what both have."""
    height, width = result.shape[:2]
    if not (0 <= hr.shape[0] - height < SCALE and 0 <= hr.shape[1] - width < SCALE):
        raise ValueError(f"an HR image of {hr.shape[:2]} does not fit a result of {result.shape[:2]}")
    wanted, got = luma(hr[:height, :width]), luma(result)
    return {"psnr_y": psnr(wanted, got), "ssim_y": ssim(wanted, got)}

"""Augmented photos for the classifier's training, from a CSV, a folder of folders, or any folder of photos."""

import csv
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from models.images import CROP, DEVIATION, MEAN
from models.training.photos import find_photos


def listed_photos(table: Path, root: Path, split: str) -> list[Path]:
    """Photos of a CSV with the columns path and split (no split column: all of them).

    Raises:
        ValueError: no row of that split, or no column `path`.
    """
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "path" not in rows[0]:
        raise ValueError(f"{table} has no column 'path'; it has {sorted(rows[0])}")
    chosen = [root / row["path"] for row in rows if row.get("split", split) == split]
    if not chosen:
        raise ValueError(f"{table} has no rows with split {split!r}")
    return chosen


def gather_photos(table: str, root: str, folders: Sequence[str]) -> list[Path]:
    """The labelled training photos and every photo of the unlabelled folders: distillation needs no labels."""
    photos = listed_photos(Path(table), Path(root), "train") if table else []
    if folders:
        photos += find_photos(map(Path, folders))
    return photos


def normalise(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, H, W, 3] to the float [N, 3, H, W] that the network was trained on."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float()
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (x / 255 - mean) / deviation


class AugmentedBatches:
    """Endless random batches, decoded ahead in threads."""

    def __init__(
        self, photos: Sequence[Path], batch: int, seed: int, ahead: int = 3, threads: int = 2
    ) -> None:
        self._photos = list(photos)
        self._batch = batch
        self._random = np.random.default_rng(seed)
        self._pool = ThreadPoolExecutor(threads)
        self._pending = [self._submit() for _ in range(ahead)]

    def next(self) -> Tensor:
        """Normalised [batch, 3, 224, 224]."""
        future = self._pending.pop(0)
        self._pending.append(self._submit())
        return normalise(future.result())

    def close(self) -> None:
        """Stop decoding ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> "Future[npt.NDArray[np.uint8]]":
        chosen = self._random.integers(len(self._photos), size=self._batch)
        seeds = self._random.integers(2**31, size=self._batch)
        return self._pool.submit(self._load, chosen, seeds)

    def _load(self, chosen: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        pairs = zip(chosen, seeds, strict=True)
        return np.stack([augmented(self._photos[i], np.random.default_rng(seed)) for i, seed in pairs])


def augmented(path: Path, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random resized crop (area 0.25 to 1, ratio 3/4 to 4/3), flip and mild change of brightness and colour."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * CROP, 2 * CROP))
        photo = image.convert("RGB")
    area = photo.width * photo.height * random.uniform(0.25, 1)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(photo.width, np.sqrt(area * ratio))
    height = min(photo.height, np.sqrt(area / ratio))
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    crop = photo.resize((CROP, CROP), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Color):
        crop = enhance(crop).enhance(float(random.uniform(0.7, 1.3)))
    return np.asarray(crop)

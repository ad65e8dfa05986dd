"""Augmented photos for the classifier's training, from a CSV, a folder of folders, or any folder of photos."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from pixeltier.models.images import CROP
from pixeltier.models.photo_table import read_rows
from pixeltier.models.training.photos import find_photos


def listed_photos(table: Path, root: Path, split: str) -> list[Path]:
    """Photos of a CSV with the columns path and split (no split column: all of them).

    Raises:
        ValueError: no row of that split, or no column `path`.
    """
    chosen = [root / row.path for row in read_rows(table) if row.split in {None, split}]
    if not chosen:
        raise ValueError(f"{table} has no rows with split {split!r}")
    return chosen


def gather_photos(table: str, root: str, folders: Sequence[str]) -> list[Path]:
    """The labelled training photos and every photo of the unlabelled folders: distillation needs no labels.

    Raises:
        FileNotFoundError, ValueError: there is no table, no folder, or nothing in them.
    """
    photos = listed_photos(Path(table), Path(root), "train") if table else []
    if folders:
        photos += find_photos(map(Path, folders))
    if not photos:
        raise ValueError("there is nothing to train on: name folders as `photos`, or a table as `labels`")
    return photos


def as_input(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, H, W, 3] to the float32 [N, 3, H, W] in [0, 1] that the classifier takes."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return x.float() / 255


class AugmentedBatches:
    """Endless random batches, decoded ahead in threads; `first` is the number of the next one.

    `probabilities`: how likely each photo is drawn; all alike where there are none.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        batch: int,
        seed: int,
        first: int = 0,
        ahead: int = 3,
        threads: int = 2,
        probabilities: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._photos = list(photos)
        self._probabilities = probabilities
        self._batch = batch
        self._seed, self._number = seed, first
        self._pool = ThreadPoolExecutor(threads)
        self._pending = [self._submit() for _ in range(ahead)]

    def next(self) -> Tensor:
        """float32 [batch, 3, 224, 224] in [0, 1]."""
        future = self._pending.pop(0)
        self._pending.append(self._submit())
        return as_input(future.result())

    def close(self) -> None:
        """Stop decoding ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> "Future[npt.NDArray[np.uint8]]":
        random = np.random.default_rng((self._seed, self._number))
        self._number += 1
        chosen = random.choice(len(self._photos), self._batch, p=self._probabilities)
        seeds = random.integers(2**31, size=self._batch)
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
    ratio = photo.width / photo.height if random.random() < 0.5 else 1.0  # squashed, as some test photos are
    ratio *= np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(photo.width, np.sqrt(area * ratio))
    height = min(photo.height, np.sqrt(area / ratio))
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    crop = photo.resize((CROP, CROP), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Color):
        crop = enhance(crop).enhance(float(random.uniform(0.7, 1.3)))
    return np.asarray(crop)


def mixed(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Some images of a batch [N, C, H, W] blended with, or partly covered by, another one of it.

    Function matching (Beyer et al., arXiv 2106.05237): a student that agrees with its teacher on such images, too, has
    learnt the function and not the photos.
    """
    count, _, height, width = x.shape
    chosen = torch.rand(count, generator=generator) < share
    partner = x[torch.randperm(count, generator=generator)]
    result = x.clone()
    for index in chosen.nonzero()[:, 0].tolist():
        amount, kind, top, left = torch.rand(4, generator=generator).tolist()
        if kind < 0.5:
            result[index] = torch.lerp(x[index], partner[index], 0.5 * amount)
            continue
        rows, columns = (round((0.25 + 0.5 * amount) * size) for size in (height, width))
        y, z = round(top * (height - rows)), round(left * (width - columns))
        box = (index, slice(None), slice(y, y + rows), slice(z, z + columns))
        result[box] = partner[box]
    return result

"""Training patches for super-resolution from a folder of high-resolution photos."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.atomic_files import replacing
from pixeltier.models.images import compressed
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.models.training.onnx_session import open_session

Pixels = npt.NDArray[np.uint8]
JPEG_BLOCK = 16
"""Cells along the side of what JPEG compresses together where colours have half the size."""

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo: `hr` [4h, 4w, 3], `lr` [h, w, 3] and, with a teacher, its `guide` [4h, 4w, 3]."""

    hr: Pixels
    lr: Pixels
    guide: Pixels | None


def find_photos(folders: Iterable[Path]) -> list[Path]:
    """Every photo below the folders, sorted.

    Raises:
        FileNotFoundError: a folder does not exist or holds no photo.
    """
    found: list[Path] = []
    for folder in folders:
        inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"no JPEG, PNG or WebP below {folder}: give a folder of photos")
        found += inside
    return found


def shrink(hr: Pixels) -> Pixels:
    """The antialiased bicubic quarter-size image that the network has to undo."""
    height, width = hr.shape[:2]
    size = (width // SCALE, height // SCALE)
    return np.asarray(Image.fromarray(hr).resize(size, Image.Resampling.BICUBIC))


def load_photo(path: Path, size: float = 1.0) -> Pixels:
    """An RGB photo at `size` times its own, cropped to a multiple of the scale."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    if size != 1.0:
        width, height = (round(size * side) for side in rgb.size)
        rgb = rgb.resize((max(1, width), max(1, height)), Image.Resampling.BICUBIC)
    hr = np.asarray(rgb)
    height, width = (SCALE * (side // SCALE) for side in hr.shape[:2])
    return hr[:height, :width]


class OnnxTeacher:
    """A super-resolution network in ONNX (input NCHW RGB in [0, 1]) whose outputs are distilled."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_session(path, threads)
        self._input = self._session.get_inputs()[0].name
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]

    def __call__(self, lr: Pixels) -> Pixels:
        """Upscale [h, w, 3] to [4h, 4w, 3]."""
        x = lr.astype(np.float32).transpose(2, 0, 1)[None] / 255
        (y,) = self._session.run(None, {self._input: x})
        image = np.asarray(y[0], dtype=np.float32).transpose(1, 2, 0)
        return (image.clip(0, 1) * 255).round().astype(np.uint8)


def load_photos(
    paths: Sequence[Path], teacher: OnnxTeacher | None, cache: Path, sizes: Sequence[float] = (1.0,)
) -> list[Photo]:
    """All photos in memory, at each of `sizes`; the teacher's outputs are computed once and kept in `cache`."""
    photos = []
    for path, size in tqdm([*product(paths, sizes)], desc="photos", unit="photo"):
        hr = load_photo(path, size)
        if min(hr.shape[:2]) < SCALE:
            continue
        lr = shrink(hr)
        photos.append(Photo(hr, lr, _guide(path, lr, teacher, cache) if teacher else None))
    return photos


def _guide(path: Path, lr: Pixels, teacher: OnnxTeacher, cache: Path) -> Pixels:
    key = hashlib.sha256(lr.tobytes()).hexdigest()[:16]
    stored = cache / f"{path.stem}-{key}-{teacher.digest}.npy"
    if stored.exists():
        guide: Pixels = np.load(stored)
        return guide
    cache.mkdir(parents=True, exist_ok=True)
    guide = teacher(lr)
    with replacing(stored) as partial:
        np.save(partial, guide)
    return guide


class PatchSampler:
    """Random aligned patches with flips and rotations; photos are drawn by their area.

    `jpeg_quality`: LR patches are compressed as JPEG, each at a quality from that range; none where it is empty.
    """

    def __init__(
        self, photos: Sequence[Photo], patch: int, seed: int, jpeg_quality: Sequence[int] = ()
    ) -> None:
        self._photos = [p for p in photos if min(p.lr.shape[:2]) >= patch]
        if not self._photos:
            raise ValueError(f"no photo is as large as a patch ({patch * SCALE} pixels): use larger photos")
        area = np.array([p.lr.shape[0] * p.lr.shape[1] for p in self._photos], dtype=np.float64)
        self._chance = area / area.sum()
        self._patch = patch
        self._qualities = range(jpeg_quality[0], jpeg_quality[1] + 1) if jpeg_quality else None
        self._random = np.random.default_rng(seed)

    def restart(self, seed: int) -> None:
        """Go on as a sampler of this seed starts."""
        self._random = np.random.default_rng(seed)

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """`count` patches: LR [N, 3, p, p], HR and guide [N, 3, 4p, 4p] (the HR itself without a teacher)."""
        samples = [self._sample() for _ in range(count)]
        lr, hr, guide = (torch.from_numpy(np.stack(parts)) for parts in zip(*samples, strict=True))
        return tuple(  # type: ignore[return-value]
            t.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float().div_(255)
            for t in (lr, hr, guide)
        )

    def _sample(self) -> tuple[Pixels, Pixels, Pixels]:
        photo = self._photos[self._random.choice(len(self._photos), p=self._chance)]
        size = self._patch
        y = int(self._random.integers(photo.lr.shape[0] - size + 1))
        x = int(self._random.integers(photo.lr.shape[1] - size + 1))
        big = (slice(SCALE * y, SCALE * (y + size)), slice(SCALE * x, SCALE * (x + size)))
        guide = photo.hr if photo.guide is None else photo.guide
        turn, flip = int(self._random.integers(4)), bool(self._random.integers(2))
        lr = self._compressed(photo.lr, y, x) if self._qualities else photo.lr[y : y + size, x : x + size]
        parts = (lr, photo.hr[big], guide[big])
        turned = [np.rot90(part[:, ::-1] if flip else part, turn) for part in parts]
        return turned[0], turned[1], turned[2]

    def _compressed(self, lr: Pixels, y: int, x: int) -> Pixels:
        """A patch as it looks after JPEG, whose grid of blocks lies anywhere."""
        assert self._qualities is not None
        above, before = (min(place, int(self._random.integers(JPEG_BLOCK))) for place in (y, x))
        size = self._patch
        quality = int(self._random.choice(self._qualities))
        return compressed(lr[y - above : y + size, x - before : x + size], quality)[above:, before:]

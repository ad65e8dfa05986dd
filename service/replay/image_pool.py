"""Images for a log, which holds none: of those in a folder one whose size is near."""

import random
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from PIL import Image

from pixeltier.service.replay.arrivals import Arrival, Recording, ReplayError
from pixeltier.service.tasks import Task

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

AS_NEAR = 1.02
"""Images whose sizes differ by less from the nearest one's are as good: chance chooses among them."""

FAR = 1.25


class ImagePool:
    """Files by their pixels; draws depend on nothing but the files' names, their sizes and the seed."""

    def __init__(self, images: Iterable[tuple[Path, int]], seed: int) -> None:
        ordered = sorted(images, key=lambda one: (one[1], str(one[0])))
        self._paths = [path for path, _ in ordered]
        self._pixels = [pixels for _, pixels in ordered]
        self._chance = random.Random(seed)  # noqa: S311  (a sample, no secret)

    @classmethod
    def of(cls, folder: Path, seed: int) -> Self:
        """Every JPEG, PNG and WebP below a folder.

        Raises:
            ReplayError: there is none, or one cannot be read.
        """
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise ReplayError(f"no JPEG, PNG or WebP below {folder}")
        return cls([(path, _pixels(path)) for path in paths], seed)

    def drawn(self, recording: Recording) -> Recording:
        """The recording with an image for each arrival; one of unknown size counts as its task's median."""
        usual = _usual(recording.arrivals)
        arrivals, far = [], 0
        for arrival in recording.arrivals:
            wanted = arrival.pixels or usual.get(arrival.task)
            image, pixels = self.draw(wanted)
            far += wanted is not None and not wanted / FAR <= pixels <= wanted * FAR
            arrivals.append(replace(arrival, image=image))
        return replace(recording, arrivals=arrivals, far_in_size=far)

    def draw(self, pixels: int | None) -> tuple[Path, int]:
        """An image of about so many pixels, and how many it has; None: any image."""
        first, last = 0, len(self._paths)
        if pixels is not None:
            nearest = self._nearest(pixels)
            first = bisect_left(self._pixels, nearest / AS_NEAR)
            last = bisect_right(self._pixels, nearest * AS_NEAR)
        place = self._chance.randrange(first, last)
        return self._paths[place], self._pixels[place]

    def _nearest(self, pixels: int) -> int:
        """The nearest size by ratio."""
        right = bisect_left(self._pixels, pixels)
        around = self._pixels[max(0, right - 1) : right + 1]
        return min(around, key=lambda one: max(one / pixels, pixels / one))


def _usual(arrivals: Iterable[Arrival]) -> dict[Task, int]:
    known: dict[Task, list[int]] = {}
    for arrival in arrivals:
        if arrival.pixels is not None:
            known.setdefault(arrival.task, []).append(arrival.pixels)
    return {task: round(statistics.median(sizes)) for task, sizes in known.items()}


def _pixels(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ReplayError(f"{path} cannot be read: {error}") from error

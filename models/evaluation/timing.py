"""Milliseconds of one image: ours at each threshold and its rivals take turns over the same images."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pixeltier.models.evaluation.interleaved import interleaved
from pixeltier.models.evaluation.points import Evaluation, Row
from pixeltier.models.results import Pixels

PHOTOS = 16
"""Crops of a turn of the classifier, spread over all: what a threshold costs depends on the photo."""

IMAGES = 4
"""Images of a turn of the super-resolver: each costs a hundred times a crop."""

BASE_ALONE = "base alone"

T = TypeVar("T")


def timed(
    evaluation: Evaluation,
    ours: Callable[[float, Pixels], object],
    rivals: Mapping[str, Callable[[Pixels], object]],
    images: Sequence[Pixels],
    seconds: float,
) -> Evaluation:
    """The same evaluation with the milliseconds of an image in every row that was computed; batches of one.

    Args:
        ours: computes an image at a threshold.
        rivals: by the names of their rows; names without a row are left out.
        seconds: how long rounds are repeated; a figure is the median of the rounds' means.
    """
    rows = (*evaluation.learned, *evaluation.rivals)
    runs: dict[tuple[str | None, float | None], Callable[[Pixels], object]] = {
        (row.name, row.threshold): partial(ours, row.threshold) for row in rows if row.threshold is not None
    }
    named = {row.name for row in rows if row.threshold is None}
    runs |= {(name, None): run for name, run in rivals.items() if name in named}
    turns = [partial(_turn, run, images) for run in runs.values()]
    times = interleaved(turns, seconds, f"{len(images)} images, batch 1")
    ms = {
        key: statistics.median(sample.ms for sample in samples) / len(images)
        for key, samples in zip(runs, times, strict=True)
    }

    def with_time(rows: list[Row]) -> list[Row]:
        return [replace(row, milliseconds=ms.get((row.name, row.threshold))) for row in rows]

    return replace(evaluation, learned=with_time(evaluation.learned), rivals=with_time(evaluation.rivals))


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many of them, at equal distances."""
    return list(items[:: max(1, len(items) // count)][:count])


def _turn(run: Callable[[Pixels], object], images: Sequence[Pixels]) -> None:
    for image in images:
        run(image)

"""Milliseconds of one photo: the classifier at each threshold and its rivals take turns over the same photos."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pixeltier.models.engine import Classifier, Pixels
from pixeltier.models.evaluation.classify import batches
from pixeltier.models.evaluation.dense_classifiers import DenseClassifier
from pixeltier.models.evaluation.interleaved import interleaved
from pixeltier.models.evaluation.points import Evaluation, Row

PHOTOS = 16
"""Photos of a turn, spread over all: what a threshold costs depends on the photo."""


def timed(
    evaluation: Evaluation,
    classifier: Classifier,
    photos: Sequence[Path],
    dense: Sequence[DenseClassifier],
    seconds: float,
) -> Evaluation:
    """The same evaluation with the milliseconds of a photo in every row that was computed; batches of one.

    Args:
        seconds: how long rounds are repeated; a figure is the median of the rounds' means.
    """
    images = _spread(photos)
    runs: dict[tuple[str | None, float | None], Callable[[Pixels], object]] = {
        (row.name, row.threshold): partial(_ours, classifier, row.threshold)
        for row in (*evaluation.learned, *evaluation.rivals)
        if row.threshold is not None
    }
    runs |= {(rival.name, None): rival for rival in dense}
    turns = [partial(_turn, run, images) for run in runs.values()]
    times = interleaved(turns, seconds, f"{len(images)} photos, batch 1")
    ms = {key: statistics.median(samples) / len(images) for key, samples in zip(runs, times, strict=True)}

    def with_time(rows: list[Row]) -> list[Row]:
        return [replace(row, milliseconds=ms.get((row.name, row.threshold))) for row in rows]

    return replace(evaluation, learned=with_time(evaluation.learned), rivals=with_time(evaluation.rivals))


def _spread(photos: Sequence[Path]) -> list[Pixels]:
    chosen = photos[:: max(1, len(photos) // PHOTOS)][:PHOTOS]
    return [image for batch in batches(chosen) for image in batch]


def _ours(classifier: Classifier, threshold: float, image: Pixels) -> object:
    return classifier.classify([image], [threshold])


def _turn(run: Callable[[Pixels], object], images: Sequence[Pixels]) -> None:
    for image in images:
        run(image)

"""Top-1, top-5 and agreement with the exact tier, at each threshold."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from models.engine import Classifier
from models.images import classify_input

BATCH = 16


@dataclass(frozen=True, slots=True)
class ClassifyRow:
    """Shares of the photos (0 to 1). `agreement`: the same first class as at threshold 0."""

    tier: str | None
    threshold: float
    macs_saved: float
    top1: float
    top5: float
    agreement: float


def labelled_photos(table: Path, images: Path, split: str) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """Photos and classes of a CSV with the columns path and imagenet_index; of one split where it has that column.

    Raises:
        ValueError: a column is missing, or no row is left.
    """
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column in ("path", "imagenet_index"):
        if rows and column not in rows[0]:
            raise ValueError(f"{table} has no column {column!r}; it has {sorted(rows[0])}")
    rows = [row for row in rows if split == "all" or row.get("split", split) == split]
    if not rows:
        raise ValueError(f"{table} has no rows with split {split!r}; give --split")
    return [images / row["path"] for row in rows], np.array([int(row["imagenet_index"]) for row in rows])


def evaluate(
    classifier: Classifier,
    photos: Sequence[Path],
    labels: npt.NDArray[np.int64],
    thresholds: Sequence[tuple[str | None, float]],
) -> list[ClassifyRow]:
    """Measure every (tier, threshold); the exact run is always made, as what agreement refers to."""
    limits = [threshold for _, threshold in thresholds]
    runs = {limit: _Run() for limit in dict.fromkeys([0.0, *limits])}
    bar = tqdm(total=len(photos), desc="classify", unit="photo")
    for first in range(0, len(photos), BATCH):
        batch = [_read(path) for path in photos[first : first + BATCH]]
        for limit, run in runs.items():
            run.add(classifier, batch, limit)
        bar.update(len(batch))
    bar.close()
    exact = runs[0.0].best_five()[:, 0]
    return [_row(tier, limit, runs[limit], labels, exact) for tier, limit in thresholds]


class _Run:
    """What one threshold gave over all photos."""

    def __init__(self) -> None:
        self.dense = 0
        self.executed = 0
        self._five: list[npt.NDArray[np.int64]] = []

    def add(self, classifier: Classifier, batch: list[npt.NDArray[np.uint8]], threshold: float) -> None:
        for result in classifier.classify(batch, [threshold] * len(batch)):
            self.dense += result.macs_dense
            self.executed += result.macs_executed
            self._five.append(np.argsort(-result.probabilities, kind="stable")[:5])

    def best_five(self) -> npt.NDArray[np.int64]:
        return np.stack(self._five)


def _row(
    tier: str | None, threshold: float, run: _Run, labels: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]
) -> ClassifyRow:
    five = run.best_five()
    return ClassifyRow(
        tier=tier,
        threshold=threshold,
        macs_saved=1 - run.executed / run.dense,
        top1=float((five[:, 0] == labels).mean()),
        top5=float((five == labels[:, None]).any(axis=1).mean()),
        agreement=float((five[:, 0] == exact).mean()),
    )


def _read(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return classify_input(image.convert("RGB"))

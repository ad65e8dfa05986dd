"""Top-1, top-5 and agreement with the exact tier, at each threshold, and with an oracle's choice of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pixeltier.models.engine import Classifier
from pixeltier.models.evaluation.dense_classifiers import DenseClassifier
from pixeltier.models.evaluation.points import Evaluation, Point, rows
from pixeltier.models.images import read_classify_input
from pixeltier.models.photo_table import CLASS_COLUMNS, read_rows
from pixeltier.models.results import Pixels

BATCH = 16


def labelled_photos(table: Path, images: Path, split: str) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """Photos and classes of a CSV with the columns path and class_index (or imagenet_index); of one split where it
    has that column.

    Raises:
        ValueError: a column is missing, a class is not a number, or no row is left.
    """
    rows = read_rows(table)
    if rows and rows[0].class_index is None:
        raise ValueError(f"{table} has no column {CLASS_COLUMNS[0]!r}")
    rows = [row for row in rows if split == "all" or row.split in {None, split}]
    if not rows:
        raise ValueError(f"{table} has no rows with split {split!r}; give --split")
    return [images / row.path for row in rows], np.array([row.class_index for row in rows])


def evaluate(
    classifier: Classifier,
    photos: Sequence[Path],
    labels: npt.NDArray[np.int64],
    thresholds: Sequence[tuple[str | None, float]],
    oracle: bool = False,
    dense: Sequence[DenseClassifier] = (),
) -> Evaluation:
    """Measure every (tier, threshold), the base alone and the exact run, which the others are compared with.

    Args:
        oracle: also refine, at equal MACs, just the images whose true class gains most by it: what a base that knew the
            answers would choose.
        dense: rivals that see the same photos.

    Raises:
        ValueError: a label is not a class of the classifier.
    """
    classes = classifier.card.architecture.get("classes", 1000)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"classes lie between 0 and {classes - 1}, the table has {labels.min()} to {labels.max()}"
        )
    limits = list(dict.fromkeys([0.0, *(threshold for _, threshold in thresholds)]))
    runs = {limit: _Run(labels) for limit in limits}
    base = _Run(labels)
    others = [_Run(labels) for _ in dense]
    answers = bool(classifier.card.architecture.get("base_answers", 1))
    bar = tqdm(total=len(photos), desc="classify", unit="photo")
    for batch in batches(photos):
        for limit, run in runs.items():
            results = classifier.classify(batch, [limit] * len(batch))
            run.add(results)
        whole = [result.macs_dense for result in results]
        if answers:
            base.add(classifier.base_alone(batch))
        for rival, run in zip(dense, others, strict=True):
            run.add(
                [
                    _DenseAnswer(rival(image), rival.macs, macs)
                    for image, macs in zip(batch, whole, strict=True)
                ]
            )
        bar.update(len(batch))
    bar.close()
    exact = runs[0.0]
    reference = exact.point("exact tier", 0.0, exact)
    rivals = [base.point("base alone", None, exact)] if answers else []
    if not any(threshold == 0 for _, threshold in thresholds):
        rivals.append(reference)
    rivals += [run.point(rival.name, None, exact) for rival, run in zip(dense, others, strict=True)]
    best = []
    if oracle and answers:
        best = [_oracle(runs[limit], base, exact).point(tier, limit, exact) for tier, limit in thresholds]
    return Evaluation(
        images=len(photos),
        learned=rows([runs[limit].point(tier, limit, exact) for tier, limit in thresholds], reference),
        oracle=rows(best, reference),
        rivals=rows(rivals, reference),
    )


def _oracle(run: "_Run", base: "_Run", exact: "_Run") -> "_Run":
    """The exact answers of the images that gain most, as many as fit into the MACs of a run, else the base's."""
    gain = np.array(exact.of_truth) - np.array(base.of_truth)
    left = sum(run.executed) - sum(base.executed)
    chosen = set()
    for index in np.argsort(-gain, kind="stable").tolist():
        extra = exact.executed[index] - base.executed[index]
        if gain[index] <= 0 or extra > left:
            break
        left -= extra
        chosen.add(index)
    result = _Run(run.labels)
    for index in range(len(gain)):
        result.take(exact if index in chosen else base, index)
    return result


def batches(photos: Sequence[Path]) -> Iterator[list[Pixels]]:
    """The photos as the classifier sees them, a batch at a time."""
    for first in range(0, len(photos), BATCH):
        yield [read_classify_input(path) for path in photos[first : first + BATCH]]


class _Answer(Protocol):
    @property
    def probabilities(self) -> npt.NDArray[np.float32]: ...
    @property
    def macs_executed(self) -> int: ...
    @property
    def macs_dense(self) -> int: ...


@dataclass(slots=True)
class _DenseAnswer:
    probabilities: npt.NDArray[np.float32]
    macs_executed: int
    macs_dense: int


class _Run:
    """What one way to compute gave over all photos."""

    def __init__(self, labels: npt.NDArray[np.int64]) -> None:
        self.labels = labels
        self.executed: list[int] = []
        self.of_truth: list[float] = []
        self._dense: list[int] = []
        self._five: list[npt.NDArray[np.int64]] = []

    def add(self, results: Sequence[_Answer]) -> None:
        for result in results:
            self.of_truth.append(float(result.probabilities[self.labels[len(self.of_truth)]]))
            self._dense.append(result.macs_dense)
            self.executed.append(result.macs_executed)
            self._five.append(np.argsort(-result.probabilities, kind="stable")[:5])

    def take(self, other: "_Run", index: int) -> None:
        """Another run's result of one photo."""
        self.of_truth.append(other.of_truth[index])
        self._dense.append(other._dense[index])
        self.executed.append(other.executed[index])
        self._five.append(other._five[index])

    def point(self, tier: str | None, threshold: float | None, exact: "_Run") -> Point:
        """Scores of each photo."""
        five, first = np.stack(self._five), np.stack(exact._five)[:, 0]
        right = {
            "top1": five[:, 0] == self.labels,
            "top5": (five == self.labels[:, None]).any(axis=1),
            "agreement": five[:, 0] == first,
        }
        scores = {name: values.astype(np.float64) for name, values in right.items()}
        return Point(tier, threshold, np.array(self.executed), np.array(self._dense), scores)

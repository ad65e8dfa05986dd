"""Top-1, top-5 and agreement with the exact tier, at each threshold, and on an oracle's map."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from models.budgets import Budget
from models.checkpoints import load_resnet18
from models.engine import Classification, Classifier, Pixels
from models.evaluation.points import Evaluation, Point, rows
from models.evaluation.ranking import ranks
from models.images import classify_input
from models.networks.resnet18 import stage_scores
from models.training.classify_photos import normalise

BATCH = 16
CLASS_COLUMNS = ("class_index", "imagenet_index")


def labelled_photos(table: Path, images: Path, split: str) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """Photos and classes of a CSV with the columns path and class_index (or imagenet_index); of one split where it
    has that column.

    Raises:
        ValueError: a column is missing, a class is no number, or no row is left.
    """
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "path" not in rows[0]:
        raise ValueError(f"{table} has no column 'path'; it has {sorted(rows[0])}")
    column = next((name for name in CLASS_COLUMNS if rows and name in rows[0]), None)
    if rows and column is None:
        raise ValueError(f"{table} has no column {CLASS_COLUMNS[0]!r}; it has {sorted(rows[0])}")
    rows = [row for row in rows if split == "all" or row.get("split", split) == split]
    if not rows or column is None:
        raise ValueError(f"{table} has no rows with split {split!r}; give --split")
    return [images / row["path"] for row in rows], np.array([int(row[column]) for row in rows])


def evaluate(
    classifier: Classifier,
    photos: Sequence[Path],
    labels: npt.NDArray[np.int64],
    thresholds: Sequence[tuple[str | None, float]],
    oracle: "TrueClassEvidence | None" = None,
) -> Evaluation:
    """Measure every (tier, threshold); the exact run is always made, as what the others are compared with.

    Raises:
        ValueError: a label is no class of the classifier.
    """
    classes = classifier.card.architecture.get("classes", 1000)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"classes lie between 0 and {classes - 1}, the table has {labels.min()} to {labels.max()}"
        )
    limits = list(dict.fromkeys([0.0, *(threshold for _, threshold in thresholds)]))
    learned, ranked = ({limit: _Run() for limit in limits} for _ in range(2))
    bar = tqdm(total=len(photos), desc="classify", unit="photo")
    for first in range(0, len(photos), BATCH):
        batch = [_read(path) for path in photos[first : first + BATCH]]
        maps = oracle(batch, labels[first : first + BATCH]) if oracle is not None else None
        for limit in limits:
            results = classifier.classify(batch, [limit] * len(batch))
            learned[limit].add(results)
            if maps is not None:
                budgets = [Budget(target_macs=result.macs_executed) for result in results]
                found = classifier.classify_within(batch, [0.0] * len(batch), budgets, maps)
                ranked[limit].add([one for one in found if isinstance(one, Classification)])
        bar.update(len(batch))
    bar.close()
    exact = learned[0.0].best_five()[:, 0]

    def points(runs: dict[float, _Run]) -> list[Point]:
        return [runs[limit].point(tier, limit, labels, exact) for tier, limit in thresholds]

    reference = learned[0.0].point("exact tier", 0.0, labels, exact)
    return Evaluation(
        images=len(photos),
        learned=rows(points(learned), reference),
        oracle=rows(points(ranked), reference) if oracle is not None else [],
        rivals=[] if any(threshold == 0 for _, threshold in thresholds) else rows([reference], reference),
    )


class TrueClassEvidence:
    """An approximate oracle: windows ranked by how much the true class's loss would rise without them.

    The exact one would skip each window by itself and look, hundreds of passes a photo, and still not see windows
    together. This is the gradient of the loss by the masks that multiply the residual branches, averaged over masks
    from a quarter to one: integrated gradients (Sundararajan et al., arXiv 1703.01365) of what skipping does. It knows
    the answer, but it bounds nothing. The same at the stem's features (gradient times activation) proved worse than
    the learned map: it sees what a window says, not what computing it adds.
    """

    LEVELS = (0.25, 0.5, 0.75, 1.0)

    def __init__(self, directory: Path | None) -> None:
        self._model, _ = load_resnet18(directory)
        self._model.requires_grad_(False)

    def __call__(
        self, images: Sequence[Pixels], labels: npt.NDArray[np.int64]
    ) -> list[npt.NDArray[np.float32]]:
        """One map of ranks for each uint8 [H, W, 3] image of a batch."""
        stem = self._model.stem(normalise(np.stack(images)))
        count, _, height, width = stem.shape
        window, wanted = self._model.shape.window, torch.from_numpy(labels)
        total = torch.zeros(count, 1, -(-height // window), -(-width // window))
        for level in self.LEVELS:
            windows = torch.full_like(total, level).requires_grad_()
            masks = stage_scores(windows, window, height, width)
            logits = self._model.classify(self._model.trunk(stem, masks))
            (slope,) = torch.autograd.grad(F.cross_entropy(logits, wanted, reduction="sum"), windows)
            total -= slope
        return [ranks(one[0].numpy()) for one in total]


def batches(photos: Sequence[Path]) -> Iterator[list[Pixels]]:
    """The photos as the classifier sees them, a batch at a time."""
    for first in range(0, len(photos), BATCH):
        yield [_read(path) for path in photos[first : first + BATCH]]


class _Run:
    """What one threshold gave over all photos."""

    def __init__(self) -> None:
        self._dense: list[int] = []
        self._executed: list[int] = []
        self._five: list[npt.NDArray[np.int64]] = []

    def add(self, results: Sequence[Classification]) -> None:
        for result in results:
            self._dense.append(result.macs_dense)
            self._executed.append(result.macs_executed)
            self._five.append(np.argsort(-result.probabilities, kind="stable")[:5])

    def best_five(self) -> npt.NDArray[np.int64]:
        return np.stack(self._five)

    def point(
        self,
        tier: str | None,
        threshold: float,
        labels: npt.NDArray[np.int64],
        exact: npt.NDArray[np.int64],
    ) -> Point:
        five = self.best_five()
        right = {
            "top1": five[:, 0] == labels,
            "top5": (five == labels[:, None]).any(axis=1),
            "agreement": five[:, 0] == exact,
        }
        scores = {name: values.astype(np.float64) for name, values in right.items()}
        return Point(tier, threshold, np.array(self._executed), np.array(self._dense), scores)


def _read(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return classify_input(image.convert("RGB"))

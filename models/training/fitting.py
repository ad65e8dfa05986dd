"""A base fitted to somebody's refinement on photos without labels: in closed form, then by descent on kept features.

The refinement's exact answer is what is learnt. What the base's last layer reads of a photo is computed once, so an
epoch takes a moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.cards import Expectation, ModelCard
from pixeltier.models.images import read_classify_input
from pixeltier.models.networks.classification import ClassificationNetwork, base_input, refinement_input
from pixeltier.models.training.classify_photos import as_input, augmented
from pixeltier.models.training.least_squares import LinearFit

BATCH = 16
VIEWS = 4
"""Of each photo: as it is served, and three random crops."""

EPOCHS = 60
FITTED_BATCH = 256
LEARNING_RATE = 1e-3
HELD_BACK = 4
"""Every so many photos one is kept from the fit: by turns to learn what refining gains, and to measure the curve."""

THRESHOLDS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Pooled features of the base [N, 1280] and the refinement's log-probabilities [N, classes]."""

    pooled: Tensor
    wanted: Tensor


def fit_base(model: ClassificationNetwork, photos: Sequence[Path], seed: int = 1) -> None:
    """Fit the base's last layer, the combination and the doubt of a model, in place.

    Raises:
        ValueError: too few photos.
    """
    held = held_back(photos)[::2]
    fitted = [photo for index, photo in enumerate(photos) if index % HELD_BACK]
    if len(held) < 2:
        raise ValueError(f"a base cannot be fitted on {len(photos)} photos: give hundreds")
    kept, test = _keep(model, fitted, VIEWS, seed), _keep(model, held, 1, seed)
    fit = LinearFit(kept.pooled.shape[1], kept.wanted.shape[1])
    fit.add(kept.pooled, kept.wanted)
    fit.solve(model.base.fc, strength=1e-2)
    _descend(model, kept, seed)
    _trust_refinement(model)
    _fit_doubt(model, test)


def held_back(photos: Sequence[Path]) -> Sequence[Path]:
    """The photos that a base is not fitted to."""
    return photos[::HELD_BACK]


@torch.inference_mode()
def _keep(model: ClassificationNetwork, photos: Sequence[Path], views: int, seed: int) -> _Kept:
    random = np.random.default_rng(seed)
    pooled, wanted = [], []
    for first in tqdm(range(0, len(photos), BATCH), desc="features", unit="batch"):
        part = photos[first : first + BATCH]
        for view in range(views):
            pixels = [augmented(path, random) if view else read_classify_input(path) for path in part]
            x = as_input(np.stack(pixels))
            pooled.append(model.base.features(base_input(x)).mean(dim=(2, 3)))
            wanted.append(model.refinement(refinement_input(x)).log_softmax(1))
    return _Kept(torch.cat(pooled), torch.cat(wanted))


def _descend(model: ClassificationNetwork, kept: _Kept, seed: int) -> None:
    """Distillation of the last layer, from where least squares left it."""
    layer = model.base.fc
    pooled, wanted = kept.pooled.clone(), kept.wanted.clone()  # out of inference mode
    optimiser = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(EPOCHS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - epoch / EPOCHS)
        for chosen in torch.randperm(len(pooled), generator=generator).split(FITTED_BATCH):
            answer = layer(pooled[chosen]).log_softmax(1)
            loss = F.kl_div(answer, wanted[chosen], reduction="batchmean", log_target=True)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@torch.no_grad()
def _trust_refinement(model: ClassificationNetwork) -> None:
    """The more is computed, the more the refinement's answer counts; exact, it is the answer."""
    steps = torch.linspace(0, 1, len(model.combination.base_weights))
    model.combination.refinement_weights.copy_(steps)
    model.combination.base_weights.copy_(1 - steps)


def _fit_doubt(model: ClassificationNetwork, test: _Kept) -> None:
    """Regress what the exact answer adds to the base's, on photos that the base was not fitted to."""
    importance = model.importance
    with torch.no_grad():
        logits = model.base.fc(test.pooled)
        gain = F.kl_div(logits.log_softmax(1), test.wanted, reduction="none", log_target=True).sum(1)
    parameters = [*importance.hidden.parameters(), *importance.out.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3)
    for _ in range(400):
        loss = F.smooth_l1_loss(importance.doubt(logits), gain)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def measure_agreement(
    model: ClassificationNetwork, card: ModelCard, photos: Sequence[Path]
) -> list[Expectation]:
    """The curve of a model without labels: how often each threshold's first class is the exact tier's.

    Measured on photos that `fit_base` does not use.
    """
    from pixeltier.models.engine import Classifier

    classifier = Classifier(model, card, "fp32")
    first: dict[float, list[int]] = {threshold: [] for threshold in THRESHOLDS}
    executed = dict.fromkeys(THRESHOLDS, 0)
    dense = 0
    held = held_back(photos)[1::2]
    for start in tqdm(range(0, len(held), BATCH), desc="curve", unit="batch"):
        batch = [read_classify_input(path) for path in held[start : start + BATCH]]
        for threshold in THRESHOLDS:
            results = classifier.classify(batch, [threshold] * len(batch))
            first[threshold] += [int(result.probabilities.argmax()) for result in results]
            executed[threshold] += sum(result.macs_executed for result in results)
            dense += sum(result.macs_dense for result in results) if threshold == 0 else 0
    exact = np.array(first[0.0])
    return [
        Expectation(
            threshold=threshold,
            macs_saved=round(1 - executed[threshold] / dense, 5),
            metrics={"agreement": round(float((np.array(first[threshold]) == exact).mean()), 5)},
        )
        for threshold in THRESHOLDS
    ]

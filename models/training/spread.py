"""How far an image's importance is spread between its windows: whole images first, or the best places of more images.

Of the candidates the one is taken whose answers at typical budgets stay nearest to the exact ones.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.images import read_classify_input
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    active_share,
    base_input,
    refinement_input,
    stage_masks,
    window_grid,
)
from pixeltier.models.training.classify_photos import as_input

CANDIDATES = (0.0, 0.3, 1.0, 2.0)
"""In units of the doubt's standard deviation over the photos."""

SKIPPED = (0.5, 0.7, 0.9)
"""Shares of all windows that are skipped."""

BATCH = 16
MOST_PHOTOS = 96


@torch.inference_mode()
def choose_spread(model: ClassificationNetwork, photos: Sequence[Path]) -> float:
    """The best spread for a model, measured on photos without labels."""
    chosen = photos[:: max(1, len(photos) // MOST_PHOTOS)]
    batches = [_Batch(model, chosen[first : first + BATCH]) for first in range(0, len(chosen), BATCH)]
    doubt = torch.cat([batch.doubt for batch in batches])
    unit = float(doubt.std()) if len(doubt) > 1 else 0.0
    losses = []
    for candidate in tqdm(CANDIDATES, desc="spread"):
        maps = [batch.map(candidate * unit) for batch in batches]
        limits = torch.quantile(torch.cat([one.flatten() for one in maps]), torch.tensor(SKIPPED))
        pairs = list(zip(batches, maps, strict=True))
        losses.append(sum(batch.loss(one, limit) for limit in limits for batch, one in pairs))
    return unit * CANDIDATES[min(range(len(losses)), key=losses.__getitem__)]


class _Batch:
    """Photos with what does not depend on the spread: the base's answer, the stem's features, the exact answer."""

    def __init__(self, model: ClassificationNetwork, photos: Sequence[Path]) -> None:
        x = as_input(np.stack([read_classify_input(path) for path in photos]))
        self._model = model
        context, features, self._base = model.base.all_features(base_input(x))
        self._context = context if model.shape.context else None
        self._stem = model.refinement.stem(refinement_input(x))
        self.doubt = model.importance.doubt(self._base)
        grid = window_grid(x.shape[2], x.shape[3], model.shape.window)
        self._places = model.importance.places(self._base, features, model.base.fc.weight, grid)
        self._exact = self._answer(None)

    def map(self, spread: float) -> Tensor:
        """Importance logits [N, 1, h, w] with another spread."""
        return self.doubt.view(-1, 1, 1, 1) + spread * self._places

    def loss(self, importance: Tensor, limit: Tensor) -> float:
        """Divergence of the answers at a limit from the exact ones, summed over the photos."""
        masks = stage_masks(
            importance, limit.expand(len(importance)), self._model.shape.window, *self._stem.shape[2:]
        )
        answer = self._answer(masks)
        return float(F.kl_div(answer, self._exact, reduction="sum", log_target=True))

    def _answer(self, masks: list[Tensor] | None) -> Tensor:
        refinement = self._model.refinement
        refined = refinement.classify(refinement.trunk(self._stem, self._context, masks))
        share = refined.new_ones(len(refined)) if masks is None else active_share(masks)
        if not self._model.shape.base_answers:
            return refined.log_softmax(1)
        combined: Tensor = self._model.combination(self._base, refined, share)
        return combined.log_softmax(1)

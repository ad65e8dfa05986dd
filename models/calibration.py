"""From importance logits to importance: the share of calibration windows that a logit exceeds.

After calibration a threshold t reads as "skip this share of an average image"; no window reaches 1.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

KNOTS = 257
MOST = 1 - 2**-24
"""The float32 before 1, so that a threshold of 1 leaves the base alone whatever the image is."""


def quantile_knots(logits: Tensor) -> list[float]:
    """The table of a calibration: equally spaced quantiles of all logits seen, ascending.

    Raises:
        ValueError: fewer logits than would define a table, or some that are not finite.
    """
    values = logits.detach().double().flatten().sort().values
    if values.numel() < KNOTS or not bool(torch.isfinite(values).all()):
        raise ValueError(f"calibration needs at least {KNOTS} finite logits, got {values.numel()} values")
    position = torch.linspace(0, values.numel() - 1, KNOTS, dtype=torch.float64)
    low = position.floor().long()
    high = position.ceil().long()
    return [float(v) for v in torch.lerp(values[low], values[high], position - low)]


class Calibration:
    """Monotone, piecewise linear, with values in [0, 1)."""

    def __init__(self, knots: Sequence[float], device: torch.device | str = "cpu") -> None:
        if len(knots) < 2 or any(b < a for a, b in pairwise(knots)):
            raise ValueError("calibration knots must be two or more ascending numbers")
        self._knots = torch.tensor(knots, dtype=torch.float64, device=device)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits of any shape to float32 importance of the same shape, on the calibration's device."""
        x = logits.detach().to(self._knots.device, torch.float64)
        last = len(self._knots) - 1
        upper = torch.searchsorted(self._knots, x.contiguous()).clamp(1, last)
        low, high = self._knots[upper - 1], self._knots[upper]
        within = ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        return ((upper - 1 + within) / last).float().clamp(max=MOST)

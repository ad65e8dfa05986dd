"""Thresholds that save given shares of the MACs on given images, from their maps alone."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pixeltier.models.budgets import Count, ImageCost, SumOfCounts, threshold_within

DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A threshold, rounded up, and the share of the MACs that it saves; `share` is what was asked for."""

    share: float
    threshold: float
    macs_saved: float


def suggest(costs: Iterable[ImageCost], shares: Sequence[float]) -> list[Suggestion]:
    """The lowest threshold for each share that saves it of the total over all images.

    Raises:
        ValueError: there are no images, or even threshold 1 saves less; the message says how much.
    """
    counts: list[Count] = []
    dense = 0
    for cost in costs:  # a cost holds its image's features, its counts do not
        counts.append(cost.macs)
        dense += cost.macs_dense
    if not counts:
        raise ValueError("no images to choose thresholds on")
    total = SumOfCounts(counts)
    return [_one(total, dense, share) for share in shares]


def _one(total: Count, dense: int, share: float) -> Suggestion:
    found = threshold_within(total, 0.0, int((1 - share) * dense))
    if found is None:
        most = _saved(total, dense, 1.0)
        raise ValueError(f"{share:.1%} of the MACs cannot be saved on these images: at most {most:.1%}")
    threshold = min(1.0, math.ceil(found * 10**DECIMALS) / 10**DECIMALS)
    return Suggestion(share, threshold, _saved(total, dense, threshold))


def _saved(total: Count, dense: int, threshold: float) -> float:
    return 1 - int(total.at(np.array([threshold], dtype=np.float32))[0]) / dense


def as_toml(task: str, suggestions: Sequence[Suggestion], tiers: Sequence[str], data: str) -> str:
    """The tier table's entries for one task.

    Args:
        tiers: names, from the best to the fastest, used where there are as many as suggestions; else the names say
            the shares.
    """
    ordered = sorted(suggestions, key=lambda suggestion: suggestion.share)
    fitting = len(tiers) == len(ordered)
    names = list(tiers) if fitting else [f"saves-{100 * one.share:g}".replace(".", "-") for one in ordered]
    lines = [f"# Chosen on {data}; merge with the thresholds of the other model."]
    for name, one in zip(names, ordered, strict=True):
        lines += [
            "",
            "[[tiers]]",
            f'name = "{name}"',
            f"thresholds = {{ {task} = {one.threshold:.{DECIMALS}f} }}  # saves {one.macs_saved:.1%} of the MACs",
        ]
    return "\n".join(lines)

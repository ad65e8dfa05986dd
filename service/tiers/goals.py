"""From rules to thresholds: goals are resolved through a model card's measured curve, on the safe side.

Between two measured thresholds the curve is interpolated linearly, less a margin: twice the classical bound
h^2/8 * max|f''| of that interpolation, with f'' from the divided differences around the gap (twice, because those
only estimate it). At a measured threshold the margin is zero, so a goal that a measured row meets exactly resolves to
that row.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pixeltier.service.catalogue import CurvePoint
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.expectations import Expected, expect
from pixeltier.service.tiers.schema import Fault, Rule, TierTable, TierTableError, out_of_order

STEP = 0.001
"""Resolved thresholds are multiples of this, or measured ones."""

CLOSE = 1e-9

QUALITY_GOALS = {name: goal for spec in SPECS.values() for name, goal in spec.goals.items()}
"""Goals that bound a metric of the curve from below."""

Curves = Mapping[Task, Sequence[CurvePoint]]


class GoalError(ValueError):
    """A rule's goals cannot be met; the message says what can."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A rule's outcome. `goal_met` is False, with a `note`, only where a later model card broke a goal."""

    threshold: float
    max_active_share: float | None = None
    expected: Expected | None = None
    goal_met: bool = True
    note: str | None = None


Resolution = Mapping[str, Mapping[Task, Resolved]]
"""By tier and model."""


class Series:
    """One quantity of a curve (higher is better) and its lower bound at any threshold in the measured range."""

    def __init__(self, points: Sequence[tuple[float, float]], *, ascending: bool = False) -> None:
        """Take measured (threshold, value) pairs; `ascending`: the quantity cannot fall as the threshold rises."""
        merged: dict[float, float] = {}
        for threshold, value in points:
            merged[threshold] = min(value, merged.get(threshold, value))
        self._t = sorted(merged)
        self._y = [merged[t] for t in self._t]
        self._ascending = ascending
        self._bends = [self._bend(i) for i in range(1, len(self._t) - 1)]

    def _bend(self, i: int) -> float:
        """|f''| at the i-th point, from its neighbours."""
        t, y = self._t, self._y
        slopes = [(y[k + 1] - y[k]) / (t[k + 1] - t[k]) for k in (i - 1, i)]
        return abs(2 * (slopes[1] - slopes[0]) / (t[i + 1] - t[i - 1]))

    @property
    def measured(self) -> list[float]:
        """The measured thresholds, ascending."""
        return list(self._t)

    def lower(self, threshold: float) -> float:
        """What the quantity is at least, as far as the curve can say; flat beyond the measured range."""
        right = bisect_right(self._t, threshold)
        if right == 0 or right == len(self._t):
            return self._y[max(0, right - 1)]
        low, high = self._t[right - 1], self._t[right]
        share = (threshold - low) / (high - low)
        line = self._y[right - 1] + share * (self._y[right] - self._y[right - 1])
        around = self._bends[max(0, right - 2) : right]
        bound = line - max(around, default=0.0) * (threshold - low) * (high - threshold)
        return max(bound, self._y[right - 1]) if self._ascending else bound


def resolve_rule(rule: Rule, curve: Sequence[CurvePoint]) -> Resolved:
    """The threshold of one rule.

    Quality goals alone give the highest threshold up to which all of them hold; `macs_saved` the lowest threshold
    that saves enough.

    Raises:
        GoalError: the curve lacks a metric, or the goals cannot be met (together).
    """
    if rule.threshold is not None:
        return _resolved(rule, rule.threshold, curve)
    if not curve:
        raise GoalError(
            "the model's card has no measured curve, so a goal cannot be resolved: give a threshold"
        )
    ceiling, binding = _quality_ceiling(rule, curve)
    if rule.macs_saved is None:
        return _resolved(rule, ceiling, curve)
    saved = Series([(point.threshold, point.macs_saved) for point in curve], ascending=True)
    enough = (t for t in _candidates(saved) if saved.lower(t) >= rule.macs_saved - CLOSE)
    lowest = next(enough, None)
    if lowest is None:
        most = saved.lower(saved.measured[-1])
        raise GoalError(f"macs_saved {rule.macs_saved:g} is beyond the curve, which ends at {most:.3f}")
    if lowest > ceiling:
        raise GoalError(
            f"macs_saved {rule.macs_saved:g} needs the threshold {lowest:g}, and {binding} holds only up to "
            f"{ceiling:g}, where {saved.lower(ceiling):.3f} is saved"
        )
    return _resolved(rule, lowest, curve)


def _quality_ceiling(rule: Rule, curve: Sequence[CurvePoint]) -> tuple[float, str]:
    """The highest threshold up to which every quality goal holds, and the goal that ends it."""
    ceiling, binding = max(point.threshold for point in curve), ""
    for name, limit in rule.goals.items():
        if name not in QUALITY_GOALS:
            continue
        goal = QUALITY_GOALS[name]
        metric = goal.metric
        known = [(p.threshold, p.metrics[metric]) for p in curve if metric in p.metrics]
        if not known or min(known)[0] > 0.0:
            raise GoalError(
                f"{name} needs {metric} measured from threshold 0 on, which the model's card lacks"
            )
        series = Series(known)
        wanted = series.lower(0.0) - limit if goal.relative else limit
        if series.lower(0.0) < wanted - CLOSE:
            raise GoalError(
                f"{name} {limit:g} is missed even at threshold 0, which gives {series.lower(0.0):g}"
            )
        reached = _last_good(series, wanted)
        if reached < ceiling:
            ceiling, binding = reached, f"{name} {limit:g}"
    return ceiling, binding


def _last_good(series: Series, wanted: float) -> float:
    good = 0.0
    for t in _candidates(series):
        if series.lower(t) < wanted - CLOSE:
            break
        good = t
    return good


def _candidates(series: Series) -> list[float]:
    """Thresholds to try, ascending: every step within the measured range, and the measured ones."""
    first, last = series.measured[0], series.measured[-1]
    steps = (round(n * STEP, 6) for n in range(round(1 / STEP) + 1))
    return sorted({*(t for t in steps if first <= t <= last), *series.measured})


def _resolved(rule: Rule, threshold: float, curve: Sequence[CurvePoint]) -> Resolved:
    return Resolved(threshold, rule.max_active_share, expect(curve, threshold) if curve else None)


def resolve(table: TierTable, curves: Curves) -> dict[str, dict[Task, Resolved]]:
    """Every tier's thresholds.

    Raises:
        TierTableError: a goal cannot be met, or the resolved thresholds are out of order; all places are named.
    """
    faults: list[Fault] = []
    found: dict[str, dict[Task, Resolved]] = {tier.name: {} for tier in table.tiers}
    for task in Task:
        previous: tuple[str, float] | None = None
        for tier in table.tiers:
            place = f"tiers.{tier.name}.thresholds.{task}"
            try:
                now = found[tier.name][task] = resolve_rule(tier.thresholds.of(task), curves.get(task, ()))
            except GoalError as error:
                faults.append(Fault(place, str(error)))
                continue
            if previous is not None and now.threshold < previous[1]:
                faults.append(Fault(place, out_of_order(task, *previous, tier.name, now.threshold)))
            previous = tier.name, now.threshold
    if faults:
        raise TierTableError(faults)
    return found


def resolve_leniently(
    table: TierTable, curves: Curves, before: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[Task, Resolved]]:
    """As `resolve`, for a table that was good with another model card: never fails, says what it could not keep.

    Quality comes before savings: a `macs_saved` that would break a quality goal gives way to it. Goals that the new
    card cannot speak of keep the threshold of `before` (by tier and model's name), else 0. A threshold below that of
    a better tier is raised to it.
    """
    found: dict[str, dict[Task, Resolved]] = {tier.name: {} for tier in table.tiers}
    for task in Task:
        lowest, owner = 0.0, ""
        curve = curves.get(task, ())
        for tier in table.tiers:
            kept = before.get(tier.name, {}).get(task.value, 0.0)
            now = _nearest(tier.thresholds.of(task), curve, kept)
            if now.threshold < lowest:
                note = f"raised from {now.threshold:g} to the threshold of {owner}, which stands before it"
                now = replace(_resolved(tier.thresholds.of(task), lowest, curve), goal_met=False, note=note)
            found[tier.name][task] = now
            lowest, owner = now.threshold, tier.name
    return found


def _nearest(rule: Rule, curve: Sequence[CurvePoint], kept: float) -> Resolved:
    try:
        return resolve_rule(rule, curve)
    except GoalError as error:
        note = str(error)
    try:
        threshold = _quality_ceiling(rule, curve)[0] if curve else kept
    except GoalError:
        threshold = kept
    return replace(_resolved(rule, threshold, curve), goal_met=False, note=note)

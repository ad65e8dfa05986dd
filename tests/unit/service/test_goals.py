"""Goals become thresholds whose measured outcome meets them: on curves with known answers, and on the shipped cards."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pixeltier.models.cards import Expectation, load_card
from pixeltier.service.tasks import Task
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.goals import GoalError, Series, resolve, resolve_leniently, resolve_rule
from pixeltier.service.tiers.schema import RULES, Rule


@dataclass(frozen=True)
class Point:
    threshold: float
    macs_saved: float
    metrics: dict[str, float] = field(default_factory=dict)


LINE = [Point(t / 10, t / 10, {"psnr_y": 30 - 0.1 * t, "ssim_y": 0.9 - 0.01 * t}) for t in range(11)]


def _sr(**goals: float) -> Rule:
    return RULES[Task.SUPER_RESOLVE](**goals)


def _classify(**goals: float) -> Rule:
    return RULES[Task.CLASSIFY](**goals)


def test_a_threshold_is_taken_as_it_is() -> None:
    found = resolve_rule(_sr(threshold=0.123456, max_active_share=0.5), LINE)
    assert (found.threshold, found.max_active_share, found.goal_met) == (0.123456, 0.5, True)
    assert found.expected is not None
    assert found.expected.macs_saved == pytest.approx(0.123456)
    assert resolve_rule(_sr(threshold=0.4), []).expected is None


@pytest.mark.parametrize(
    ("goals", "threshold"),
    [
        ({"macs_saved": 0.55}, 0.55),
        ({"macs_saved": 0.0}, 0.0),
        ({"max_psnr_drop_db": 0.3}, 0.3),
        ({"max_psnr_drop_db": 0.3, "max_ssim_drop": 0.02}, 0.2),
        ({"max_psnr_drop_db": 5.0}, 1.0),
        ({"max_psnr_drop_db": 0.0}, 0.0),
        ({"macs_saved": 0.2, "max_psnr_drop_db": 0.3}, 0.2),  # saves enough, and no more than that is lost
    ],
)
def test_goals_on_a_straight_line(goals: dict[str, float], threshold: float) -> None:
    assert resolve_rule(_sr(**goals), LINE).threshold == pytest.approx(threshold, abs=1e-6)


@pytest.mark.parametrize(
    ("rule", "curve", "said"),
    [
        (_sr(macs_saved=0.5, max_psnr_drop_db=0.3), LINE, "holds only up to 0.3, where 0.300 is saved"),
        (_sr(macs_saved=0.9), LINE[:5], "beyond the curve, which ends at 0.400"),
        (_sr(macs_saved=0.5), [], "no measured curve"),
        (_classify(max_top1_drop=0.1), LINE, "top1 measured from threshold 0"),
        (_sr(max_psnr_drop_db=0.1), LINE[2:], "from threshold 0 on"),
        (_classify(min_agreement=0.9), [Point(0, 0, {"agreement": 0.8})], "missed even at threshold 0"),
    ],
)
def test_goals_that_cannot_be_met_say_what_can(rule: Rule, curve: Sequence[Point], said: str) -> None:
    with pytest.raises(GoalError, match=said):
        resolve_rule(rule, curve)


def test_a_dip_ends_a_quality_goal_even_where_quality_recovers_behind_it() -> None:
    curve = [Point(t, t, {"top1": v}) for t, v in ((0, 0.7), (0.25, 0.6), (0.5, 0.7), (1, 0.5))]
    assert resolve_rule(_classify(max_top1_drop=0.05), curve).threshold < 0.25


@given(st.floats(-3, 3), st.floats(-2, 2), st.integers(3, 12), st.floats(0, 1))
def test_the_bound_holds_on_every_parabola(bend: float, slope: float, points: int, threshold: float) -> None:
    """A parabola's second derivative is constant, so the divided differences see it exactly."""

    def value(t: float) -> float:
        return bend * t * t + slope * t

    measured = [n / (points - 1) for n in range(points)]
    series = Series([(t, value(t)) for t in measured])
    assert series.lower(threshold) <= value(threshold) + 1e-9
    for t in measured:
        assert series.lower(t) == pytest.approx(value(t))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_what_resolves_meets_its_goals_at_every_measured_threshold(
    rows: list[tuple[float, float, float]], saved: float, drop: float
) -> None:
    thresholds = sorted({0.0, *(round(row[0], 2) for row in rows)})
    savings = sorted(row[1] for row in rows)
    curve = [
        Point(t, savings[min(n, len(savings) - 1)], {"top1": rows[n % len(rows)][2]})
        for n, t in enumerate(thresholds)
    ]
    try:
        quality = resolve_rule(_classify(max_top1_drop=drop), curve)
    except GoalError:
        assume(False)
    for point in curve:
        if point.threshold <= quality.threshold:
            assert curve[0].metrics["top1"] - point.metrics["top1"] <= drop + 1e-6
    try:
        both = resolve_rule(_classify(max_top1_drop=drop, macs_saved=saved), curve)
    except GoalError:
        return
    assert both.threshold <= quality.threshold
    for point in curve:
        if point.threshold >= both.threshold:
            assert point.macs_saved >= saved - 1e-6


# ---- on the shipped cards, whatever they are -----------------------------------------------------------


def _curve(task: Task) -> list[Expectation]:
    return sorted(load_card(task.value).expectations, key=lambda point: point.threshold)


@pytest.mark.parametrize("task", list(Task))
def test_a_goal_that_a_measured_row_meets_resolves_to_a_threshold_whose_rows_meet_it(task: Task) -> None:
    curve = _curve(task)
    rule = RULES[task]
    for row in curve:
        if not 0 <= row.macs_saved <= 1:
            continue
        found = resolve_rule(rule(macs_saved=row.macs_saved), curve).threshold
        assert found <= row.threshold
        at_or_above = [one.macs_saved for one in curve if one.threshold >= found]
        assert min(at_or_above) >= row.macs_saved - 1e-9


QUALITY = {
    Task.CLASSIFY: (("max_top1_drop", "top1"), ("max_top5_drop", "top5")),
    Task.SUPER_RESOLVE: (("max_psnr_drop_db", "psnr_y"), ("max_ssim_drop", "ssim_y")),
}


@pytest.mark.parametrize(
    ("task", "goal", "metric"), [(task, *pair) for task, pairs in QUALITY.items() for pair in pairs]
)
def test_quality_goals_hold_on_every_row_up_to_the_threshold(task: Task, goal: str, metric: str) -> None:
    curve = _curve(task)
    exact = curve[0].metrics[metric]
    rule = RULES[task]
    previous = 0.0
    for limit in sorted({max(0.0, exact - row.metrics[metric]) for row in curve}):
        found = resolve_rule(rule.model_validate({goal: limit}), curve).threshold
        rows = [row for row in curve if row.threshold <= found]
        assert max(exact - row.metrics[metric] for row in rows) <= limit + 1e-9
        assert found >= previous, "a looser goal never resolves to a lower threshold"
        previous = found


def test_the_bound_leaves_no_measured_row_of_super_resolution_out() -> None:
    """Each row, left out of the curve, is no worse than what the others promise there."""
    curve = _curve(Task.SUPER_RESOLVE)
    for place in range(1, len(curve) - 1):
        rest, row = curve[:place] + curve[place + 1 :], curve[place]
        saved = Series([(one.threshold, one.macs_saved) for one in rest], ascending=True)
        psnr = Series([(one.threshold, one.metrics["psnr_y"]) for one in rest])
        assert row.macs_saved >= saved.lower(row.threshold) - 0.005
        assert row.metrics["psnr_y"] >= psnr.lower(row.threshold) - 0.005


# ---- tables ------------------------------------------------------------------------------------------

TABLE = """
default = "a"
[[tiers]]
name = "a"
thresholds = { classify = 0.0, super-resolve = { max_psnr_drop_db = 0.2 } }
[[tiers]]
name = "b"
thresholds = { classify = 0.5, super-resolve = { macs_saved = 0.6 } }
"""

CURVES = {Task.CLASSIFY: [], Task.SUPER_RESOLVE: LINE}


def test_a_table_resolves() -> None:
    found = resolve(schema.parse(TABLE, source="x"), CURVES)
    assert found["a"][Task.SUPER_RESOLVE].threshold == pytest.approx(0.2)
    assert found["b"][Task.SUPER_RESOLVE].threshold == pytest.approx(0.6)
    assert found["b"][Task.CLASSIFY].expected is None


def test_resolved_thresholds_out_of_order_are_refused_by_name() -> None:
    table = schema.parse(TABLE.replace("macs_saved = 0.6", "macs_saved = 0.1"), source="x")
    with pytest.raises(schema.TierTableError) as caught:
        resolve(table, CURVES)
    (fault,) = caught.value.faults
    assert fault.field == "tiers.b.thresholds.super-resolve"
    assert "stands after a (0.2)" in fault.message


def test_another_card_breaks_no_table_and_quality_comes_first() -> None:
    table = schema.parse(
        TABLE.replace("macs_saved = 0.6", "macs_saved = 0.6, max_psnr_drop_db = 1.0"), source="x"
    )
    worse = [Point(p.threshold, p.macs_saved / 2, {"psnr_y": 30 - 2 * p.threshold}) for p in LINE]
    found = resolve_leniently(table, {Task.SUPER_RESOLVE: worse}, {"b": {"classify": 0.5}})
    assert found["a"][Task.SUPER_RESOLVE].threshold == pytest.approx(0.1)
    assert found["a"][Task.SUPER_RESOLVE].goal_met
    b = found["b"][Task.SUPER_RESOLVE]
    assert (b.threshold, b.goal_met) == (pytest.approx(0.5), False)
    assert b.note is not None
    assert "beyond the curve" in b.note


def test_a_card_without_a_curve_keeps_the_thresholds_there_were() -> None:
    table = schema.parse(TABLE, source="x")
    found = resolve_leniently(table, {}, {"a": {"super-resolve": 0.21}, "b": {"super-resolve": 0.6}})
    assert [found[tier][Task.SUPER_RESOLVE].threshold for tier in ("a", "b")] == [0.21, 0.6]
    assert not found["a"][Task.SUPER_RESOLVE].goal_met


def test_order_is_kept_even_where_a_card_turns_it_around() -> None:
    table = schema.parse(TABLE.replace("macs_saved = 0.6", "max_ssim_drop = 0.05"), source="x")
    turned = [Point(p.threshold, p.macs_saved, {"psnr_y": 30.0, "ssim_y": 0.9 - p.threshold}) for p in LINE]
    found = resolve_leniently(table, {Task.SUPER_RESOLVE: turned}, {})
    a, b = (found[tier][Task.SUPER_RESOLVE] for tier in ("a", "b"))
    assert a.threshold == b.threshold == 1.0
    assert not b.goal_met
    assert b.note is not None
    assert "raised from" in b.note

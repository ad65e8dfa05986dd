"""The figures of a replay from measured images: by hand, and those of a change that changes nothing."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.command_line.replay_tables import print_replay
from pixeltier.service.replay.arrivals import Arrival, Recording, ReplayError
from pixeltier.service.replay.comparison import Comparison, Conditions, Quality, difference
from pixeltier.service.replay.document import document_of
from pixeltier.service.replay.efforts import EXACT, Effort, EffortTable
from pixeltier.service.replay.measurement import Measured, Run, Subject, wanted_of
from pixeltier.service.replay.scaling import time_factors
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.schema import validate
from pixeltier.service.worker.runner import Likeness

IMAGE, LARGE = Path("image.png"), Path("large.png")


def _table(fast: Any, default: str = "exact") -> EffortTable:
    tiers = [
        {"name": "exact", "thresholds": {"classify": 0, "super-resolve": 0}},
        {"name": "fast", "thresholds": {"classify": fast, "super-resolve": fast}},
    ]
    return EffortTable("a table", validate({"default": default, "tiers": tiers}), {})


def _arrival(at: float, tier: str | None = "fast", task: Task = Task.CLASSIFY, **more: Any) -> Arrival:
    known = {"threshold": None, "line": 1, "image": IMAGE, **more}
    return Arrival(at, task, tier, **known)


def _run(threshold: float) -> Run:
    """100 ms and 100 MACs at threshold 0, less in proportion above it."""
    return Run(100 * (1 - threshold), 100, round(100 * (1 - threshold)))


def _measured(arrivals: list[Arrival], *tables: EffortTable) -> dict[Subject, Measured]:
    found = {}
    for subject, wanted in wanted_of(arrivals, *tables).items():
        runs = {effort: _run(effort.threshold) for effort in {EXACT, *wanted.efforts}}
        alike = {pair: _likeness(subject[1], *pair) for pair in wanted.pairs}
        found[subject] = Measured(runs, {} if subject[0] == LARGE else alike)
    return found


def _likeness(task: Task, first: Effort, second: Effort) -> Likeness:
    apart = abs(first.threshold - second.threshold)
    if task is Task.CLASSIFY:
        return Likeness(agrees=apart <= 0.5)
    return Likeness(psnr_db=100 - 100 * apart, ssim=1 - apart)


def _comparison(
    arrivals: list[Arrival], current: EffortTable, changed: EffortTable, **more: Any
) -> Comparison:
    conditions = Conditions(**{"workers": 1, "overhead_ms": 0.0, **more})
    return Comparison(arrivals, (current, changed), _measured(arrivals, current, changed), conditions)


def test_figures_by_hand() -> None:
    """Two requests 30 ms apart, one worker: 50 ms each with one table, 20 ms with the other."""
    arrivals = [_arrival(7.0), _arrival(7.03)]
    found = _comparison(arrivals, _table(0.5), _table(0.8), overhead_ms=5.0, deadline_ms=60.0).total()
    assert found.requests == 2
    assert found.current.macs_saved == pytest.approx(0.5)
    assert found.changed.macs_saved == pytest.approx(0.8)
    assert found.current.latency_ms.p50 == pytest.approx((55 + 75) / 2)
    assert found.changed.latency_ms.p99 == pytest.approx(25)
    assert found.current.wait_ms.p50 == pytest.approx(10)
    assert found.changed.wait_ms.p99 == pytest.approx(0)
    assert found.current.utilisation == pytest.approx(1)
    assert found.changed.utilisation == pytest.approx(40 / 50)
    assert (found.current.late, found.changed.late) == (1, 0)
    assert found.current.to_exact == Quality(1, None, None)
    assert found.changed.to_exact == Quality(0, None, None)
    assert found.between == Quality(1, None, None)


def test_requests_of_other_tiers_wait_behind_slow_ones() -> None:
    """What a change does to its tier, it does to everybody's wait."""
    arrivals = [_arrival(0), _arrival(0.01, "exact")]
    comparison = _comparison(arrivals, _table(0.2), _table(0.9))
    exact = comparison.groups()[Task.CLASSIFY, "exact"]
    assert exact.current.wait_ms.p50 == pytest.approx(70)
    assert exact.changed.wait_ms.p50 == pytest.approx(0)
    assert exact.current.macs_saved == exact.changed.macs_saved == 0
    assert exact.between == Quality(1, None, None)


def test_twice_the_speed_is_half_the_distance() -> None:
    arrivals = [_arrival(0), _arrival(0.1)]
    waits = [
        _comparison(arrivals, _table(0.2), _table(0.2), speed=speed).total().current.wait_ms.p99
        for speed in (1, 2, 4)
    ]
    assert waits == pytest.approx([0, 0.99 * 30, 0.99 * 55])


def test_times_are_scaled_to_recorded_ones_of_the_same_threshold() -> None:
    """Ten requests took three times as long as here, at the threshold that the table gives; others say nothing."""
    same = [_arrival(n, served_at=0.5, worker_ms=150.0) for n in range(10)]
    outlier = _arrival(10, served_at=0.5, worker_ms=9000.0)
    other = [_arrival(20 + n, served_at=0.25, worker_ms=1.0) for n in range(30)]
    silent = [_arrival(60, task=Task.SUPER_RESOLVE), _arrival(61)]
    arrivals = [*same, outlier, *other, *silent]
    table, changed = _table(0.5), _table(0.8)
    measured = _measured(arrivals, table, changed)
    factors = time_factors(arrivals, table, measured)
    assert factors == {Task.CLASSIFY: pytest.approx(3)}
    assert time_factors([*same[:3], *other, *silent], table, measured) == {}
    groups = _comparison(arrivals, table, changed, time_factors=factors).groups()
    classify, enlarge = groups[Task.CLASSIFY, "fast"], groups[Task.SUPER_RESOLVE, "fast"]
    assert classify.current.latency_ms.p50 == pytest.approx(150)
    assert classify.changed.latency_ms.p50 == pytest.approx(60)
    assert enlarge.current.latency_ms.p50 == pytest.approx(50)


def test_super_resolution_is_compared_by_psnr_and_ssim_unless_it_is_too_large() -> None:
    arrivals = [_arrival(0, task=Task.SUPER_RESOLVE), _arrival(1, task=Task.SUPER_RESOLVE, image=LARGE)]
    total = _comparison(arrivals, _table(0.25), _table(0.5)).total()
    assert total.current.to_exact == Quality(None, 75, 0.75)
    assert total.between == Quality(None, 75, 0.75)
    total = _comparison(arrivals[1:], _table(0.25), _table(0.5)).total()
    assert total.between == Quality(None, None, None)


def test_groups_stand_in_the_order_of_the_table_and_hold_everything() -> None:
    arrivals = [
        _arrival(0, task=Task.SUPER_RESOLVE),
        _arrival(1, threshold=0.3),
        _arrival(2, None),
        _arrival(3, "exact"),
        _arrival(4),
    ]
    groups = _comparison(arrivals, _table(0.5), _table(0.5, default="fast")).groups()
    assert [(task.value, tier, one.requests) for (task, tier), one in groups.items()] == [
        ("classify", "exact", 2),
        ("classify", "fast", 1),
        ("classify", "custom", 1),
        ("super-resolve", "fast", 1),
    ]
    exact = groups[Task.CLASSIFY, "exact"]
    assert (exact.current.macs_saved, exact.changed.macs_saved) == pytest.approx((0, 0.25))
    custom = groups[Task.CLASSIFY, "custom"]
    assert custom.current.macs_saved == custom.changed.macs_saved == pytest.approx(0.3)


def test_a_cap_is_part_of_the_effort() -> None:
    capped = _table({"threshold": 0.5, "max_active_share": 0.25})
    assert capped.effort(_arrival(0)) == Effort(0.5, 0.25)
    assert capped.effort(_arrival(0)).limits.active_share == 0.25
    assert capped.effort(_arrival(0, threshold=0.5)) == Effort(0.5)


def test_a_tier_that_only_one_table_has_is_named_with_the_line() -> None:
    with pytest.raises(ReplayError, match=r"line 1: there is no tier 'high' in a table \(exact, fast\)"):
        wanted_of([_arrival(0, "high")], _table(0.5), _table(0.5))


REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.sampled_from(list(Task)),
        st.sampled_from(["exact", "fast", None]),
        st.one_of(st.none(), st.floats(0, 1)),
        st.sampled_from([IMAGE, LARGE]),
    ),
    min_size=1,
    max_size=20,
)


@given(REQUESTS, st.floats(0, 1), st.integers(1, 3))
def test_equal_tables_make_no_difference(requests: list[Any], fast: float, workers: int) -> None:
    arrivals = [
        _arrival(at, tier, task, threshold=threshold, image=image)
        for at, task, tier, threshold, image in sorted(requests, key=lambda one: one[0])
    ]
    comparison = _comparison(arrivals, _table(fast), _table(fast), workers=workers, deadline_ms=100)
    groups = comparison.groups()
    assert sum(one.requests for one in groups.values()) == len(arrivals)
    for one in [*groups.values(), comparison.total()]:
        assert one.current == one.changed
        assert one.between in {
            Quality(agreement, psnr_db, ssim)
            for agreement in (None, 1.0)
            for psnr_db, ssim in ((None, None), (100.0, 1.0))
        }
    assert _figures(comparison.total().document()["difference"]) <= {0, None}
    whole = comparison.total().current.utilisation
    assert sum(one.current.utilisation for one in groups.values()) == pytest.approx(whole)


def _figures(document: Any) -> set[float | None]:
    if isinstance(document, dict):
        return set().union(*map(_figures, document.values()))
    return {document}


def test_differences_figure_by_figure() -> None:
    assert difference({"a": 1, "b": {"c": 2.5}, "d": None}, {"a": 3, "b": {"c": 2.0}, "d": 1}) == {
        "a": 2,
        "b": {"c": -0.5},
        "d": None,
    }


def test_the_table_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    arrivals = [_arrival(0), _arrival(0.03), _arrival(90, task=Task.SUPER_RESOLVE)]
    tables = _table(0.5), _table(0.8)
    conditions = Conditions(1, 5.0, speed=2.0, deadline_ms=60.0, time_factors={Task.CLASSIFY: 1.0})
    comparison = Comparison(arrivals, tables, _measured(arrivals, *tables), conditions)
    recording = Recording(
        arrivals, latencies_ms=[10.0, 20.0, 30.0], left_out={"validation": 3}, far_in_size=2
    )
    print_replay(document_of(recording, tables, conditions, comparison))
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0]
        == "3 requests in 90 s played 2 times as fast, 1 image; 1 worker, 5.0 ms of overhead a request"
    )
    assert "tiers.fast.thresholds.classify.threshold: 0.5 -> 0.8" in said
    assert "left out: 3 validation" in said
    assert "time in a worker as recorded, of what was measured here: classify x 1.00" in said
    assert "without an image of about its size, the nearest taken: 2 requests" in said
    assert "latency when it was recorded: p50 20.0, p95 29.0, p99 29.8 ms" in said
    assert "longest queue: 1 with the current table, 1 with the changed one" in said
    rows = [line.split() for line in said]
    (head,) = [row for row in rows if row[:1] == ["task"]]
    assert " ".join(head) == (
        "task tier table requests MACs saved p50 ms p95 ms p99 ms wait p95 ms utilisation late agreement PSNR dB SSIM"
    )
    current = next(row for row in rows if row[:3] == ["classify", "fast", "current"])
    assert current[3:6] == ["2", "50.0", "%"]
    changes = [row for row in rows if row[:1] == ["difference"]]
    assert changes[0][1:3] == ["+30.0", "%"]
    assert len(changes) == 3
    assert not any("-0.0" in row or "+0.0" in row for row in rows)

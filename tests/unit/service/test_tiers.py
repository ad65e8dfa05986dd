"""The tier table's schema, order, snapshots and expectations."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.tasks import Task
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.expectations import expect
from pixeltier.service.tiers.store import TierStore, UnknownTierError

GOOD = """
default = "a"
[[tiers]]
name = "a"
thresholds = { classify = 0.0, super-resolve = 0.1 }
[[tiers]]
name = "b"
thresholds = { classify = 0.5, super-resolve = 0.1 }
"""


def test_the_packaged_table() -> None:
    table = schema.load()
    assert [tier.name for tier in table.tiers] == ["exact", "high", "balanced", "fast", "fastest"]
    assert [tier.thresholds.of(task).threshold for task in Task for tier in table.tiers[:1]] == [0, 0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classify = 0.5", "classify = 1.5", "tiers.b.thresholds.classify"),
        ("classify = 0.5", "classify = nan", "thresholds.classify"),
        ("classify = 0.5", 'classify = "0.5x"', "thresholds.classify"),
        ("super-resolve = 0.1 }\n[[", "super-resolve = 0.2 }\n[[", "must not have a lower threshold"),
        ('default = "a"', 'default = "c"', "there is no tier c"),
        ('default = "a"', "", "default"),
        ('name = "b"', 'name = "a"', "duplicate tier name"),
        ('name = "b"', 'name = "custom"', "reserved"),
        ('name = "b"', 'name = "Bad Name"', "tiers.Bad Name.name"),
        ('name = "b"', 'name = "b"\ncolour = 3', "tiers.b.colour"),
        ('default = "a"', 'default = "a"\nextra = 1', "extra"),
        ("classify = 0.5, ", "", "tiers.b.thresholds.classify"),
        ("[[tiers]]", "[[tiers", "line"),
    ],
)
def test_a_bad_table_is_refused_with_the_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(schema.TierTableError, match=r"table\.toml") as caught:
        schema.parse(GOOD.replace(old, new), source="table.toml")
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(schema.TierTableError, match="nowhere"):
        schema.load(tmp_path / "nowhere.toml")


def test_snapshots_do_not_change() -> None:
    store = TierStore(schema.parse(GOOD, source="x"))
    before = store.snapshot
    after = store.replace(schema.load())
    assert (before.version, after.version) == (1, 2)
    assert before.threshold("b", Task.CLASSIFY) == 0.5
    assert before.tier(None).name == "a"
    with pytest.raises(UnknownTierError) as caught:
        after.threshold("b", Task.CLASSIFY)
    assert caught.value.known == after.names


@dataclass(frozen=True)
class Point:
    threshold: float
    macs_saved: float
    metrics: dict[str, float] = field(default_factory=dict)


def test_expectations_interpolate() -> None:
    curve = [
        Point(0.5, 0.4, {"top1": 0.6}),
        Point(0.0, 0.0, {"top1": 0.7, "top5": 0.9}),
        Point(0.5, 0.4, {"top1": 0.6}),
    ]
    middle = expect(curve, 0.25)
    assert middle is not None
    assert middle.macs_saved == pytest.approx(0.2)
    assert middle.metrics == {"top1": pytest.approx(0.65)}
    end = expect(curve, 0.9)
    assert end is not None
    assert end.macs_saved == 0.4
    assert expect([], 0.5) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1))
def test_expectations_stay_within_the_curve(points: list[tuple[float, float]], threshold: float) -> None:
    found = expect([Point(t, s) for t, s in points], threshold)
    assert found is not None
    saved = [s for _, s in points]
    assert min(saved) - 1e-9 <= found.macs_saved <= max(saved) + 1e-9

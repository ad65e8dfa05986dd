"""The brownout's level in a simulated service: no oscillation, no starvation, whatever the load does.

The simulation is a fluid of requests in front of workers, as the pool is: first come first served, refused where the
wait exceeds the deadline, each tier with a cost of its own.
"""

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from pixeltier.service.operations.brownout import TICK_S, Level, Pressure
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.falls import deepest, fallen, steps
from pixeltier.service.tiers.schema import Brownout, TierTable
from tests.tier_table import TIERS

TABLE = schema.parse(TIERS, source="the test's table")
RULES = Brownout(enabled=True)
COST_S = {"exact": 0.30, "high": 0.20, "balanced": 0.14, "fast": 0.10, "fastest": 0.06}
DEADLINE_S = 3.0


@dataclass
class Simulation:
    """Requests for `high` and `balanced` at a rate, a share of which may not fall, on two workers."""

    rules: Brownout = RULES
    table: TierTable = TABLE
    slots: int = 2
    fixed_share: float = 0.1
    seed: int = 1
    now: float = 0.0
    backlog_s: float = 0.0
    refused: int = 0
    levels: list[int] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    answered: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    asked: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.level = Level(clock=lambda: self.now)

    def run(self, rate: float, seconds: float) -> "Simulation":
        end = self.now + seconds
        next_arrival = self.now + self.chance.expovariate(rate) if rate else float("inf")
        while self.now < end:
            tick_end = self.now + TICK_S
            idle_s = 0.0
            while next_arrival < tick_end:
                self._arrive()
                next_arrival += self.chance.expovariate(rate)
            idle_s = max(0.0, TICK_S - self.backlog_s)
            self.backlog_s = max(0.0, self.backlog_s - TICK_S)
            self.now = tick_end
            wait_s = max(0.0, self.backlog_s - 0.1)
            pressure = Pressure(wait_s, self.refused, 1 - idle_s / TICK_S)
            self.refused = 0
            before = self.level.value
            self.levels.append(self.level.tick(self.rules, deepest(self.table), pressure))
            if self.level.value != before:
                self.changes.append((self.now, self.level.value))
        return self

    def _arrive(self) -> None:
        fixed = self.chance.random() < self.fixed_share
        self.asked[fixed] += 1
        tier = self.table.tiers[self.chance.choice((1, 2))]
        if not fixed:
            tier = fallen(self.table, tier, self.level.value)
        if self.backlog_s > DEADLINE_S:
            self.refused += 1
            return
        self.answered[fixed] += 1
        self.backlog_s += COST_S[tier.name] / self.slots * self.chance.uniform(0.7, 1.3)


def _mean_cost_s(level: int) -> float:
    tiers = [fallen(TABLE, TABLE.tiers[place], level) for place in (1, 2)]
    return sum(COST_S[tier.name] for tier in tiers) / len(tiers)


FULL = 2 / _mean_cost_s(0)
"""Requests a second that keep two workers exactly busy without brownout."""


def _with(floors: dict[str, str | None]) -> TierTable:
    document = TABLE.document()
    for tier in document["tiers"]:
        tier["floor"] = floors.get(tier["name"], tier["floor"])
    return schema.validate(document)


def test_floors_bound_the_fall() -> None:
    assert [steps(TABLE, tier) for tier in TABLE.tiers] == [0, 1, 2, 1, 0]
    assert deepest(TABLE) == 2
    assert fallen(TABLE, TABLE.tiers[0], 5).name == "exact"
    assert [fallen(TABLE, TABLE.tiers[2], level).name for level in range(4)] == [
        "balanced",
        "fast",
        "fastest",
        "fastest",
    ]


def test_disabled_it_does_nothing() -> None:
    calm = Simulation(rules=Brownout()).run(3 * FULL, 60)
    assert set(calm.levels) == {0}
    assert calm.refused == 0 or calm.answered[False] < calm.asked[False]


def test_without_load_or_with_a_bearable_one_it_stays_at_the_full_quality() -> None:
    for rate in (0.0, 0.3 * FULL, 0.7 * FULL):
        assert max(Simulation().run(rate, 300).levels) == 0, rate


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overload", [1.2, 1.5, 2.0])
def test_a_lasting_overload_does_not_make_it_swing(overload: float, seed: int) -> None:
    """A step back to each level is tried after 5, 10, 20 ... 300 s, so changes become ever rarer."""
    table = _with({"high": "fastest"})
    load = Simulation(seed=seed, table=table).run(overload * FULL, 600)
    first = len(load.changes)
    load.run(overload * FULL, 1200)
    later = len(load.changes) - first
    per_level = math.log2(RULES.longest_fall_s / RULES.fall_s) + 600 / RULES.longest_fall_s
    assert first <= 2 * deepest(table) * per_level
    assert later <= 2 * deepest(table) * 1200 / RULES.longest_fall_s
    assert later / 1200 < 0.6 * first / 600
    assert load.answered[False] / load.asked[False] > 0.93


@pytest.mark.parametrize("seed", range(3))
def test_it_recovers_when_the_load_goes_away(seed: int) -> None:
    load = Simulation(seed=seed).run(2 * FULL, 900)
    assert load.levels[-1] > 0
    load.run(0.0, 60)
    assert load.levels[-1] == 0, "an idle service steps back without waiting for the longest time"


@pytest.mark.parametrize("seed", range(3))
def test_a_lighter_load_is_not_kept_at_low_quality_for_ever(seed: int) -> None:
    load = Simulation(seed=seed).run(2 * FULL, 900)
    load.run(0.5 * FULL, RULES.longest_fall_s + 4 * RULES.fall_s + 60)
    assert load.levels[-1] == 0
    tail = load.levels[-300:]
    assert set(tail) == {0}


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_may_not_fall_do_not_starve(seed: int) -> None:
    with_ = Simulation(seed=seed, table=_with({"high": "fastest"})).run(2 * FULL, 600)
    without = Simulation(seed=seed, rules=Brownout()).run(2 * FULL, 600)
    assert with_.answered[True] / with_.asked[True] > 0.9
    assert without.answered[True] / without.asked[True] < 0.65
    assert with_.answered[False] / with_.asked[False] > without.answered[False] / without.asked[False]


def test_bursts_shorter_than_the_rise_time_change_nothing() -> None:
    load = Simulation(rules=Brownout(enabled=True, rise_s=1.0))
    for _ in range(20):
        load.run(2 * FULL, 0.3)
        load.run(0.1 * FULL, 10)
    assert max(load.levels) == 0


def test_one_step_at_a_time_and_never_beyond_the_deepest() -> None:
    load = Simulation().run(5 * FULL, 120).run(0.2 * FULL, 400)
    assert all(abs(a - b) <= 1 for a, b in pairwise(load.levels))
    assert max(load.levels) == deepest(TABLE)
    first = next(moment for moment, level in load.changes if level == 2)
    assert first < 10


def test_a_table_with_higher_floors_takes_the_level_along() -> None:
    load = Simulation().run(3 * FULL, 60)
    assert load.level.value == 2
    load.table = _with({"balanced": "fast", "high": None, "fast": None})
    load.run(3 * FULL, 1)
    assert load.level.value <= 1


def test_hysteresis_must_be_one() -> None:
    for wrong in ({"exit_wait_s": 0.5}, {"fall_s": 0.1}, {"longest_fall_s": 1.0}):
        with pytest.raises(ValueError, match=r"exit_wait_s|descend"):
            Brownout(enabled=True, **wrong)

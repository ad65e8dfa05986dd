"""Brownout: under pressure answer from faster tiers instead of turning requests away.

One level for the whole service: at level n a request that may fall is answered n tiers faster than it asked, though
never below its tier's floor. Pressure raises the level quickly, relief lowers it slowly, and a step back that pressure
undoes doubles the time until that one is tried again (as TCP does with its retransmissions), so a lasting overload is
probed ever more rarely instead of making the level swing. An idle service need not wait for that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pixeltier.service.tiers.schema import Brownout

TICK_S = 0.1
"""How often the level is looked at."""

IDLE = 0.05
"""A service whose workers are busy for less than this share of the time has nothing to fear from a step back."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """What a tick sees.

    Attributes:
        wait_s: what a job arriving now would wait.
        refused: requests turned away since the last tick.
        busy: share of the workers at work.
    """

    wait_s: float
    refused: int
    busy: float


class Level:
    """The level, moved by one tick after another."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.value = 0
        self.changed_at: float | None = None
        self._pressed_since: float | None = None
        self._relief: _Relief | None = None
        self._fell_at: float | None = None
        self._holds: dict[int, float] = {}

    def tick(self, rules: Brownout, limit: int, pressure: Pressure) -> int:
        """Look at the pressure now; returns the level. `limit` is the table's deepest."""
        now = self._clock()
        if not rules.enabled:
            self._move(0, now)
            self._pressed_since = self._relief = self._fell_at = None
            self._holds.clear()
            return 0
        if self.value > limit:
            self._move(limit, now)
        if pressure.wait_s > rules.enter_wait_s or pressure.refused:
            self._relief = None
            self._press(rules, limit, now)
        else:
            self._pressed_since = None
            self._relieve(rules, pressure, now)
        return self.value

    def _press(self, rules: Brownout, limit: int, now: float) -> None:
        if self._pressed_since is None:
            self._pressed_since = now
        if now - self._pressed_since < rules.rise_s or self.value >= limit:
            return
        if self._fell_at is not None:  # a step back to this level did not last
            soon = now - self._fell_at < rules.longest_fall_s
            hold_s = 2 * self._hold_s(rules, self.value) if soon else rules.fall_s
            self._holds[self.value] = min(hold_s, rules.longest_fall_s)
        self._fell_at = None
        self._move(self.value + 1, now)
        self._pressed_since = now

    def _relieve(self, rules: Brownout, pressure: Pressure, now: float) -> None:
        if self.value == 0:
            self._relief = None
            return
        if self._relief is None:
            self._relief = _Relief(now, now)
        relief = self._relief
        relief.add(pressure, now)
        elapsed = now - relief.since
        idle = elapsed >= rules.fall_s and relief.mean_busy < IDLE
        if elapsed < self._hold_s(rules, self.value - 1) and not idle:
            return
        if relief.mean_wait_s < rules.exit_wait_s:
            self._move(self.value - 1, now)
            self._fell_at = now
        self._relief = None

    def _hold_s(self, rules: Brownout, level: int) -> float:
        """How long relief must last before a step back to a level: longer where the last ones did not last."""
        return min(max(self._holds.get(level, 0.0), rules.fall_s), rules.longest_fall_s)

    def _move(self, value: int, now: float) -> None:
        if value != self.value:
            self.value, self.changed_at = value, now


@dataclass(slots=True)
class _Relief:
    """Means over the time since pressure ended."""

    since: float
    last: float
    wait: float = 0.0
    busy: float = 0.0

    def add(self, pressure: Pressure, now: float) -> None:
        passed = now - self.last
        self.wait += pressure.wait_s * passed
        self.busy += pressure.busy * passed
        self.last = now

    @property
    def mean_wait_s(self) -> float:
        return self.wait / (self.last - self.since) if self.last > self.since else 0.0

    @property
    def mean_busy(self) -> float:
        return self.busy / (self.last - self.since) if self.last > self.since else 1.0

"""The admission queue's order, limits and removal; the estimator."""

import asyncio
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from service.pool.estimate import Estimator
from service.pool.interface import Request
from service.pool.queue import URGENCY_STEP_S, AdmissionQueue, Entry
from service.worker.messages import ClassifyJob, SuperResolveJob

JOB = ClassifyJob(b"", 0.5, 5, False, 1)
ENLARGE = SuperResolveJob(b"", 0.5, "png", 90, False, 1, 16)


def _entry(enqueued: float = 0, deadline: float = 30, urgency: int = 3, cost: float = 10) -> Entry:
    future = cast("asyncio.Future[Any]", None)
    return Entry(Request(JOB, "fast", deadline, urgency), enqueued, cost, future)


def test_the_earlier_deadline_goes_first() -> None:
    queue = AdmissionQueue(10)
    late, soon = _entry(0, 5), _entry(1, 2)
    queue.push(late)
    queue.push(soon)
    assert (queue.pop(), queue.pop(), queue.pop()) == (soon, late, None)


def test_urgency_yields_but_ages() -> None:
    queue = AdmissionQueue(10)
    patient = _entry(0, 30, urgency=4)
    queue.push(patient)
    queue.push(soon := _entry(URGENCY_STEP_S - 0.1, 30))
    queue.push(late := _entry(URGENCY_STEP_S + 0.1, 30))
    assert [queue.pop(), queue.pop(), queue.pop()] == [soon, patient, late]


def test_a_far_deadline_does_not_starve() -> None:
    queue = AdmissionQueue(10)
    far = _entry(0, 3600)
    queue.push(far)
    queue.push(_entry(11, 40))
    assert queue.pop() is far


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 7), st.booleans()), max_size=60))
def test_depth_cost_and_order_survive_removal(items: list[tuple[float, int, bool]]) -> None:
    queue = AdmissionQueue(5)
    entries = [_entry(0, deadline, urgency) for deadline, urgency, _ in items]
    for entry in entries:
        queue.push(entry)
    for entry, (_, _, leave) in zip(entries, items, strict=True):
        if leave:
            queue.discard(entry)
            queue.discard(entry)  # twice is once
    stay = [entry for entry, (_, _, leave) in zip(entries, items, strict=True) if not leave]
    assert len(queue) == len(stay)
    assert abs(queue.cost_ms - 10 * len(stay)) < 1e-6
    popped = []
    while (entry := queue.pop()) is not None:
        popped.append(entry)
    assert [entry.rank for entry in popped] == sorted(entry.rank for entry in stay)
    assert queue.cost_ms == 0


def test_the_estimate_learns_by_tier_and_pixels() -> None:
    estimator = Estimator()
    small, large = (Request(ENLARGE, "fast", 0, pixels=pixels) for pixels in (100, 400))
    first = estimator.cost_ms(small)
    estimator.learn(small, 10)
    assert estimator.cost_ms(small) == 10 != first
    assert estimator.cost_ms(large) == 40
    assert estimator.cost_ms(Request(ENLARGE, "exact", 0, pixels=100)) == first
    for _ in range(200):
        estimator.forget_a_little(small)
    assert estimator.cost_ms(small) < 1

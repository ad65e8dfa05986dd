"""The admission queue's order, limits and removal; the estimator."""

import asyncio
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.pool.estimate import Estimator
from pixeltier.service.pool.queue import URGENCY_STEP_S, AdmissionQueue, Entry
from pixeltier.service.work.messages import ClassifyJob, SuperResolveJob
from pixeltier.service.work.pool import Request

JOB = ClassifyJob(body=b"", threshold=0.5, top_k=5, max_pixels=1)
ENLARGE = SuperResolveJob(
    body=b"", threshold=0.5, format="png", quality=90, max_pixels=1, max_output_pixels=16
)


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


def _enlarge(pixels: int, tier: str = "fast") -> Request:
    return Request(ENLARGE, tier, 0, pixels=pixels)


def test_the_estimate_learns_a_line_by_tier() -> None:
    estimator = Estimator()
    first = estimator.cost_ms(_enlarge(10_000))
    for n in range(60):
        pixels = 10_000 * (1 + n % 5)
        estimator.learn(_enlarge(pixels), 3 + pixels / 1000)
    for pixels in (10_000, 50_000, 500_000):
        assert abs(estimator.cost_ms(_enlarge(pixels)) / (3 + pixels / 1000) - 1) < 0.15
    assert estimator.cost_ms(_enlarge(10_000, "exact")) == first


def test_tiny_images_say_nothing_of_large_ones() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn(_enlarge(1), 15)
    assert estimator.cost_ms(_enlarge(1)) < 20
    assert estimator.cost_ms(_enlarge(135_300)) < 400, "the prior holds where nothing was seen"


def test_large_images_say_little_against_tiny_ones() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn(_enlarge(10**6), 2000)
    assert 1800 < estimator.cost_ms(_enlarge(10**6)) < 2200
    assert estimator.cost_ms(_enlarge(1)) < 300


def test_a_wrong_estimate_fades_when_it_refuses() -> None:
    estimator = Estimator()
    slow = Request(JOB, "fast", 0)
    estimator.learn(slow, 10_000)
    assert estimator.cost_ms(slow) > 5000
    for _ in range(60):
        estimator.forget_a_little(slow)
    assert estimator.cost_ms(slow) < 500

"""The simulated queue: cases done by hand, and what must hold of any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.pool.queue import AdmissionQueue, Entry
from pixeltier.service.replay.queueing import Job, Played, play
from pixeltier.service.work.messages import ClassifyJob
from pixeltier.service.work.pool import Request

TIMES = st.floats(0, 1e5, allow_nan=False)
JOBS = st.lists(st.tuples(TIMES, st.floats(0, 1e4, allow_nan=False)), max_size=60).map(
    lambda pairs: [
        Job(arrival_ms, worker_ms) for arrival_ms, worker_ms in sorted(pairs, key=lambda one: one[0])
    ]
)


def _waits(played: Played) -> list[float]:
    return [played.wait_ms(place) for place in range(len(played.jobs))]


def test_one_worker_by_hand() -> None:
    played = play([Job(0, 10), Job(2, 10), Job(3, 5), Job(40, 1)], workers=1)
    assert played.starts_ms == [0, 10, 20, 40]
    assert _waits(played) == [0, 8, 17, 0]
    assert played.span_ms == 41
    assert played.longest_queue == 2
    assert played.utilisation(range(4)) == pytest.approx(26 / 41)
    assert played.utilisation([1]) == pytest.approx(10 / 41)


def test_two_workers_by_hand() -> None:
    """The long job keeps one worker; the other one does the rest."""
    played = play([Job(0, 100), Job(0, 10), Job(1, 10), Job(2, 10), Job(30, 10)], workers=2)
    assert played.starts_ms == [0, 0, 10, 20, 30]
    assert _waits(played) == [0, 0, 9, 18, 0]
    assert played.span_ms == 100
    assert played.longest_queue == 2
    assert played.utilisation(range(5)) == pytest.approx(140 / 200)


def test_a_later_job_may_end_earlier_and_never_begins_earlier() -> None:
    played = play([Job(0, 50), Job(1, 50), Job(2, 1)], workers=2)
    assert played.starts_ms == [0, 1, 50]
    assert played.span_ms == 51


def test_nothing_to_play() -> None:
    played = play([], workers=3)
    assert (played.span_ms, played.longest_queue, played.utilisation([])) == (0, 0, 0)
    with pytest.raises(ValueError, match="one worker"):
        play([], workers=0)


@given(JOBS, st.integers(1, 5))
def test_more_workers_never_make_a_job_wait_longer(jobs: list[Job], workers: int) -> None:
    fewer, more = play(jobs, workers), play(jobs, workers + 1)
    assert all(late >= soon for late, soon in zip(_waits(fewer), _waits(more), strict=True))
    assert more.longest_queue <= fewer.longest_queue


@given(JOBS, st.integers(1, 5))
def test_first_come_first_served(jobs: list[Job], workers: int) -> None:
    played = play(jobs, workers)
    assert played.starts_ms == sorted(played.starts_ms)
    assert all(wait_ms >= 0 for wait_ms in _waits(played))


@given(JOBS, st.integers(1, 5))
def test_never_more_jobs_at_work_than_workers_and_no_worker_idle_while_one_waits(
    jobs: list[Job], workers: int
) -> None:
    played = play(jobs, workers)
    ends_ms = [start + job.worker_ms for start, job in zip(played.starts_ms, jobs, strict=True)]
    for place, start_ms in enumerate(played.starts_ms):
        others = [n for n in range(len(jobs)) if n != place and played.starts_ms[n] <= start_ms < ends_ms[n]]
        assert len([n for n in others if n < place]) < workers
        if played.wait_ms(place) > 0:  # it began when another ended, not later
            assert start_ms in ends_ms


@given(JOBS, st.integers(1, 5))
def test_the_work_is_conserved(jobs: list[Job], workers: int) -> None:
    played = play(jobs, workers)
    places = range(len(jobs))
    assert len(played.starts_ms) == len(jobs)
    assert 0 <= played.utilisation(places) <= 1 + 1e-9
    parts = sum(played.utilisation([place]) for place in places)
    assert parts == pytest.approx(played.utilisation(places))
    busy_ms = sum(job.worker_ms for job in jobs)
    assert played.utilisation(places) * workers * played.span_ms == pytest.approx(
        busy_ms if played.span_ms else 0
    )


@given(JOBS, st.integers(1, 5))
def test_as_many_workers_as_jobs_let_nobody_wait(jobs: list[Job], more: int) -> None:
    played = play(jobs, len(jobs) + more)
    assert _waits(played) == [0] * len(jobs)
    assert played.longest_queue == 0


@given(st.lists(st.floats(0, 1000), max_size=30), st.floats(0.001, 100))
async def test_the_service_s_own_queue_gives_the_same_order(gaps: list[float], timeout_s: float) -> None:
    """Requests of one urgency and one timeout."""
    queue, job = AdmissionQueue(100), ClassifyJob(body=b"", threshold=0.5, top_k=5, max_pixels=1)
    arrivals, now = [], 0.0
    for gap in gaps:
        now += gap
        arrivals.append(now)
    for arrival in arrivals:
        queue.push(Entry(Request(job, "any", arrival + timeout_s), arrival, 10, None))  # type: ignore[arg-type]
    popped = [entry.enqueued for entry in iter(queue.pop, None)]
    assert popped == arrivals

"""The pool: one bounded queue before W slots, exact accounts of who crashed, nothing accepted lost."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from service.pool.estimate import UNKNOWN_PIXELS, Estimator
from service.pool.interface import (
    DeadlineExceededError,
    Done,
    LatencyInfeasibleError,
    NotReadyError,
    Observer,
    PoolReport,
    QueueFullError,
    Request,
    RestartReason,
    Slot,
    SlotDiedError,
    SlotReport,
    SlotState,
    WorkerCrashedError,
)
from service.pool.latency import LatencyModel
from service.pool.queue import AdmissionQueue, Entry
from service.pool.resident_memory import resident_bytes
from service.tasks import Task
from service.worker.messages import Answer, ClassifyAnswer, CompareJob, Job, SuperResolveAnswer

log = logging.getLogger("pixeltier.pool")

PREFETCH_BELOW_MS = 60.0
"""A slot gets its next job early only while the one it runs is this short: the pipe's latency is then hidden,
and no job is stuck behind a long one while another slot falls idle."""

PREFETCH_AFTER_S = 0.002
"""How long a busy slot's next job waits for a more urgent one that arrives with it."""

BATCH_WITHIN_MS = 100.0
"""A batch is expected to take no longer: its first image waits for its last, and longer jobs gain nothing together."""

RETRIES = 1

START_RETRY_S = 2.0
"""What Retry-After says while the slots are warming up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The pool's numbers; see the settings of the same names."""

    queue_limit: int = 64
    hang_timeout_s: float = 660.0
    hang_grace_s: float = 10.0
    start_timeout_s: float = 180.0
    restart_backoff_s: float = 0.2
    restart_backoff_limit_s: float = 30.0
    crash_limit: int = 5
    slot_memory_bytes: int = 0
    max_batch: int = 1


@dataclass(slots=True, eq=False)
class _Flight:
    """Jobs that are in a slot together."""

    entries: list[Entry]
    future: asyncio.Future[list[Answer]]
    cost_ms: float
    started: float


@dataclass(slots=True, eq=False)
class _Seat:
    """A slot and what it holds."""

    name: str
    slot: Slot
    state: SlotState = SlotState.STARTING
    flights: deque[_Flight] = field(default_factory=deque)
    lost: asyncio.Future[RestartReason] | None = None
    """Resolved with the reason when the slot must be started again."""
    watchdog: asyncio.TimerHandle | None = None
    crashes: int = 0
    was_warm: bool = False
    worked: bool = False
    """Whether it did a job since it was started."""

    @property
    def serving(self) -> bool:
        """Whether the slot is warm and nothing is known against it."""
        return (
            self.lost is not None and not self.lost.done() and self.state in {SlotState.IDLE, SlotState.BUSY}
        )

    def lose(self, reason: RestartReason) -> None:
        """Have the slot started again; the first reason counts."""
        if self.lost is not None and not self.lost.done():
            self.lost.set_result(reason)


class Dispatcher:
    """Implements `service.pool.interface.Pool` over any slots."""

    def __init__(self, slots: Sequence[tuple[str, Slot]], limits: Limits, observer: Observer) -> None:
        self._limits = limits
        self._observer = observer
        self._queue = AdmissionQueue(limits.queue_limit)
        self._estimator = Estimator()
        self._latency = LatencyModel()
        self._seats = [_Seat(name, slot) for name, slot in slots]
        for seat in self._seats:
            seat.slot.on_death(partial(seat.lose, RestartReason.CRASH))
        self._tasks: list[asyncio.Task[None]] = []
        self._ahead: asyncio.TimerHandle | None = None
        self._draining = False
        self._stopped = False

    # ---- what the routes use -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start one tending task a slot."""
        self._tasks = [asyncio.create_task(self._tend(seat), name=seat.name) for seat in self._seats]

    async def run(self, request: Request) -> Done:
        """Queue the job and wait for its answer; see `Pool.run`."""
        entry = self._admit(request)
        try:
            async with asyncio.timeout_at(self._loop_time(request.deadline)):
                return await entry.future
        except TimeoutError:
            where = "in the queue" if entry.queued else "at work"
            raise DeadlineExceededError(f"the deadline passed while the job was {where}") from None
        finally:
            # The client may be gone or its time over: a queued job's place is free again at once.
            self._queue.discard(entry)

    def predict_ms(self, task: Task, macs: float, pixels: float) -> float:
        """By the latency model; see `Pool.predict_ms`."""
        return self._latency.predict(task, macs, pixels)

    def begin_drain(self) -> None:
        """Not ready from now on."""
        self._draining = True

    async def stop(self, timeout_s: float) -> None:
        """Finish what was accepted, bounded, then end everything."""
        self._draining = self._stopped = True
        end = time.monotonic() + timeout_s
        while (len(self._queue) or any(seat.flights for seat in self._seats)) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = [flight.entries for seat in self._seats for flight in seat.flights]
        for entry in [entry for entries in left for entry in entries]:
            _fail(entry, NotReadyError("the service stopped before the job was done", START_RETRY_S))
        while (entry_left := self._queue.pop()) is not None:
            _fail(entry_left, NotReadyError("the service stopped before the job began", START_RETRY_S))
        await asyncio.gather(*(seat.slot.stop(max(1.0, end - time.monotonic())) for seat in self._seats))
        for seat in self._seats:
            seat.state = SlotState.STOPPED
            seat.flights.clear()

    def report(self) -> PoolReport:
        """The state now."""
        why_not = self._why_not_ready()
        return PoolReport(
            queue_depth=len(self._queue),
            queue_limit=self._queue.limit,
            wait_estimate_s=self._wait_ms() / 1000.0,
            slots=tuple(SlotReport(seat.name, seat.state, seat.slot.pid) for seat in self._seats),
            ready=not why_not,
            why_not=why_not,
            draining=self._draining,
        )

    # ---- admission -----------------------------------------------------------------------------------

    def _admit(self, request: Request) -> Entry:
        if self._stopped:
            raise NotReadyError("the service is stopping", START_RETRY_S)
        if (why := self._why_not_ready()) and not self._draining:
            raise NotReadyError(why, START_RETRY_S)
        now = time.monotonic()
        left_ms = (request.deadline - now) * 1000.0
        if left_ms <= 0:
            raise DeadlineExceededError("the deadline passed before the job was queued")
        wait_ms = self._wait_ms()
        if self._queue.full:
            raise QueueFullError(wait_ms / 1000.0)
        if request.background and (len(self._queue) or not self._has_idle_seat()):
            raise QueueFullError(wait_ms / 1000.0)
        cost_ms = self._estimator.cost_ms(request)
        if len(self._queue) and wait_ms + cost_ms > left_ms:
            # Accepting it would only spend a slot's time on an answer that comes too late.
            self._estimator.forget_a_little(request)
            raise QueueFullError(max(0.0, wait_ms + cost_ms - left_ms) / 1000.0)
        self._check_latency(request)
        entry = Entry(request, now, cost_ms, asyncio.get_running_loop().create_future())
        if request.background:  # no request waits behind it in a slot, and none is worth a second crash
            entry.alone, entry.attempts = True, RETRIES
        self._queue.push(entry)
        self._dispatch(SlotState.IDLE)  # here and now: no turn of the event loop is lost
        if len(self._queue) and self._ahead is None:
            self._ahead = asyncio.get_running_loop().call_later(PREFETCH_AFTER_S, self._send_ahead)
        return entry

    def _send_ahead(self) -> None:
        self._ahead = None
        self._dispatch(SlotState.IDLE, SlotState.BUSY)

    def _check_latency(self, request: Request) -> None:
        """Refuse a latency budget that even an idle service could not meet."""
        if request.max_latency_ms is None:
            return
        least_ms = self._latency.least(request.job.task, request.pixels or UNKNOWN_PIXELS)
        if least_ms > request.max_latency_ms:
            self._latency.doubt(request.job.task)
            raise LatencyInfeasibleError(least_ms)

    def _has_idle_seat(self) -> bool:
        return any(seat.state is SlotState.IDLE and not seat.flights for seat in self._seats)

    def _why_not_ready(self) -> str:
        if self._draining:
            return "the service is draining"
        warm = [seat for seat in self._seats if seat.state in {SlotState.IDLE, SlotState.BUSY}]
        if not warm and not any(seat.was_warm for seat in self._seats):
            return "the worker slots are warming up"
        if not warm and all(seat.crashes >= self._limits.crash_limit for seat in self._seats):
            return "the worker slots crashed too often"
        # While slots restart after a crash jobs still queue: a restart takes less than most deadlines.
        return ""

    def _wait_ms(self) -> float:
        now = time.monotonic()
        running = sum(
            max(0.0, flight.cost_ms - (now - flight.started) * 1000.0)
            for seat in self._seats
            for flight in seat.flights
        )
        warm = sum(seat.state in {SlotState.IDLE, SlotState.BUSY} for seat in self._seats)
        idle = any(seat.state is SlotState.IDLE for seat in self._seats)
        return 0.0 if idle and not len(self._queue) else (self._queue.cost_ms + running) / max(1, warm)

    @staticmethod
    def _loop_time(monotonic: float) -> float:
        return asyncio.get_running_loop().time() + (monotonic - time.monotonic())

    # ---- one slot's life -----------------------------------------------------------------------------

    async def _tend(self, seat: _Seat) -> None:
        """Start the slot, serve from it, start it again whenever it ends; for ever."""
        while True:
            lost = seat.lost = asyncio.get_running_loop().create_future()
            reason = await self._start(seat)
            if reason is None:
                reason = await self._serve(seat, lost)
            self._observer.slot_restarted(reason)
            if reason is RestartReason.MEMORY:
                seat.state = SlotState.STARTING
                await seat.slot.stop(5.0)
                continue
            seat.crashes += 1
            seat.slot.kill()
            seat.state = SlotState.BACKOFF
            pause = self._limits.restart_backoff_s * 2.0 ** min(20, seat.crashes - 1)
            await asyncio.sleep(min(pause, self._limits.restart_backoff_limit_s))

    async def _start(self, seat: _Seat) -> RestartReason | None:
        seat.state = SlotState.STARTING
        try:
            ready = await asyncio.wait_for(seat.slot.start(), self._limits.start_timeout_s)
        except Exception as error:
            log.exception("slot did not start", extra={"slot": seat.name, "error": repr(error)})
            return RestartReason.START_FAILED
        seat.state = SlotState.IDLE
        seat.was_warm, seat.worked = True, False
        self._observer.slot_ready(ready)
        log.info(
            "slot ready", extra={"slot": seat.name, "pid": ready.pid, "warm_up_ms": round(ready.warm_up_ms)}
        )
        return None

    async def _serve(self, seat: _Seat, lost: asyncio.Future[RestartReason]) -> RestartReason:
        """Let the slot have jobs until it must be started again; says why.

        The jobs come and go in callbacks (`_dispatch`, `_landed`), so that none waits for this task's turn.
        """
        self._dispatch(SlotState.IDLE, SlotState.BUSY)
        self._settle(seat)
        try:
            reason = await lost
        finally:
            if seat.watchdog is not None:
                seat.watchdog.cancel()
        self._collect(seat)  # what was answered before the end
        if reason is not RestartReason.MEMORY:
            log.error("slot lost", extra={"slot": seat.name, "reason": str(reason), "pid": seat.slot.pid})
        self._account_for_crash(seat)
        return reason

    def _dispatch(self, *states: SlotState) -> None:
        """Give waiting jobs to the slots in these states that may take some."""
        for state in states:
            for seat in self._seats:
                if len(self._queue) and seat.state is state and self._may_take(seat):
                    self._fill(seat)
                    self._settle(seat)

    def _settle(self, seat: _Seat) -> None:
        """After a slot's flights changed: its state, and when it counts as hanging."""
        if not seat.serving:
            return
        seat.state = SlotState.BUSY if seat.flights else SlotState.IDLE
        if seat.watchdog is not None:
            seat.watchdog.cancel()
            seat.watchdog = None
        if seat.flights:
            left_s = max(0.0, self._patience(seat.flights[0]) - time.monotonic())
            seat.watchdog = asyncio.get_running_loop().call_later(left_s, seat.lose, RestartReason.HANG)
        elif seat.worked and self._too_big(seat):  # a fresh one that is too big would be again
            seat.lose(RestartReason.MEMORY)

    def _patience(self, flight: _Flight) -> float:
        """When a flight counts as hanging: at the latest a while after nobody waits for it any more."""
        last_deadline = max(entry.request.deadline for entry in flight.entries)
        unwanted = max(flight.started, last_deadline) + self._limits.hang_grace_s
        return min(flight.started + self._limits.hang_timeout_s, unwanted)

    def _may_take(self, seat: _Seat) -> bool:
        if not seat.serving:
            return False
        if not seat.flights:
            return True
        if (
            len(seat.flights) > 1
            or seat.flights[0].cost_ms > PREFETCH_BELOW_MS
            or seat.flights[0].entries[0].alone
        ):
            return False
        return not any(other.state is SlotState.IDLE for other in self._seats if other is not seat)

    def _collect(self, seat: _Seat) -> None:
        """Answer the jobs of the flights that landed."""
        while seat.flights and seat.flights[0].future.done():
            flight = seat.flights[0]
            error = None if flight.future.cancelled() else flight.future.exception()
            if flight.future.cancelled() or isinstance(error, SlotDiedError):
                seat.lose(RestartReason.CRASH)
                return
            seat.flights.popleft()
            now = time.monotonic()
            if seat.flights:  # what was sent early begins only now
                seat.flights[0].started = now
            if error is not None:  # the pipe is whole, so the slot is: only these jobs are lost
                for entry in flight.entries:
                    _fail(entry, error)
                continue
            seat.crashes = 0
            seat.worked = True
            took_ms = (now - flight.started) * 1000.0
            answers = flight.future.result()
            predicted_ms = self._predict(flight, answers, took_ms)
            for entry, answer in zip(flight.entries, answers, strict=True):
                self._estimator.learn(entry.request, took_ms / len(flight.entries))
                if not entry.future.done():
                    queue_ms = (flight.started - entry.enqueued) * 1000.0
                    entry.future.set_result(Done(answer, queue_ms, took_ms, predicted_ms))

    def _predict(self, flight: _Flight, answers: Sequence[Answer], took_ms: float) -> float | None:
        """What the latency model says of a flight, before the model learns how long it took."""
        works = [one.work for one in answers if isinstance(one, ClassifyAnswer | SuperResolveAnswer)]
        if len(works) < len(answers):
            return None
        task = flight.entries[0].request.job.task
        macs, pixels = sum(work.macs_executed for work in works), sum(work.pixels for work in works)
        predicted_ms = self._latency.predict(task, macs, pixels)
        self._latency.learn(task, works, took_ms)
        return predicted_ms

    def _job(self, entry: Entry, seat: _Seat) -> Job:
        """The entry's job; one with a latency budget is told the MACs that the time left is good for."""
        request = entry.request
        if request.max_latency_ms is None or isinstance(request.job, CompareJob):
            return request.job
        now = time.monotonic()
        ahead_ms = sum(max(0.0, f.cost_ms - (now - f.started) * 1000.0) for f in seat.flights)
        left_ms = request.max_latency_ms - (now - request.began) * 1000.0 - ahead_ms
        macs = self._latency.macs_within(request.job.task, left_ms, request.pixels or UNKNOWN_PIXELS)
        return replace(request.job, limits=replace(request.job.limits, target_macs=macs))

    def _landed(self, seat: _Seat) -> None:
        """A flight is back: answer it and send the next jobs."""
        if seat.serving:
            self._collect(seat)
            self._fill(seat)
            self._settle(seat)

    def _fill(self, seat: _Seat) -> None:
        """Send the next jobs to the slot while it may take some."""
        while self._may_take(seat):
            entries = self._take()
            if not entries:
                return
            jobs: tuple[Job, ...] = tuple(self._job(entry, seat) for entry in entries)
            try:
                future = seat.slot.submit(jobs)
            except SlotDiedError:
                for entry in entries:  # they never began: no attempt is spent
                    self._queue.push(entry)
                seat.lose(RestartReason.CRASH)
                return
            self._observer.batch_started(jobs)
            seat.flights.append(_Flight(entries, future, sum(e.cost_ms for e in entries), time.monotonic()))
            seat.state = SlotState.BUSY
            future.add_done_callback(lambda _: self._landed(seat))

    def _take(self) -> list[Entry]:
        """The next job; with it those classify jobs right behind it that may share its batch."""
        entries: list[Entry] = []
        spare_ms = BATCH_WITHIN_MS  # what the batch may still grow by without being too late for anyone in it
        while (entry := self._queue.peek()) is not None:
            if entries and (not _batch(entries[0], entry) or entry.cost_ms > spare_ms):
                break
            self._queue.pop()
            if entry.future.done():
                continue
            self._bind(entry)
            left_ms = (entry.request.deadline - time.monotonic()) * 1000.0
            if left_ms < 0.5 * entry.cost_ms:  # half: the estimate is a mean, not a bound
                self._estimator.forget_a_little(entry.request)
                _fail(entry, DeadlineExceededError("the time left does not suffice for the job"))
                continue
            entries.append(entry)
            spare_ms = min(spare_ms, left_ms) - entry.cost_ms
            if len(entries) >= self._limits.max_batch:
                break
        return entries

    def _bind(self, entry: Entry) -> None:
        """Let a job that leaves the queue be what the tier table and the pressure of this moment make of it."""
        if entry.request.at_dispatch is None:
            return
        job, tier = entry.request.at_dispatch()
        if tier != entry.request.tier:
            entry.request = replace(entry.request, job=job, tier=tier)
            entry.cost_ms = self._estimator.cost_ms(entry.request)
        else:
            entry.request = replace(entry.request, job=job)

    def _account_for_crash(self, seat: _Seat) -> None:
        """The flight at work pays an attempt; the one sent early goes back without."""
        for place, flight in enumerate(seat.flights):
            if flight.future.done() and not flight.future.cancelled():
                flight.future.exception()  # seen
            guilty = place == 0
            for entry in flight.entries:
                if entry.future.done():
                    continue
                entry.attempts += guilty
                entry.alone = entry.alone or guilty  # the second try shares a slot with no one
                if entry.attempts > RETRIES:
                    _fail(entry, WorkerCrashedError("the worker died at this job, twice"))
                else:
                    self._queue.push(entry)
        seat.flights.clear()
        seat.state = SlotState.STARTING
        self._dispatch(SlotState.IDLE, SlotState.BUSY)

    def _too_big(self, seat: _Seat) -> bool:
        limit = self._limits.slot_memory_bytes
        return bool(limit and seat.slot.pid and resident_bytes(seat.slot.pid) > limit)


def _batch(first: Entry, entry: Entry) -> bool:
    """Whether two jobs may share a batch: not one that must run alone, and none that counts its milliseconds."""
    pair = (first, entry)
    return all(
        one.request.job.task is Task.CLASSIFY and not one.alone and one.request.max_latency_ms is None
        for one in pair
    )


def _fail(entry: Entry, error: BaseException) -> None:
    if not entry.future.done():
        entry.future.set_exception(error)
        entry.future.exception()  # an abandoned job's error is nobody's surprise

"""Which job goes to which worker, and when: one bounded queue, estimates of how long jobs take, batches."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pixeltier.service.pool.estimate import UNKNOWN_PIXELS, Estimator
from pixeltier.service.pool.latency import LatencyModel
from pixeltier.service.pool.limits import PoolLimits
from pixeltier.service.pool.pooled_worker import Batch, PooledWorker, fail
from pixeltier.service.pool.queue import AdmissionQueue, Entry
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.resident_memory import resident_bytes
from pixeltier.service.work.messages import (
    Answer,
    Cancelled,
    ClassifyAnswer,
    CompareJob,
    Job,
    SuperResolveAnswer,
)
from pixeltier.service.work.pool import (
    DeadlineExceededError,
    Done,
    LatencyInfeasibleError,
    PoolObserver,
    QueueFullError,
    Request,
    RestartReason,
    WorkerCrashedError,
    WorkerDiedError,
    WorkerState,
)

PREFETCH_BELOW_MS = 60.0
"""A worker gets its next job early only while the one it runs is this short: the pipe's latency is then hidden,
and no job is stuck behind a long one while another worker falls idle."""

PREFETCH_AFTER_S = 0.002
"""How long a busy worker's next job waits for a more urgent one that arrives with it."""

BATCH_WITHIN_MS = 100.0
"""A batch is expected to take no longer: its first image waits for its last, and longer jobs gain nothing together."""

RETRIES = 1


class Scheduler:
    """Admits jobs, hands them to workers that may take some, and answers them as they come back.

    Jobs come and go in callbacks, so that none waits for a task's turn. What becomes of a worker that is lost is the
    supervisor's: it calls `offer`, `collect` and `return_jobs`.
    """

    def __init__(self, workers: Sequence[PooledWorker], limits: PoolLimits, observer: PoolObserver) -> None:
        self._workers = workers
        self._limits = limits
        self._observer = observer
        self._queue = AdmissionQueue(limits.queue_limit)
        self._estimator = Estimator()
        self._latency = LatencyModel()
        self._ahead: asyncio.TimerHandle | None = None
        for worker in workers:
            worker.handle.on_progress(partial(_progressed, worker))

    @property
    def queue_depth(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def queue_limit(self) -> int:
        """Jobs that may wait."""
        return self._queue.limit

    def admit(self, request: Request) -> Entry:
        """Queue a job and send it on where a worker is idle.

        Raises:
            DeadlineExceededError, LatencyInfeasibleError, QueueFullError: see `Pool.run`.
        """
        now = time.monotonic()
        left_ms = (request.deadline - now) * 1000.0
        if left_ms <= 0:
            raise DeadlineExceededError("the deadline passed before the job was queued")
        wait_ms = self.wait_ms()
        if self._queue.full:
            raise QueueFullError(wait_ms / 1000.0)
        if request.background and (len(self._queue) or not self._has_idle_worker()):
            raise QueueFullError(wait_ms / 1000.0)
        cost_ms = self._estimator.cost_ms(request)
        if len(self._queue) and wait_ms + cost_ms > left_ms:
            # Accepting it would only spend a worker's time on an answer that comes too late.
            self._estimator.forget_a_little(request)
            raise QueueFullError(max(0.0, wait_ms + cost_ms - left_ms) / 1000.0)
        self._check_latency(request)
        entry = Entry(request, now, cost_ms, asyncio.get_running_loop().create_future())
        if request.background:  # no request waits behind it in a worker, and none is worth a second crash
            entry.alone, entry.attempts = True, RETRIES
        self._queue.push(entry)
        self._dispatch(WorkerState.IDLE)  # here and now: no turn of the event loop is lost
        if len(self._queue) and self._ahead is None:
            self._ahead = asyncio.get_running_loop().call_later(PREFETCH_AFTER_S, self._send_ahead)
        return entry

    def discard(self, entry: Entry) -> None:
        """Free the place of a job that nobody waits for any more; a worker that has it may give it up."""
        self._queue.discard(entry)
        for worker in self._workers:
            for batch in worker.batches:
                if entry in batch.entries and all(one.future.done() for one in batch.entries):
                    worker.handle.cancel(batch.future)

    def take_rest(self) -> list[Entry]:
        """Empty the queue."""
        rest = []
        while (entry := self._queue.pop()) is not None:
            rest.append(entry)
        return rest

    def predict_ms(self, task: Task, macs: float, pixels: float) -> float:
        """By the latency model; see `Pool.predict_ms`."""
        return self._latency.predict(task, macs, pixels)

    def offer(self, worker: PooledWorker) -> None:
        """Let a worker that is warm have jobs."""
        self._dispatch(WorkerState.IDLE, WorkerState.BUSY)
        self._settle(worker)

    def wait_ms(self) -> float:
        """What a job arriving now would wait."""
        now = time.monotonic()
        running = sum(
            max(0.0, batch.cost_ms - (now - batch.started) * 1000.0)
            for worker in self._workers
            for batch in worker.batches
        )
        warm = sum(worker.state in {WorkerState.IDLE, WorkerState.BUSY} for worker in self._workers)
        idle = any(worker.state is WorkerState.IDLE for worker in self._workers)
        return 0.0 if idle and not len(self._queue) else (self._queue.cost_ms + running) / max(1, warm)

    def collect(self, worker: PooledWorker) -> None:
        """Answer the jobs of the batches that landed."""
        while worker.batches and worker.batches[0].future.done():
            batch = worker.batches[0]
            error = None if batch.future.cancelled() else batch.future.exception()
            if batch.future.cancelled() or isinstance(error, WorkerDiedError):
                worker.lose(RestartReason.CRASH)
                return
            worker.batches.popleft()
            now = time.monotonic()
            if worker.batches:  # what was sent early begins only now
                worker.batches[0].started = now
            if error is not None:  # the pipe is whole, so the worker is: only these jobs are lost
                for entry in batch.entries:
                    fail(entry, error)
                continue
            worker.crashes = 0
            worker.worked = True
            took_ms = (now - batch.started) * 1000.0
            answers = batch.future.result()
            predicted_ms = self._predict(batch, answers, took_ms)
            for entry, answer in zip(batch.entries, answers, strict=True):
                if not isinstance(answer, Cancelled):
                    self._estimator.learn(entry.request, took_ms / len(batch.entries))
                if not entry.future.done():
                    queue_ms = (batch.started - entry.enqueued) * 1000.0
                    entry.future.set_result(Done(answer, queue_ms, took_ms, predicted_ms))

    def return_jobs(self, worker: PooledWorker) -> None:
        """Queue the jobs of a lost worker again: those at work pay an attempt, those sent early none."""
        for place, batch in enumerate(worker.batches):
            if batch.future.done() and not batch.future.cancelled():
                batch.future.exception()  # seen
            guilty = place == 0
            for entry in batch.entries:
                if entry.future.done():
                    continue
                entry.attempts += guilty
                entry.alone = entry.alone or guilty  # the second try shares a worker with no one
                if entry.attempts > RETRIES:
                    fail(entry, WorkerCrashedError("the worker died at this job, twice"))
                else:
                    self._queue.push(entry)
        worker.batches.clear()
        worker.state = WorkerState.STARTING
        self._dispatch(WorkerState.IDLE, WorkerState.BUSY)

    def _send_ahead(self) -> None:
        self._ahead = None
        self._dispatch(WorkerState.IDLE, WorkerState.BUSY)

    def _check_latency(self, request: Request) -> None:
        """Refuse a latency budget that even an idle service could not meet."""
        if request.max_latency_ms is None:
            return
        least_ms = self._latency.least(request.job.task, request.pixels or UNKNOWN_PIXELS)
        if least_ms > request.max_latency_ms:
            self._latency.doubt(request.job.task)
            raise LatencyInfeasibleError(least_ms)

    def _has_idle_worker(self) -> bool:
        return any(worker.state is WorkerState.IDLE and not worker.batches for worker in self._workers)

    def _dispatch(self, *states: WorkerState) -> None:
        """Give waiting jobs to the workers in these states that may take some."""
        for state in states:
            for worker in self._workers:
                if len(self._queue) and worker.state is state and self._may_take(worker):
                    self._fill(worker)
                    self._settle(worker)

    def _settle(self, worker: PooledWorker) -> None:
        """After a worker's batches changed: its state, and when it counts as hanging."""
        if not worker.serving:
            return
        worker.state = WorkerState.BUSY if worker.batches else WorkerState.IDLE
        if worker.watchdog is not None:
            worker.watchdog.cancel()
            worker.watchdog = None
        if worker.batches:
            left_s = max(0.0, self._patience(worker.batches[0]) - time.monotonic())
            worker.watchdog = asyncio.get_running_loop().call_later(left_s, worker.lose, RestartReason.HANG)
        elif worker.worked and self._too_big(worker):  # a fresh one that is too big would be again
            worker.lose(RestartReason.MEMORY)

    def _patience(self, batch: Batch) -> float:
        """When a batch counts as hanging: at the latest a while after nobody waits for it any more."""
        last_deadline = max(entry.request.deadline for entry in batch.entries)
        unwanted = max(batch.started, last_deadline) + self._limits.hang_grace_s
        return min(batch.started + self._limits.hang_timeout_s, unwanted)

    def _may_take(self, worker: PooledWorker) -> bool:
        if not worker.serving:
            return False
        if not worker.batches:
            return True
        if (
            len(worker.batches) > 1
            or worker.batches[0].cost_ms > PREFETCH_BELOW_MS
            or worker.batches[0].entries[0].alone
        ):
            return False
        return not any(other.state is WorkerState.IDLE for other in self._workers if other is not worker)

    def _predict(self, batch: Batch, answers: Sequence[Answer], took_ms: float) -> float | None:
        """What the latency model says of a batch, before the model learns how long it took."""
        works = [one.work for one in answers if isinstance(one, ClassifyAnswer | SuperResolveAnswer)]
        if len(works) < len(answers):
            return None
        task = batch.entries[0].request.job.task
        macs, pixels = sum(work.macs_executed for work in works), sum(work.pixels for work in works)
        predicted_ms = self._latency.predict(task, macs, pixels)
        self._latency.learn(task, works, took_ms)
        return predicted_ms

    def _job(self, entry: Entry, worker: PooledWorker) -> Job:
        """The entry's job; one with a latency budget is told the MACs that the time left is good for."""
        request = entry.request
        if request.max_latency_ms is None or isinstance(request.job, CompareJob):
            return request.job
        now = time.monotonic()
        ahead_ms = sum(max(0.0, batch.cost_ms - (now - batch.started) * 1000.0) for batch in worker.batches)
        left_ms = request.max_latency_ms - (now - request.began) * 1000.0 - ahead_ms
        macs = self._latency.macs_within(request.job.task, left_ms, request.pixels or UNKNOWN_PIXELS)
        return replace(request.job, limits=replace(request.job.limits, target_macs=macs))

    def _landed(self, worker: PooledWorker) -> None:
        """A batch is back: answer it and send the next jobs."""
        if worker.serving:
            self.collect(worker)
            self._fill(worker)
            self._settle(worker)

    def _fill(self, worker: PooledWorker) -> None:
        """Send the next jobs to the worker while it may take some."""
        while self._may_take(worker):
            entries = self._take()
            if not entries:
                return
            jobs: tuple[Job, ...] = tuple(self._job(entry, worker) for entry in entries)
            try:
                future = worker.handle.submit(jobs)
            except WorkerDiedError:
                for entry in entries:  # they never began: no attempt is spent
                    self._queue.push(entry)
                worker.lose(RestartReason.CRASH)
                return
            self._observer.batch_started(jobs)
            worker.batches.append(Batch(entries, future, sum(e.cost_ms for e in entries), time.monotonic()))
            worker.state = WorkerState.BUSY
            future.add_done_callback(lambda _: self._landed(worker))

    def _take(self) -> list[Entry]:
        """The next job; with it those classify jobs right behind it that may share its batch."""
        entries: list[Entry] = []
        spare_ms = BATCH_WITHIN_MS  # what the batch may still grow by without being too late for anyone in it
        while (entry := self._queue.peek()) is not None:
            if entries and (not _may_share(entries[0], entry) or entry.cost_ms > spare_ms):
                break
            self._queue.pop()
            if entry.future.done():
                continue
            self._bind(entry)
            left_ms = (entry.request.deadline - time.monotonic()) * 1000.0
            if left_ms < 0.5 * entry.cost_ms:  # half: the estimate is a mean, not a bound
                self._estimator.forget_a_little(entry.request)
                fail(entry, DeadlineExceededError("the time left does not suffice for the job"))
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

    def _too_big(self, worker: PooledWorker) -> bool:
        limit = self._limits.slot_memory_bytes
        return bool(limit and worker.handle.pid and resident_bytes(worker.handle.pid) > limit)


def _progressed(worker: PooledWorker, done: int, total: int) -> None:
    """Pass on what a worker says of the job at work."""
    for entry in worker.batches[0].entries if worker.batches else ():
        if entry.request.progress is not None and not entry.future.done():
            entry.request.progress(done, total)


def _may_share(first: Entry, entry: Entry) -> bool:
    """Whether two jobs may share a batch: not one that must run alone, and none that counts its milliseconds."""
    pair = (first, entry)
    return all(
        SPECS[one.request.job.task].batched and not one.alone and one.request.max_latency_ms is None
        for one in pair
    )

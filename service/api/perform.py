"""From a request's image to a worker's answer: limits, deadline, disconnect, the pool's errors as problems."""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from pixeltier.service.api import image_header
from pixeltier.service.api.access import Limits, check_tier
from pixeltier.service.api.body import is_form, read_upload
from pixeltier.service.api.context import AppContext
from pixeltier.service.api.parameters import Given, Options, resolve
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.tasks import CUSTOM_TIER, Task
from pixeltier.service.telemetry.record import RequestRecord, Sample, record_of
from pixeltier.service.work import pool
from pixeltier.service.work.messages import (
    ClassifyAnswer,
    CompareAnswer,
    CostLimits,
    Failed,
    Infeasible,
    Job,
    Rejected,
    RequestJob,
    SuperResolveAnswer,
)

log = logging.getLogger("pixeltier.api")

T = TypeVar("T")

MakeJob = Callable[[bytes, float], RequestJob]
"""Builds the job from the image's bytes and the threshold."""


async def perform(
    request: Request, context: AppContext, task: Task, given: Given, make_job: Callable[[Options], MakeJob]
) -> ClassifyAnswer | SuperResolveAnswer:
    """Do one job for a request whose body is the image, or a form with it; fills in its record.

    Raises:
        ProblemError, RequestValidationError: whatever went wrong.
    """
    record_of(request).task = task
    with context.access.admit(request) as limits:

        def check(options: Options) -> MakeJob:
            check_tier(limits, resolve(options, context.tiers.snapshot, task)[0])
            return make_job(options)

        options, form = given.options(), is_form(request)
        if (
            not form
        ):  # an unknown or forbidden tier is told before the body is read; a form may yet name another
            check(options)
        reading = read_upload(request, context.settings.max_body_bytes)
        upload = await in_time(request, reading, deadline_of(request, context, options))
        if form:
            options = given.options(upload.fields)
        return await submit(request, context, task, options, check(options), upload.image, limits)


def deadline_of(request: Request, context: AppContext, options: Options) -> float:
    """When the answer becomes worthless, by the monotonic clock."""
    settings = context.settings
    timeout_ms = min(options.timeout_ms or settings.default_timeout_ms, settings.max_timeout_ms)
    return record_of(request).started + timeout_ms / 1000.0


async def submit(
    request: Request,
    context: AppContext,
    task: Task,
    options: Options,
    make_job: MakeJob,
    body: bytes,
    limits: Limits,
) -> ClassifyAnswer | SuperResolveAnswer:
    """Do one job for a request whose image is at hand; see `perform`."""
    record = record_of(request)
    record.task = task
    settings = context.settings
    pixels = _check_header(
        body, settings.classify_max_pixels if task is Task.CLASSIFY else settings.sr_max_pixels
    )
    binder = _Binder(context, record, task, options, make_job, body)
    job, tier = binder()
    check_tier(limits, record.tier)
    urgency = max(limits.urgency, options.urgency)
    record.model_version = context.catalogue.models[task].version
    deadline = deadline_of(request, context, options)
    record.max_latency_ms = options.max_latency_ms
    wanted = pool.Request(
        job=job,
        tier=tier,
        deadline=deadline,
        urgency=urgency,
        pixels=pixels,
        max_latency_ms=options.max_latency_ms,
        at_dispatch=binder,
        began=record.started,
    )
    try:
        done = await _until_disconnect(request, _run(context.pool, wanted))
    except ProblemError as error:
        if error.problem is Problem.OVERLOADED:
            context.desk.refused()
        raise
    record.queue_ms, record.worker_ms, record.answered = done.queue_ms, done.worker_ms, time.monotonic()
    record.predicted_worker_ms = done.predicted_ms
    answer = _answer(done, record, options)
    candidate = context.desk.shadow.candidate(task, pixels)
    if candidate is not None:
        record.sample = Sample(task, body, answer.work.threshold, candidate, pixels)
    return answer


class _Binder:
    """Makes a request's job from the tier table in force: at admission, and again whenever it goes to a worker.

    So a change of the table and of the brownout's level acts on what already waits, and the answer names the version
    that served it.
    """

    def __init__(
        self,
        context: AppContext,
        record: RequestRecord,
        task: Task,
        options: Options,
        make_job: MakeJob,
        body: bytes,
    ) -> None:
        self._context = context
        self._record = record
        self._task = task
        self._options = options
        self._make_job = make_job
        self._body = body
        self._bound: tuple[Job, str] | None = None

    def __call__(self) -> tuple[Job, str]:
        """The job and the tier that answers it; notes both in the record.

        Raises:
            ProblemError: unknown-tier, the first time only: a tier that vanishes while its request waits serves it.
        """
        snapshot = self._context.tiers.snapshot
        try:
            asked, threshold = resolve(self._options, snapshot, self._task)
        except ProblemError:
            if self._bound is None:
                raise
            return self._bound
        effective, share = asked, None
        if asked != CUSTOM_TIER:
            tier = self._context.desk.effective(snapshot, snapshot.tier(asked), self._options.degradable)
            resolved = snapshot.resolved(tier.name, self._task)
            effective, threshold, share = tier.name, resolved.threshold, resolved.max_active_share
        job = self._make_job(self._body, threshold)
        if self._options.max_macs_ratio is not None or share is not None:
            limits = CostLimits(macs_ratio=self._options.max_macs_ratio, active_share=share)
            job = dataclasses.replace(job, limits=limits)
        record = self._record
        record.config_version = snapshot.version
        record.tier, record.tier_effective, record.threshold = asked, effective, threshold
        self._bound = job, effective
        return self._bound


async def in_time(request: Request, reading: Coroutine[Any, Any, T], deadline: float) -> T:
    """Wait for the upload, but not beyond the deadline: a client that dribbles holds nothing for long."""
    record = record_of(request)
    left = deadline - record.started - record.elapsed_ms / 1000.0
    try:
        async with asyncio.timeout(left):
            return await reading
    except TimeoutError:
        raise ProblemError(
            Problem.DEADLINE_EXCEEDED,
            "the deadline passed during the upload",
            headers={"Connection": "close"},
        ) from None


def _check_header(body: bytes, max_pixels: int) -> int | None:
    """Pixels by the file's header; a bomb, or what is no image at all, never reaches the queue."""
    if not body:
        raise ProblemError(Problem.UNDECODABLE_IMAGE, "the image is empty: zero bytes")
    header = image_header.read(body)
    if header is None:
        raise ProblemError(Problem.UNDECODABLE_IMAGE, "this is no JPEG, PNG or WebP image")
    if header.size is None:
        return None
    width, height = header.size
    if width * height > max_pixels:
        raise ProblemError(
            Problem.IMAGE_TOO_LARGE,
            f"the image is {width}x{height} = {width * height} pixels and the limit is {max_pixels}",
        )
    return width * height


async def _run(workers: pool.Pool, wanted: pool.Request) -> pool.Done:
    try:
        return await workers.run(wanted)
    except pool.QueueFullError as error:
        detail = f"the queue is full or too slow for the deadline; {error}"
        raise ProblemError(Problem.OVERLOADED, detail, retry_after_s=_seconds(error.retry_after_s)) from error
    except pool.NotReadyError as error:
        raise ProblemError(
            Problem.NOT_READY, str(error), retry_after_s=_seconds(error.retry_after_s)
        ) from error
    except pool.DeadlineExceededError as error:
        raise ProblemError(Problem.DEADLINE_EXCEEDED, str(error)) from error
    except pool.LatencyInfeasibleError as error:
        least = math.ceil(error.least_ms)
        detail = f"max_latency_ms {wanted.max_latency_ms:g}: {error}"
        raise ProblemError(Problem.BUDGET_INFEASIBLE, detail, least_budget=least) from error
    except pool.WorkerCrashedError as error:
        raise ProblemError(Problem.WORKER_CRASHED, str(error)) from error


def _seconds(estimate: float) -> int:
    return max(1, math.ceil(estimate))


async def _until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or stop it when the client goes away: its queued job then frees its place."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(done: pool.Done, record: RequestRecord, options: Options) -> ClassifyAnswer | SuperResolveAnswer:
    answer = done.answer
    if isinstance(answer, Infeasible):
        least = math.ceil(answer.macs_least / answer.macs_dense * 1e6) / 1e6  # rounded up: it must suffice
        detail = (
            f"max_macs_ratio {options.max_macs_ratio:g}: this image takes at least {least:g} of the dense "
            f"network's MACs ({answer.macs_least} of {answer.macs_dense}), at threshold 1"
        )
        raise ProblemError(Problem.BUDGET_INFEASIBLE, detail, least_budget=least)
    if isinstance(answer, Rejected):
        raise ProblemError(Problem.of_type(answer.kind), answer.detail)
    if isinstance(answer, Failed):
        log.error("job failed", extra={"request_id": record.request_id, "traceback": answer.traceback})
        raise ProblemError(
            Problem.INTERNAL, "the model failed on this image; the log has it under this request_id"
        )
    if isinstance(answer, CompareAnswer):
        raise TypeError("a request's job was answered with a comparison")
    record.work = answer.work
    record.threshold = answer.work.threshold
    return answer

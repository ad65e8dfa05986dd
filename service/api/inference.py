"""One image's request: who asks for what until when, what the tier table makes of it, and a worker's answer."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from pixeltier.models.outcome import CostLimits, Infeasible
from pixeltier.service.api import image_header
from pixeltier.service.api.access import Visit, check_tier
from pixeltier.service.api.body import check_type, is_form, read_upload
from pixeltier.service.api.context import AppContext
from pixeltier.service.api.multipart import File
from pixeltier.service.api.parameters import Given, Options, resolve
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.task_specs.registry import AnyTaskSpec
from pixeltier.service.task_specs.spec import Asked
from pixeltier.service.tasks import CUSTOM_TIER, NO_TIER
from pixeltier.service.telemetry.record import RequestRecord, Sample
from pixeltier.service.work import pool
from pixeltier.service.work.messages import (
    Cancelled,
    CompareAnswer,
    Failed,
    Job,
    Rejected,
    RequestAnswer,
)

log = logging.getLogger("pixeltier.api")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Quality:
    """What a request is computed at, by the table and the pressure of a moment."""

    tier: str
    tier_effective: str
    threshold: float
    limits: CostLimits
    config_version: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that was let in: what it may do, and where is noted what becomes of its request."""

    context: AppContext
    visit: Visit
    record: RequestRecord

    def of_image(self) -> "Admission":
        """The same for one of several images."""
        return replace(self, record=self.record.of_image())


class Watcher(Protocol):
    """Who hears how far an image has come."""

    def dispatched(self) -> None:
        """It goes to a worker."""

    def progressed(self, done: int, total: int) -> None:
        """So many of its tiles are done."""


class Inference:
    """A request for one image. Resolved at admission, and again when its job goes to a worker.

    So a change of the table and of the brownout's level acts on what already waits, and the answer names the version
    that served it. What is learnt stands in the record.
    """

    def __init__(self, admission: Admission, spec: AnyTaskSpec, options: Options) -> None:
        self.spec = spec
        self.options = options
        self.record = admission.record
        self._context = admission.context
        self._client = admission.visit.limits
        self._body = b""
        self._bound: tuple[Job, str] | None = None
        self._watcher: Watcher | None = None
        self.record.task = spec.task

    @property
    def deadline(self) -> float:
        """When the answer becomes worthless, by the monotonic clock."""
        settings = self._context.settings
        usual_ms = settings.default_timeout_ms if self._watcher is None else settings.max_timeout_ms
        timeout_ms = min(self.options.timeout_ms or usual_ms, settings.max_timeout_ms)
        return self.record.started + timeout_ms / 1000.0

    def check(self) -> None:
        """Refuse what no image could change.

        Raises:
            ProblemError: unknown-tier, forbidden.
        """
        check_tier(self._client, resolve(self.options, self._context.tiers.snapshot, self.spec.task)[0])

    async def in_time(self, reading: Coroutine[Any, Any, T]) -> T:
        """Wait for the upload, but not beyond the deadline: a client that dribbles holds nothing for long."""
        left = self.deadline - self.record.started - self.record.elapsed_ms / 1000.0
        try:
            async with asyncio.timeout(left):
                return await reading
        except TimeoutError:
            raise ProblemError(
                Problem.DEADLINE_EXCEEDED,
                "the deadline passed during the upload",
                headers={"Connection": "close"},
            ) from None

    def answer_bytes_most(self, image: bytes) -> int:
        """What the answer to an image may take.

        Raises:
            ProblemError: this is no image that can be taken.
        """
        most = self.spec.max_pixels(self._context.settings)
        return self.spec.answer_bytes_most(_check_header(image, most) or most)

    def detach(self) -> RequestRecord:
        """Go on with a record of one's own: the request is answered before its image is."""
        own = replace(self.record)
        self.record.deferred = True
        self.record = own
        return own

    async def run(self, image: bytes, watcher: Watcher | None = None) -> RequestAnswer:
        """Have the image computed; a `watcher` hears of it meanwhile, and has more time.

        Raises:
            ProblemError: whatever went wrong.
        """
        context, record, options = self._context, self.record, self.options
        self._body, self._watcher = image, watcher
        pixels = _check_header(image, self.spec.max_pixels(context.settings))
        job, tier = self._bind()
        check_tier(self._client, record.tier)
        record.model_version = context.catalogue.models[self.spec.task].version
        record.max_latency_ms = options.max_latency_ms
        wanted = pool.Request(
            job=job,
            tier=tier,
            deadline=self.deadline,
            urgency=max(self._client.urgency, options.urgency),
            pixels=pixels,
            max_latency_ms=options.max_latency_ms,
            progress=None if watcher is None else watcher.progressed,
            at_dispatch=self._dispatch,
            began=record.started,
        )
        try:
            done = await _run(context.pool, wanted)
        except ProblemError as error:
            if error.problem is Problem.OVERLOADED:
                context.desk.refused()
            raise
        record = self.record  # another one where the request was answered meanwhile
        record.queue_ms, record.worker_ms, record.answered = done.queue_ms, done.worker_ms, time.monotonic()
        record.predicted_worker_ms = done.predicted_ms
        answer = _answer(done, record, options)
        candidate = context.desk.shadow.candidate(self.spec.task, pixels)
        if candidate is not None:
            record.sample = Sample(self.spec.task, image, answer.work.threshold, candidate, pixels)
        return answer

    def _dispatch(self) -> tuple[Job, str]:
        if self._watcher is not None:
            self._watcher.dispatched()
        return self._bind()

    def _bind(self) -> tuple[Job, str]:
        """The job and the tier that answers it; notes both in the record.

        Raises:
            ProblemError: unknown-tier, the first time only: a tier that vanishes while its request waits serves it.
        """
        try:
            quality = self._resolve()
        except ProblemError:
            if self._bound is None:
                raise
            return self._bound
        asked = Asked(self._body, quality.threshold, self.options.include == "importance", quality.limits)
        record = self.record
        record.config_version = quality.config_version
        record.tier, record.tier_effective = quality.tier, quality.tier_effective
        record.threshold = quality.threshold
        job = self.spec.job(asked, self.options.own, self._context.settings)
        self._bound = job, quality.tier_effective
        return self._bound

    def _resolve(self) -> Quality:
        """Tier, threshold and limits by the table in force and the brownout's level."""
        options, task = self.options, self.spec.task
        snapshot = self._context.tiers.snapshot
        asked, threshold = resolve(options, snapshot, task)
        effective, share = asked, None
        if asked != CUSTOM_TIER:
            tier = self._context.desk.effective(snapshot, snapshot.tier(asked), options.degradable)
            resolved = snapshot.resolved(tier.name, task)
            effective, threshold, share = tier.name, resolved.threshold, resolved.max_active_share
        limits = CostLimits(macs_ratio=options.max_macs_ratio, active_share=share)
        return Quality(asked, effective, threshold, limits, snapshot.version)


@dataclass(frozen=True, slots=True)
class Submission:
    """One image of a request."""

    inference: Inference
    file: File

    async def outcome(self) -> RequestAnswer | ProblemError:
        """The answer, or what is wrong with this image alone."""
        record = self.inference.record
        try:
            check_type(self.file.type)
            return await self.inference.run(self.file.content)
        except ProblemError as error:
            record.problem = error.problem
            return error
        finally:
            record.ended = time.monotonic()


Settle = Callable[[Options, bool], Options]
"""Completes a request's options by what the representation of its answer needs, or refuses them. The flag: whether the
request holds several images."""


async def receive(request: Request, admission: Admission, given: Given, settle: Settle) -> list[Submission]:
    """The images of a request whose body is one, or a form that holds them.

    Raises:
        ProblemError, RequestValidationError: whatever went wrong.
    """
    settings, spec, options = admission.context.settings, given.spec, given.options()
    form = is_form(request)
    if not form:  # what is refused is told before the body is read; a form may yet name another tier
        options = settle(options, False)
        Inference(admission, spec, options).check()
    reading = read_upload(request, settings.max_body_bytes, settings.max_images)
    upload = await Inference(admission, spec, options).in_time(reading)
    if form:
        options = settle(given.options(upload.fields), len(upload.images) > 1)
    return submit(admission, spec, options, upload.images)


def submit(
    admission: Admission, spec: AnyTaskSpec, options: Options, images: Sequence[File]
) -> list[Submission]:
    """Images as inferences with the same options; several have a record each.

    Raises:
        ProblemError: rate-limited, unknown-tier, forbidden.
    """
    admission.visit.add(len(images) - 1)
    several = len(images) > 1
    submissions = [
        Submission(Inference(admission.of_image() if several else admission, spec, options), file)
        for file in images
    ]
    submissions[0].inference.check()
    return submissions


async def run_all(
    submissions: Sequence[Submission], record: RequestRecord
) -> list[RequestAnswer | ProblemError]:
    """Every image's outcome; `record`, the request's, then says what they have in common."""
    outcomes = await asyncio.gather(*(one.outcome() for one in submissions))
    # An image that is refused by its header never meets the tier table.
    first = next((one for one in record.images if one.tier != NO_TIER), record.images[0])
    record.tier, record.tier_effective = first.tier, first.tier_effective
    record.config_version, record.model_version = first.config_version, first.model_version
    return list(outcomes)


def _check_header(body: bytes, max_pixels: int) -> int | None:
    """Pixels by the file's header; a bomb, or what is not an image at all, never reaches the queue."""
    if not body:
        raise ProblemError(Problem.UNDECODABLE_IMAGE, "the image is empty: zero bytes")
    header = image_header.read(body)
    if header is None:
        raise ProblemError(Problem.UNDECODABLE_IMAGE, "this is not a JPEG, PNG or WebP image")
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


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or stop it when the client goes away: its queued jobs then free their places.

    Raises:
        ClientDisconnect: the client went away; and what the work raises.
    """
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


def _answer(done: pool.Done, record: RequestRecord, options: Options) -> RequestAnswer:
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
    if isinstance(answer, CompareAnswer | Cancelled):
        raise TypeError(f"a request's job was answered with {type(answer).__name__}")
    record.work = answer.work
    record.threshold = answer.work.threshold
    return answer

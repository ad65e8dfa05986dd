"""The answer to `Prefer: respond-async`: the result if it comes soon enough, else 202 and where to ask for it."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.context import AppContext
from pixeltier.service.api.inference import Submission, until_disconnect
from pixeltier.service.api.job_documents import document, location
from pixeltier.service.api.prefer import RESPOND_ASYNC
from pixeltier.service.api.representations import JsonRepresentation
from pixeltier.service.jobs.job import Job
from pixeltier.service.jobs.result import Response as KeptResponse
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.work.messages import RequestAnswer

POLL_S = 1

log = logging.getLogger("pixeltier.request")


def possible(images: Sequence[Submission], context: AppContext) -> bool:
    """Whether a request may be answered later: one image, whose result could be held. A preference binds nobody."""
    if len(images) > 1:
        return False
    return context.jobs.could_hold(images[0].inference.answer_bytes_most(images[0].file.content))


async def respond(
    request: Request,
    context: AppContext,
    shown: JsonRepresentation,
    submission: Submission,
    held: ExitStack,
    wait_s: float,
) -> Response:
    """Begin an image's inference and wait a while for it.

    Args:
        held: closed when the request ends; it passes to the job where that goes on.

    Raises:
        ProblemError: whatever goes wrong meanwhile.
    """
    inference, content = submission.inference, submission.file.content
    record = inference.record
    job = context.jobs.open(
        shown.spec.task, context.access.owner(request), record, inference.answer_bytes_most(content)
    )
    work = asyncio.ensure_future(inference.run(content, job))
    try:
        await until_disconnect(request, asyncio.wait({work}, timeout=wait_s))
        if work.done():
            return await shown.respond(work.result(), record, context.catalogue)
    except BaseException:
        work.cancel()
        raise
    finally:
        if work.done() or work.cancelling():
            context.jobs.discard(job)
    job.record = inference.detach()
    context.jobs.begin(job, work, _finish(context, shown, work, job, held.pop_all()))
    return _accepted(job, request.scope.get("root_path", ""))


def _accepted(job: Job, root: str) -> Response:
    headers = {
        "Location": location(job, root),
        "Preference-Applied": RESPOND_ASYNC,
        "Retry-After": str(POLL_S),
    }
    body = document(job, root).model_dump_json(exclude={"problem"})
    return Response(body, HTTPStatus.ACCEPTED, headers, "application/json")


async def _finish(
    context: AppContext,
    shown: JsonRepresentation,
    work: asyncio.Future[RequestAnswer],
    job: Job,
    held: ExitStack,
) -> KeptResponse:
    """Wait for the answer, give it its form, and account for it as for every other."""
    record = job.record
    with held:
        try:
            response = await shown.respond(await work, record, context.catalogue)
            return KeptResponse(tuple(response.raw_headers), bytes(response.body))
        except ProblemError as error:
            record.problem = error.problem
            raise
        except asyncio.CancelledError:
            record.problem = Problem.CLIENT_CLOSED
            raise
        except Exception:
            record.problem = Problem.INTERNAL
            raise
        finally:
            record.ended = time.monotonic()
            context.metrics.observe_inferences(record, shown.spec.task)
            context.desk.observe(record)
            log.info("job", extra=record.log_fields())

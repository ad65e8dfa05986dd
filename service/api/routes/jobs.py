"""/v1/jobs: what has become of requests that are answered later."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.api.job_documents import ROUTE, JobDocument, document
from pixeltier.service.api.openapi import INFERENCE_PROBLEMS
from pixeltier.service.jobs.job import Job
from pixeltier.service.problems import Problem, ProblemError, documented
from pixeltier.service.telemetry.record import record_of

router = APIRouter(prefix=ROUTE, tags=["jobs"])

STILL_HERE_S = 15.0
"""An event stream without events says so this often: proxies close what is silent."""

PROBLEMS = documented(Problem.VALIDATION, Problem.UNAUTHORIZED, Problem.NOT_FOUND, Problem.JOB_LOST)

JobId = Annotated[str, Path(max_length=64, description="As the answer 202 told.")]


@router.get("/{job_id}", summary="The state of a job", responses=PROBLEMS)
async def job(job_id: JobId, request: Request, context: Context) -> JobDocument:
    """Say how far a request with `Prefer: respond-async` has come."""
    return document(_find(job_id, request, context), _root(request))


@router.get(
    "/{job_id}/events",
    summary="Events of a job",
    response_class=StreamingResponse,
    responses={
        **PROBLEMS,
        200: {
            "description": "`progress` at each change and `over` at last; `data` is the job's document. The stream "
            "then ends.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def events(job_id: JobId, request: Request, context: Context) -> Response:
    """Tell every change as a server-sent event, beginning with how things are."""
    found = _find(job_id, request, context)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(found, _root(request)), headers=headers, media_type="text/event-stream")


@router.get(
    "/{job_id}/result",
    summary="The result of a job",
    response_class=Response,
    responses={
        **PROBLEMS,
        **INFERENCE_PROBLEMS,
        **documented(Problem.JOB_UNFINISHED, Problem.RESULT_NOT_STORED),
        200: {"description": "What the request would have been answered with at once, headers included."},
    },
)
async def result(job_id: JobId, request: Request, context: Context) -> Response:
    """Answer as the request would have been answered; a job that failed has its problem."""
    found = _find(job_id, request, context)
    if found.problem is not None:
        raise found.problem.with_traceback(None)  # it is raised at every request
    if found.result is None:
        raise ProblemError(Problem.JOB_UNFINISHED, f"the job is {found.state}", retry_after_s=1)
    try:
        body = await asyncio.to_thread(found.result.read)
    except ValueError:  # it expired in this moment
        raise ProblemError(Problem.NOT_FOUND, "the result has expired") from None
    record_of(request).answered_by = found.record
    response = Response(body)
    response.raw_headers = list(found.result.headers)
    return response


@router.delete("/{job_id}", status_code=204, summary="Cancel a job", responses=PROBLEMS)
async def cancel(job_id: JobId, request: Request, context: Context) -> None:
    """End a job where it is not over, and forget it and its result."""
    context.jobs.discard(_find(job_id, request, context))


def _find(job_id: str, request: Request, context: AppContext) -> Job:
    return context.jobs.find(job_id, context.access.owner(request))


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root


async def _events(found: Job, root: str) -> AsyncIterator[bytes]:
    while True:
        changed = found.changed
        name = "over" if found.over else "progress"
        yield f"event: {name}\ndata: {document(found, root).model_dump_json(exclude_none=True)}\n\n".encode()
        if found.over:
            return
        while not await _happens(changed):
            yield b": still here\n\n"


async def _happens(changed: asyncio.Event) -> bool:
    """Whether a change comes before the stream has to say something."""
    try:
        async with asyncio.timeout(STILL_HERE_S):
            return await changed.wait()
    except TimeoutError:
        return False

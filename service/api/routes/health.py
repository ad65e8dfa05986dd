"""GET /healthz and /readyz. Both are `async def`: they answer from the event loop while workers are busy."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pixeltier.service import __version__
from pixeltier.service.api.context import Context
from pixeltier.service.problems import Problem, ProblemError, documented

router = APIRouter(tags=["health"])


class LiveDocument(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"
    version: str = Field(examples=["0.1.0"])


class ReadyDocument(BaseModel):
    """The service takes work."""

    status: Literal["ready"] = "ready"
    slots: dict[str, str] = Field(description="State of each worker.", examples=[{"0": "idle", "1": "busy"}])
    queue_depth: int = Field(examples=[0])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> LiveDocument:
    """Answer while the event loop turns."""
    return LiveDocument(version=__version__)


@router.get("/readyz", summary="Does the service take work?", responses=documented(Problem.NOT_READY))
async def readyz(context: Context) -> ReadyDocument:
    """Answer 200 once the workers are warm, 503 before, while draining, and after repeated crashes."""
    report = context.pool.report()
    if not report.ready:
        raise ProblemError(Problem.NOT_READY, report.why_not, retry_after_s=1)
    return ReadyDocument(
        slots={worker.name: worker.state.value for worker in report.workers}, queue_depth=report.queue_depth
    )

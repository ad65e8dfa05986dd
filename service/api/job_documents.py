"""What a client is told of a job that is answered later."""

from datetime import datetime

from pydantic import BaseModel, Field

from pixeltier.service.jobs.job import Job, JobState
from pixeltier.service.problems import ProblemDocument
from pixeltier.service.tasks import Task

ROUTE = "/v1/jobs"


class JobProgress(BaseModel):
    """How much of a large image is done."""

    done: int = Field(description="Tiles that are done.", examples=[3])
    total: int = Field(description="All tiles of the image.", examples=[4])


class JobDocument(BaseModel):
    """One job."""

    id: str = Field(examples=["5f2c9a1e-Zm9vYmFyYmF6cXV4MTIzNA"])
    task: Task
    state: JobState
    progress: JobProgress | None = Field(description="Of an image of several tiles, once it is at work.")
    created: datetime
    expires: datetime | None = Field(description="When the result is gone; null while there is none.")
    status_url: str = Field(examples=["/v1/jobs/5f2c9a1e-Zm9vYmFyYmF6cXV4MTIzNA"])
    events_url: str = Field(examples=["/v1/jobs/5f2c9a1e-Zm9vYmFyYmF6cXV4MTIzNA/events"])
    result_url: str = Field(examples=["/v1/jobs/5f2c9a1e-Zm9vYmFyYmF6cXV4MTIzNA/result"])
    problem: ProblemDocument | None = Field(None, description="Why it failed.")


def document(job: Job, root: str) -> JobDocument:
    """A job as it is now; `root` is the path prefix that the client sees the service below."""
    url = location(job, root)
    return JobDocument(
        id=job.id,
        task=job.task,
        state=job.state,
        progress=None if job.tiles is None else JobProgress(done=job.tiles[0], total=job.tiles[1]),
        created=job.created,
        expires=job.expires,
        status_url=url,
        events_url=f"{url}/events",
        result_url=f"{url}/result",
        problem=None if job.problem is None else job.problem.document(job.record.request_id, root),
    )


def location(job: Job, root: str) -> str:
    """Where a client asks for it."""
    return f"{root}{ROUTE}/{job.id}"

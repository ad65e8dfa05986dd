"""The jobs of this process: bounded in number, in space and in the time that their results are kept."""

import asyncio
import logging
import re
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pixeltier.service.jobs.job import Job, JobState
from pixeltier.service.jobs.result import Response, StoredResponse
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.job_metrics import JobReport
from pixeltier.service.telemetry.record import RequestRecord

ID = re.compile(r"([0-9a-f]{8})-[A-Za-z0-9_-]{22}")
"""Which process the job is of, and a secret: who knows it may ask."""

RETRY_S = 5
"""When to come again where no result expires soon."""

log = logging.getLogger("pixeltier.jobs")


@dataclass(frozen=True, slots=True)
class JobLimits:
    """See the settings of the same names."""

    limit: int
    max_bytes: int
    keep_s: int
    directory: Path | None = None


class JobStore:
    """Every job from its request on until it is cancelled or its time is over."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._instance = secrets.token_hex(4)
        self._jobs: dict[str, Job] = {}
        self._runners: set[asyncio.Task[None]] = set()
        self._closed = False

    def could_hold(self, room: int) -> bool:
        """Whether a result of this size would have room if there were no other."""
        return room <= self._limits.max_bytes

    def open(self, task: Task, owner: str | None, record: RequestRecord, room: int) -> Job:
        """A new job, with room set aside for its result.

        Raises:
            ProblemError: overloaded, not-ready.
        """
        if self._closed:
            raise ProblemError(Problem.NOT_READY, "the service is stopping", retry_after_s=RETRY_S)
        taken = sum(job.room for job in self._jobs.values())
        if len(self._jobs) >= self._limits.limit or taken + room > self._limits.max_bytes:
            detail = f"{len(self._jobs)} jobs hold {taken} bytes; there is no room for {room} more until one expires"
            raise ProblemError(Problem.OVERLOADED, detail, retry_after_s=self._retry_after_s())
        job = Job(f"{self._instance}-{secrets.token_urlsafe(16)}", task, owner, record, room)
        self._jobs[job.id] = job
        return job

    def begin(self, job: Job, work: asyncio.Future[Any], response: Coroutine[Any, Any, Response]) -> None:
        """Keep the response that comes of the work; the work alone is cancelled, so that it is always accounted for."""
        job.work = work
        runner = asyncio.get_running_loop().create_task(self._run(job, response), name=f"job {job.id}")
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    def discard(self, job: Job) -> None:
        """Forget a job, and end it where it is not over."""
        self._jobs.pop(job.id, None)
        job.cancel()

    def find(self, id_: str, owner: str | None) -> Job:
        """A job by its id.

        Raises:
            ProblemError: not-found, job-lost.
        """
        job = self._jobs.get(id_)
        if job is not None and job.owner in {None, owner}:
            return job
        found = ID.fullmatch(id_)
        if found is not None and found[1] != self._instance:
            raise ProblemError(
                Problem.JOB_LOST,
                "this job is not of this process: the service was started again since, or another replica has it",
            )
        raise ProblemError(
            Problem.NOT_FOUND,
            f"there is no such job: it was cancelled, or it ended more than {self._limits.keep_s} s ago",
        )

    async def stop(self) -> None:
        """End what runs and take nothing more; who waits for an event is told."""
        self._closed = True
        for job in list(self._jobs.values()):
            self.discard(job)
        await asyncio.gather(*self._runners, return_exceptions=True)

    def report(self) -> JobReport:
        """The state now, for the metrics."""
        states = [job.state for job in self._jobs.values()]
        return JobReport(
            by_state={
                state.value: states.count(state) for state in JobState if state is not JobState.CANCELLED
            },
            reserved_bytes=sum(job.room for job in self._jobs.values()),
            bytes_limit=self._limits.max_bytes,
        )

    async def _run(self, job: Job, response: Coroutine[Any, Any, Response]) -> None:
        try:
            kept = await asyncio.to_thread(StoredResponse, await response, self._limits.directory)
        except ProblemError as error:
            job.fail(error)
        except OSError as error:
            log.error("a job's result cannot be kept", extra={"error": str(error)})
            job.fail(
                ProblemError(
                    Problem.RESULT_NOT_STORED, f"the result cannot be kept: {error.strerror or error}"
                )
            )
        except Exception:
            log.exception("job failed")
            job.fail(
                ProblemError(
                    Problem.INTERNAL, "an unexpected error; the log has it under this job's request_id"
                )
            )
        else:
            job.succeed(kept)
        job.expires = datetime.now(UTC) + timedelta(seconds=self._limits.keep_s)
        asyncio.get_running_loop().call_later(self._limits.keep_s, self.discard, job)

    def _retry_after_s(self) -> int:
        """When the first result expires."""
        now = datetime.now(UTC)
        waits = [
            (job.expires - now).total_seconds() for job in self._jobs.values() if job.expires is not None
        ]
        return max(1, min(RETRY_S, *map(round, waits)) if waits else RETRY_S)

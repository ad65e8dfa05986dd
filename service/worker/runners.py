"""Every task's half in the worker, and jobs given to the task that they are of."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Answer, Cancelled, CompareJob, Job, Rejected
from pixeltier.service.worker.classify import ClassifyRunner
from pixeltier.service.worker.decode import ImageRejectedError
from pixeltier.service.worker.interface import Engine
from pixeltier.service.worker.progress import Advance, JobCancelledError
from pixeltier.service.worker.runner import Runner
from pixeltier.service.worker.super_resolve import SuperResolveRunner

RUNNERS: Mapping[Task, Runner[Any, Any]] = MappingProxyType(
    {runner.task: runner for runner in (ClassifyRunner(), SuperResolveRunner())}
)


def do(engine: Engine, jobs: Sequence[Job], advance: Advance) -> list[Answer]:
    """Do jobs of one task, or one comparison; a rejected image is an answer, and so is what nobody waits for."""
    runner, first = RUNNERS[jobs[0].task], jobs[0]
    if not isinstance(first, CompareJob):
        try:
            return runner.run(engine, jobs, advance)
        except JobCancelledError:
            return [Cancelled() for _ in jobs]
    try:
        return [runner.compare(engine, first)]
    except ImageRejectedError as error:
        return [Rejected(error.kind, error.detail)]


def self_check(engine: Engine) -> None:
    """A worker's proof that it works, before it says it is ready.

    Raises:
        RuntimeError: says which number is wrong.
    """
    for runner in RUNNERS.values():
        runner.check(engine)

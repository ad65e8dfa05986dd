"""Which model and version a path below /v2/models names, and what /v2 has not got."""

import re
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from pixeltier.service.api.context import Context
from pixeltier.service.problems import FieldError, Problem, ProblemError
from pixeltier.service.tasks import Task


async def _model(model: str) -> Task:
    try:
        return Task(model)
    except ValueError:
        known = ", ".join(task.value for task in Task)
        raise ProblemError(
            Problem.NOT_FOUND, f"there is no model {model[:64]!r}; the models are {known}"
        ) from None


ServedModel = Annotated[Task, Depends(_model)]
"""The model of the path; 404 where there is none of that name."""


async def _version(task: ServedModel, version: str, context: Context) -> Task:
    served = context.catalogue.models[task].version
    if version != served:
        raise ProblemError(
            Problem.NOT_FOUND,
            f"there is no version {version[:64]!r} of {task.value}; the version in force is {served!r}",
        )
    return task


ServedVersion = Annotated[Task, Depends(_version)]
"""The model of a path that also names a version; 404 where another one is in force."""


async def refuse_query(request: Request) -> None:
    """For routes without query parameters: one that is ignored silently was meant to do something."""
    unknown = sorted(set(request.query_params))
    if unknown:
        errors = [
            FieldError(field=f"query.{name[:64]}", message="there is no such parameter") for name in unknown
        ]
        detail = "; ".join(f"{one.field}: {one.message}" for one in errors)
        raise ProblemError(Problem.VALIDATION, detail[:1000], errors=errors)


_ABSENT = (
    (
        r"v2/repository/models/[^/]+/(un)?load",
        "models are loaded when the service starts; for others start it with --weights-dir",
    ),
    (
        r"v2/(system|cuda)sharedmemory(/.*)?",
        "this service has no shared memory; send tensors in the body of the request",
    ),
    (
        r"v2/(models/[^/]+/(versions/[^/]+/)?)?trace/setting",
        "tracing is set when the service starts, with --tracing",
    ),
    (r"v2/logging", "logging is set when the service starts, with --log-level and --log-format"),
    (r"v2/models/[^/]+/(versions/[^/]+/)?generate(_stream)?", "these models generate no text; use .../infer"),
)


def why_absent(path: str) -> str | None:
    """Why a route that clients of the protocol know does not exist here; None where nothing is to be said.

    Args:
        path: without the prefix that a proxy put before it.
    """
    for pattern, reason in _ABSENT:
        if re.fullmatch(f"/{pattern}", path):
            return reason
    return None

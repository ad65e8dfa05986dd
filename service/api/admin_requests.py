"""What the admin routes share on the way in: the operator's name, preconditions, bodies, reasons."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.api.body import read_bytes
from service.api.context import Context
from service.api.problems import FieldError, Problem, ProblemError
from service.api.record import record_of
from service.tiers.schema import TierTableError, parse_json

LIMIT_BYTES = 2**20

MEDIA_TYPES = frozenset({"application/json", "application/merge-patch+json"})

LONGEST_REASON = 500

_TAG = re.compile(r'\s*(W/)?"(\d{1,18})"\s*')


_BEARER = HTTPBearer(auto_error=False, scheme_name="admin token", description="See docs/admin-api.md.")


def _operator(request: Request, context: Context, shown: Annotated[object, Security(_BEARER)] = None) -> str:
    del shown  # it only makes the OpenAPI document say that a token is needed
    name = context.admin.check(request)
    record_of(request).client = name
    return name


Operator = Annotated[str, Depends(_operator)]
"""The name of the token; a request without a valid one gets no further."""


@dataclass(frozen=True, slots=True)
class ChangeBody:
    """A change's body without its reason, and the reason."""

    content: dict[str, Any]
    reason: str


def tag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def expected_version(request: Request, current: int) -> int | None:
    """The version that a change is based on; None for `If-Match: *`.

    Raises:
        ProblemError: config-conflict, 428 without the header and 412 where it holds no version.
    """
    header = request.headers.get("if-match")
    if header is None:
        raise ProblemError(
            Problem.PRECONDITION_REQUIRED, f"If-Match is missing; version {current} is in force"
        )
    if header.strip() == "*":
        return None
    found = [_TAG.fullmatch(part) for part in header.split(",")]
    versions = [int(one[2]) for one in found if one is not None and not one[1]]  # weak tags never match
    if not versions:
        raise ProblemError(
            Problem.CONFIG_CONFLICT,
            f"If-Match {header[:100]!r} is no version; version {current} is in force",
            current_version=current,
        )
    return current if current in versions else versions[0]


def not_modified(request: Request, current: int) -> bool:
    """Whether If-None-Match has the version in force."""
    header = request.headers.get("if-none-match", "")
    found = [_TAG.fullmatch(part) for part in header.split(",")]
    return header.strip() == "*" or any(one is not None and int(one[2]) == current for one in found)


async def read_change(request: Request) -> ChangeBody:
    """The JSON object of a body, empty for an empty one, with the reason of body or header.

    Raises:
        ProblemError: unsupported-media-type, payload-too-large, validation.
    """
    declared = (
        parse_options_header(request.headers.get("content-type", ""))[0].decode("latin-1").strip().lower()
    )
    body = await read_bytes(request, LIMIT_BYTES)
    if (declared or body) and declared not in MEDIA_TYPES:
        raise ProblemError(
            Problem.UNSUPPORTED_MEDIA_TYPE,
            f"{declared[:100]!r} is not accepted",
            headers={"Accept-Patch": "application/merge-patch+json, application/json"},
        )
    try:
        content = parse_json(body) if body else {}
    except TierTableError as error:
        raise invalid(error) from error
    if not isinstance(content, dict):
        raise refused("body", "the body must be a JSON object")
    reason = content.pop("reason", None)
    if reason is None:
        reason = request.headers.get("x-change-reason", "")
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise refused("reason", f"a reason is printable text of at most {LONGEST_REASON} characters")
    return ChangeBody(content, reason)


def refused(field: str, message: str) -> ProblemError:
    """A validation problem of one place."""
    return ProblemError(
        Problem.VALIDATION, f"{field}: {message}", errors=[FieldError(field=field, message=message)]
    )


def invalid(error: TierTableError) -> ProblemError:
    """A document that breaks rules, each place named."""
    errors = [FieldError(field=fault.field or "document", message=fault.message) for fault in error.faults]
    return ProblemError(Problem.VALIDATION, str(error)[:2000], errors=errors[:100])

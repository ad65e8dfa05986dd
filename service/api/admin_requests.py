"""What the admin routes share on the way in: the operator's name, preconditions, bodies, reasons."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from pixeltier.service.api import etags
from pixeltier.service.api.body import media_type, read_bytes
from pixeltier.service.api.context import Context
from pixeltier.service.api.parameters import once
from pixeltier.service.problems import FieldError, Problem, ProblemError
from pixeltier.service.telemetry.record import record_of
from pixeltier.service.tiers.schema import TierTableError, parse_json

LIMIT_BYTES = 2**20

MEDIA_TYPES = frozenset({"application/json", "application/merge-patch+json"})

LONGEST_REASON = 500

_VERSION = re.compile(r"[1-9][0-9]{0,17}")


_BEARER = HTTPBearer(auto_error=False, scheme_name="admin token", description="See docs/admin-api.md.")


def _operator(request: Request, context: Context, shown: Annotated[object, Security(_BEARER)] = None) -> str:
    del shown  # it only makes the OpenAPI document say that a token is needed
    name = context.admin.check(request)
    record_of(request).client = name
    once(request)
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

    The comparison is the strong one (RFC 9110, 13.1.1): a tag matches by every character, a weak one never.

    Raises:
        ProblemError: config-conflict, 428 without the header and 412 where it names no version of the table.
    """
    if "if-match" not in request.headers:
        raise ProblemError(
            Problem.PRECONDITION_REQUIRED, f"If-Match is missing; version {current} is in force"
        )
    try:
        tags = etags.read(request, "if-match")
    except etags.MalformedError as error:
        raise _unmatchable(str(error), current) from error
    if tags is None:
        return None
    versions = [int(one.value) for one in tags if not one.weak and _VERSION.fullmatch(one.value)]
    if versions:
        return current if current in versions else versions[0]
    shown = ", ".join(map(str, tags))[:100]
    if any(one.weak for one in tags):
        reason = "is a weak tag, and those never match here (a proxy that compresses makes tags weak)"
    else:
        reason = "is not the tag of any version"
    raise _unmatchable(f"{shown} {reason}", current)


def _unmatchable(reason: str, current: int) -> ProblemError:
    detail = f"If-Match: {reason}; version {current} is in force, its tag is {tag(current)}"
    return ProblemError(Problem.CONFIG_UNMATCHABLE, detail, current_version=current)


def not_modified(request: Request, current: int) -> bool:
    """Whether If-None-Match has the version in force."""
    return etags.is_known(request, str(current))


async def read_change(request: Request) -> ChangeBody:
    """The JSON object of a body, empty for an empty one, with the reason of body or header.

    Raises:
        ProblemError: unsupported-media-type, payload-too-large, validation.
    """
    declared, _ = media_type(request)
    body = await read_bytes(request, LIMIT_BYTES)
    if (declared or body) and declared not in MEDIA_TYPES:
        raise ProblemError(
            Problem.UNSUPPORTED_DOCUMENT_TYPE,
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

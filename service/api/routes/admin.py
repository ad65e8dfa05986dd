"""The tier table under /admin/v1: read it, replace it, patch it, try a change out, roll back."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api import admin_schemas as schemas
from pixeltier.service.api.admin_requests import (
    MEDIA_TYPES,
    Operator,
    expected_version,
    invalid,
    not_modified,
    read_change,
    refused,
    tag,
)
from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.catalogue import Model
from pixeltier.service.operations.prediction import predict
from pixeltier.service.problems import Problem, ProblemError, documented
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import record_of
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.goals import Resolved
from pixeltier.service.tiers.history import Kind
from pixeltier.service.tiers.patch import apply, differences
from pixeltier.service.tiers.schema import TierTable, TierTableError
from pixeltier.service.tiers.store import (
    Change,
    ConflictError,
    Make,
    NotStoredError,
    Snapshot,
    Thresholds,
    UnknownVersionError,
)

router = APIRouter(tags=["admin"])

ETAG = {"ETag": {"description": "The version in quotes.", "schema": {"type": "string"}}}

ACCESS_PROBLEMS = documented(Problem.UNAUTHORIZED, Problem.NOT_FOUND)
"""What every admin route may answer."""

BODY_PROBLEMS = documented(
    Problem.BAD_REQUEST, Problem.PAYLOAD_TOO_LARGE, Problem.UNSUPPORTED_DOCUMENT_TYPE, Problem.VALIDATION
)

CHANGE_PROBLEMS = {
    **ACCESS_PROBLEMS,
    **BODY_PROBLEMS,
    **documented(Problem.CONFIG_CONFLICT, Problem.PRECONDITION_REQUIRED, Problem.CONFIG_NOT_STORED),
}

_TABLE: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.TableDocument, "description": "The table in force.", "headers": ETAG}
}

IfMatch = Annotated[
    str | None, Header(description="The ETag that the change is based on, or *.", examples=['"3"'])
]
Reason = Annotated[
    str | None,
    Header(description="Why, for the audit trail; or `reason` in the body. One of them is required."),
]
RollbackReason = Annotated[
    str | None,
    Header(
        description="Why, for the audit trail; or `reason` in the body. Without, the version gone back to."
    ),
]


def _body(name: str, *, types: Any = ("application/json",), required: bool = True) -> dict[str, Any]:
    content = {type_: {"schema": {"$ref": f"#/components/schemas/{name}"}} for type_ in types}
    return {"requestBody": {"required": required, "content": content}}


@router.get(
    "/admin/v1/tiers",
    summary="The table in force, what it came to, and the curves",
    response_class=Response,
    responses={
        **_TABLE,
        304: {"description": "If-None-Match has the version in force.", "headers": ETAG},
        **ACCESS_PROBLEMS,
    },
)
async def read_tiers(
    request: Request,
    context: Context,
    operator: Operator,
    if_none_match: Annotated[str | None, Header(description="ETags at hand.")] = None,
) -> Response:
    """Read the table; its ETag is what a change must name in If-Match."""
    del operator, if_none_match
    snapshot = context.tiers.snapshot
    if not_modified(request, snapshot.version):
        return Response(status_code=304, headers={"ETag": tag(snapshot.version)})
    return _table(request, context, snapshot)


@router.put(
    "/admin/v1/tiers",
    summary="Replace the table",
    response_class=Response,
    responses={**_TABLE, **CHANGE_PROBLEMS},
    openapi_extra=_body("TierTableChange"),
)
async def put_tiers(
    request: Request,
    context: Context,
    operator: Operator,
    if_match: IfMatch = None,
    x_change_reason: Reason = None,
) -> Response:
    """Put a whole document in force for the next dispatched job."""
    del if_match, x_change_reason
    expected = expected_version(request, context.tiers.snapshot.version)
    body = await read_change(request)
    why = _why(request, operator, "put", _given(body.reason))
    return await _change(request, context, lambda _: schema.validate(body.content), why, expected)


@router.patch(
    "/admin/v1/tiers",
    summary="Change a part of the table",
    response_class=Response,
    responses={**_TABLE, **CHANGE_PROBLEMS},
    openapi_extra=_body("TierTablePatch", types=sorted(MEDIA_TYPES)),
)
async def patch_tiers(
    request: Request,
    context: Context,
    operator: Operator,
    if_match: IfMatch = None,
    x_change_reason: Reason = None,
) -> Response:
    """Apply a JSON merge patch (RFC 7396) in which `tiers` is an object keyed by tier name."""
    del if_match, x_change_reason
    expected = expected_version(request, context.tiers.snapshot.version)
    body = await read_change(request)
    why = _why(request, operator, "patch", _given(body.reason))
    return await _change(request, context, lambda table: _patched(table, body.content), why, expected)


@router.post(
    "/admin/v1/tiers:rollback",
    summary="Put an older version in force again",
    response_class=Response,
    responses={**_TABLE, **CHANGE_PROBLEMS},
    openapi_extra=_body("TierRollback", required=False),
)
async def roll_back(
    request: Request,
    context: Context,
    operator: Operator,
    if_match: IfMatch = None,
    x_change_reason: RollbackReason = None,
) -> Response:
    """Make a new version of an old one's document: the one before the version in force, unless another is named."""
    del if_match, x_change_reason
    current = context.tiers.snapshot.version
    expected = expected_version(request, current)
    body = await read_change(request)
    if extra := set(body.content) - {"version"}:
        raise refused(sorted(extra)[0], "a rollback takes version and reason")
    wanted = body.content.get("version")
    if wanted is None:
        earlier = [record.version for record in context.tiers.history() if record.version < current]
        if not earlier:
            raise ProblemError(Problem.NOT_FOUND, f"there is no version before {current}")
        wanted = earlier[-1]
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise refused("version", "a version is a whole number")
    try:
        record = context.tiers.version(wanted)
    except UnknownVersionError as error:
        raise ProblemError(Problem.NOT_FOUND, str(error)) from error
    why = _why(request, operator, "rollback", body.reason.strip() or f"back to version {wanted}")
    return await _change(
        request, context, lambda _: schema.validate(record.document), why, expected, kept=record.thresholds
    )


@router.post(
    "/admin/v1/tiers:dry-run",
    summary="What a change would do",
    response_class=Response,
    responses={
        200: {"model": schemas.DryRunDocument, "description": "The prediction."},
        **ACCESS_PROBLEMS,
        **BODY_PROBLEMS,
    },
    openapi_extra=_body("TierDryRun", required=False),
)
async def dry_run(request: Request, context: Context, operator: Operator) -> Response:
    """Predict MACs saved, quality and latency of each tier; nothing changes."""
    del operator
    body = (await read_change(request)).content
    if extra := set(body) - {"document", "patch"}:
        raise refused(sorted(extra)[0], "a dry-run takes document or patch")
    if len(body) > 1:
        raise refused("patch", "give a document or a patch, not both")
    snapshot = context.tiers.snapshot
    try:
        proposed = snapshot.table
        if "document" in body:
            proposed = schema.validate(body["document"])
        elif "patch" in body:
            proposed = _patched(snapshot.table, body["patch"])
        resolution = snapshot.resolution if proposed == snapshot.table else context.tiers.resolve(proposed)
    except TierTableError as error:
        raise invalid(error) from error
    document = schemas.DryRunDocument(
        based_on=snapshot.version,
        document=proposed,
        changes=[
            schemas.DifferenceDocument.of(one)
            for one in differences(snapshot.table.document(), proposed.document())
        ],
        tiers=[
            schemas.DryRunTierDocument(
                name=tier.name,
                models={
                    task.value: _forecast(
                        context,
                        context.catalogue.models[task],
                        tier.name,
                        snapshot.resolution.get(tier.name, {}).get(task),
                        resolution[tier.name][task],
                    )
                    for task in Task
                },
            )
            for tier in proposed.tiers
        ],
    )
    return _json(document)


def _forecast(
    context: AppContext, model: Model, tier: str, current: Resolved | None, proposed: Resolved
) -> schemas.DryRunModelDocument:
    seen = context.desk.recent.images(model.task)
    worker_ms = partial(context.pool.predict_ms, model.task)

    def of(resolved: Resolved) -> schemas.ForecastDocument:
        recent = schemas.RecentDocument.of_prediction(predict(seen, tier, resolved, worker_ms))
        return schemas.ForecastDocument(
            recent=recent, **schemas.resolved_values(resolved, model.expectations)
        )

    return schemas.DryRunModelDocument(
        changed=current is None
        or (current.threshold, current.max_active_share) != (proposed.threshold, proposed.max_active_share),
        current=None if current is None else of(current),
        proposed=of(proposed),
        shadow=schemas.ShadowDocument.of(context.desk.shadow.summary(model.task, proposed.threshold)),
    )


async def _change(
    request: Request,
    context: AppContext,
    make: Make,
    why: Change,
    expected: int | None,
    kept: Thresholds | None = None,
) -> Response:
    try:
        snapshot = await context.tiers.change(make, why, expected=expected, kept=kept)
    except TierTableError as error:
        raise invalid(error) from error
    except ConflictError as error:
        raise ProblemError(Problem.CONFIG_CONFLICT, str(error), current_version=error.current) from error
    except NotStoredError as error:
        raise ProblemError(
            Problem.CONFIG_NOT_STORED, "the state directory refused the new version"
        ) from error
    record_of(request).config_version = snapshot.version
    return _table(request, context, snapshot)


def _patched(table: TierTable, patch: Mapping[str, Any]) -> TierTable:
    return schema.validate(apply(table.document(), patch))


def _given(reason: str) -> str:
    """The reason; raises ProblemError validation where there is none: every change in the audit trail says why."""
    if not reason.strip():
        raise refused(
            "reason", "say why, for the audit trail: `reason` in the body, or the header X-Change-Reason"
        )
    return reason


def _why(request: Request, operator: str, kind: Kind, reason: str) -> Change:
    return Change(actor=operator, kind=kind, reason=reason, request_id=record_of(request).request_id)


def _table(request: Request, context: AppContext, snapshot: Snapshot) -> Response:
    del request
    document = schemas.table(snapshot, context.tiers, context.catalogue.models)
    return _json(document, {"ETag": tag(snapshot.version)})


def _json(document: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    # What an operator sees must be what is in force: no cache in between may keep it.
    return Response(
        document.model_dump_json(by_alias=True),
        headers={"Cache-Control": "no-cache", **(headers or {})},
        media_type="application/json",
    )

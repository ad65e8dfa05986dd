"""What happened to the tier table: versions and the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from pixeltier.service.api import admin_schemas as schemas
from pixeltier.service.api.admin_requests import Operator
from pixeltier.service.api.context import Context
from pixeltier.service.api.routes.admin import ACCESS_PROBLEMS
from pixeltier.service.problems import Problem, ProblemError, documented
from pixeltier.service.tiers.history import VersionRecord
from pixeltier.service.tiers.patch import differences
from pixeltier.service.tiers.store import TierStore, UnknownVersionError

router = APIRouter(tags=["admin"])

PROBLEMS = {**ACCESS_PROBLEMS, **documented(Problem.VALIDATION)}

Limit = Annotated[int, Query(ge=1, le=500, description="How many, at most.")]
Before = Annotated[int | None, Query(ge=1, le=10**9, description="Only versions below this one.")]
Version = Annotated[int, Path(ge=1, le=10**9)]


def _page(store: TierStore, limit: int, before: int | None) -> list[VersionRecord]:
    """Kept versions, newest first."""
    found = [record for record in store.history() if before is None or record.version < before]
    return found[: -limit - 1 : -1]


@router.get("/admin/v1/versions", summary="The versions of the table, newest first", responses=PROBLEMS)
async def versions(
    context: Context, operator: Operator, limit: Limit = 50, before: Before = None
) -> schemas.VersionsDocument:
    """List the versions that are kept."""
    del operator
    return schemas.VersionsDocument(
        current=context.tiers.snapshot.version,
        versions=[schemas.version(record) for record in _page(context.tiers, limit, before)],
    )


@router.get("/admin/v1/versions/{version}", summary="One version, whole", responses=PROBLEMS)
async def one_version(version: Version, context: Context, operator: Operator) -> schemas.FullVersionDocument:
    """Read a version's document and what its thresholds were."""
    del operator
    return schemas.full_version(_record(context.tiers, version))


@router.get("/admin/v1/audit", summary="Who changed what, when and why", responses=PROBLEMS)
async def audit(
    context: Context, operator: Operator, limit: Limit = 50, before: Before = None
) -> schemas.AuditDocument:
    """List the changes, newest first, each with what it changed."""
    del operator
    return schemas.AuditDocument(
        entries=[_entry(context.tiers, record) for record in _page(context.tiers, limit, before)]
    )


def _entry(store: TierStore, record: VersionRecord) -> schemas.AuditEntryDocument:
    try:
        before = {} if record.based_on is None else store.version(record.based_on).document
    except UnknownVersionError:  # too old to be kept
        before = record.document
    return schemas.AuditEntryDocument(
        version=record.version,
        changed_at=record.changed_at,
        actor=record.actor,
        kind=record.kind,
        reason=record.reason,
        request_id=record.request_id,
        from_version=record.based_on,
        changes=[]
        if record.based_on is None
        else [schemas.DifferenceDocument.of(one) for one in differences(before, record.document)],
    )


def _record(store: TierStore, version: int) -> VersionRecord:
    try:
        return store.version(version)
    except UnknownVersionError as error:
        raise ProblemError(Problem.NOT_FOUND, str(error)) from error

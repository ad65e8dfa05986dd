"""What is happening now, for the operator's page."""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from pixeltier.service.api import admin_schemas as schemas
from pixeltier.service.api.admin_requests import Operator
from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.api.routes.admin import ACCESS_PROBLEMS
from pixeltier.service.operations.prediction import quantile
from pixeltier.service.operations.recent import LONGEST_WINDOW_S, SeenRequest
from pixeltier.service.problems import Problem, documented
from pixeltier.service.tasks import CUSTOM_TIER, Task
from pixeltier.service.tiers.falls import deepest
from pixeltier.service.tiers.history import now

router = APIRouter(tags=["admin"])


@router.get(
    "/admin/v1/live",
    summary="Requests, latency and MACs saved of the last seconds",
    responses={**ACCESS_PROBLEMS, **documented(Problem.VALIDATION)},
)
async def live(
    context: Context,
    operator: Operator,
    seconds: Annotated[int, Query(ge=1, le=LONGEST_WINDOW_S, description="How far to look back.")] = 60,
) -> schemas.LiveDocument:
    """Summarise the last seconds by model and tier, and show pool, brownout and shadow as they are."""
    del operator
    snapshot = context.tiers.snapshot
    return schemas.LiveDocument(
        window_s=seconds,
        time=now(),
        version=snapshot.version,
        models=_models(context.desk.recent.requests(seconds), snapshot.names),
        pool=_pool(context),
        brownout=_brownout(context),
        shadow=_shadow(context),
    )


def _models(
    requests: list[SeenRequest], names: tuple[str, ...]
) -> dict[str, dict[str, schemas.LiveTierDocument]]:
    by_tier: dict[tuple[Task, str], list[SeenRequest]] = defaultdict(list)
    for one in requests:
        by_tier[one.task, one.tier_effective].append(one)
    return {task.value: {name: _tier(by_tier[task, name]) for name in (*names, CUSTOM_TIER)} for task in Task}


def _tier(requests: list[SeenRequest]) -> schemas.LiveTierDocument:
    took = sorted(one.total_ms for one in requests if one.ok)
    dense, executed = (
        sum(getattr(one, name) for one in requests) for name in ("macs_dense", "macs_executed")
    )
    return schemas.LiveTierDocument(
        requests=len(requests),
        failed=sum(not one.ok for one in requests),
        degraded_to=sum(one.tier != one.tier_effective for one in requests),
        p50_ms=round(quantile(took, 0.5), 3) if took else None,
        p95_ms=round(quantile(took, 0.95), 3) if took else None,
        macs_dense=dense,
        macs_executed=executed,
        macs_saved=round(1 - executed / dense, schemas.DIGITS) if dense else None,
    )


def _pool(context: AppContext) -> schemas.LivePoolDocument:
    report = context.pool.report()
    return schemas.LivePoolDocument(
        ready=report.ready,
        queue_depth=report.queue_depth,
        queue_limit=report.queue_limit,
        wait_estimate_s=round(report.wait_estimate_s, 4),
        slots={worker.name: worker.state.value for worker in report.workers},
    )


def _brownout(context: AppContext) -> schemas.LiveBrownoutDocument:
    table, level = context.tiers.snapshot.table, context.desk.level
    changed = None
    if level.changed_at is not None:
        changed = datetime.now(UTC) - timedelta(seconds=time.monotonic() - level.changed_at)
    return schemas.LiveBrownoutDocument(
        enabled=table.brownout.enabled, level=level.value, deepest_level=deepest(table), changed_at=changed
    )


def _shadow(context: AppContext) -> schemas.LiveShadowDocument:
    shadow = context.tiers.snapshot.table.shadow
    candidates = {task: shadow.thresholds.of(task) for task in Task}
    shown = {
        task.value: schemas.ShadowDocument.of(context.desk.shadow.summary(task, candidate), candidate)
        for task, candidate in candidates.items()
        if candidate is not None
    }
    return schemas.LiveShadowDocument(
        share=shadow.share, models={name: one for name, one in shown.items() if one is not None}
    )

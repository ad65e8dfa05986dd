"""Everything the routes use, injected once: `create_app` puts it on the app, `Context` hands it out."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from pixeltier.service.api.access import Access
from pixeltier.service.api.admin_tokens import AdminTokens
from pixeltier.service.catalogue import Catalogue
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.jobs.store import JobStore
from pixeltier.service.operations.desk import Desk
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.telemetry.tracing import Tracer
from pixeltier.service.tiers.store import TierStore
from pixeltier.service.work.pool import Pool


@dataclass(frozen=True, slots=True)
class AppContext:
    """The service's parts."""

    settings: Settings
    tiers: TierStore
    catalogue: Catalogue
    pool: Pool
    metrics: Metrics
    access: Access
    desk: Desk
    admin: AdminTokens
    jobs: JobStore
    tracer: Tracer | None = None


async def _context(request: Request) -> AppContext:  # async: FastAPI runs plain functions in a thread
    context: AppContext = request.app.state.context
    return context


Context = Annotated[AppContext, Depends(_context)]

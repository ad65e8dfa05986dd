"""Everything the routes use, injected once: `create_app` puts it on the app, `Context` hands it out."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from service.api.access import Access
from service.api.admin_tokens import AdminTokens
from service.catalogue import Catalogue
from service.desk import Desk
from service.metrics import Metrics
from service.pool.interface import Pool
from service.settings import Settings
from service.tiers.store import TierStore
from service.tracing import Tracer


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
    tracer: Tracer | None = None


async def _context(request: Request) -> AppContext:  # async: FastAPI runs plain functions in a thread
    context: AppContext = request.app.state.context
    return context


Context = Annotated[AppContext, Depends(_context)]

"""Where each front's metrics are scraped: a front listens on a port of its own too, and the keeper lists them all.

A scrape through Ray's proxy reaches whichever front it picks, and a counter must not jump. Prometheus asks
`GET /metrics/targets` (its HTTP service discovery) and then each front by itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import ray
import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from pixeltier.service.server.http_protocol import PatientProtocol

log = logging.getLogger("pixeltier.ray")

REFRESH_S = 5.0


class Targets(BaseModel):
    """A group of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str] = {}


def install(app: FastAPI, keeper: Any) -> None:
    """Give the application its own port and a route that lists the ports of all fronts."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics/targets", summary="Every front's own address, for Prometheus")
    async def targets() -> list[Targets]:
        return [Targets(targets=await keeper.targets.remote())]

    app.include_router(router)
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) as state:
            listening = asyncio.create_task(_listen(app, keeper))
            try:
                yield state
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    app.router.lifespan_context = lifespan


async def _listen(app: FastAPI, keeper: Any) -> None:
    """Serve the application on a free port, its lifespan being Ray's affair, and say again and again where."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=address,
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            http=PatientProtocol,
            proxy_headers=False,
        )
    )
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        while True:
            try:
                await keeper.announce.remote(f"{address}:{port}")
            except ray.exceptions.RayError:
                log.exception("the keeper does not answer")
            await asyncio.sleep(REFRESH_S)
    finally:
        server.should_exit = True
        await serving

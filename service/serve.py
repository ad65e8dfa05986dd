"""Run the service: wire its parts, print the effective configuration, serve, drain on SIGTERM."""

import asyncio
import logging
import signal
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service import __version__, catalogue, logs
from service.api.app import create_app
from service.api.context import AppContext
from service.metrics import Metrics
from service.pool.interface import Pool
from service.pool.wiring import open_pool
from service.settings import Settings
from service.tiers import schema
from service.tiers.store import TierStore
from service.worker.slot import EngineFactory

log = logging.getLogger("pixeltier.serve")


def build(settings: Settings, engine: EngineFactory | None = None) -> FastAPI:
    """The application the settings describe.

    Raises:
        TierTableError, QuotaExceededError, FileNotFoundError, ValueError: what cannot be served, and why.
    """
    tiers = TierStore(schema.load(settings.tiers_file))
    metrics = Metrics(tiers)
    pool = open_pool(settings, metrics, engine)
    return create_app(AppContext(settings, tiers, catalogue.load(settings.weights_dir), pool, metrics))


class Server(uvicorn.Server):
    """uvicorn's server, which at SIGTERM is not ready at once and keeps its port open a moment longer.

    In that moment load balancers see `/readyz` fail and stop sending; what arrives meanwhile is still served.
    """

    def __init__(self, config: uvicorn.Config, pool: Pool, drain_delay_s: float) -> None:
        super().__init__(config)
        self._pool = pool
        self._drain_delay_s = drain_delay_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal, or Ctrl-C, stops listening at once."""
        first = not self._pool.report().draining
        self._pool.begin_drain()
        if sig == signal.SIGTERM and first and self._drain_delay_s > 0:
            log.info("draining", extra={"listening_for_s": self._drain_delay_s})
            try:
                asyncio.get_running_loop().call_later(self._drain_delay_s, super().handle_exit, sig, frame)
            except RuntimeError:  # no loop any more: we are past serving
                super().handle_exit(sig, frame)
            else:
                return
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Returns after the drain."""
    logs.configure(settings)
    app = build(settings)
    shape = settings.shape()
    log.info(
        "starting",
        extra={
            "version": __version__,
            "configuration": settings.effective(),
            "slots": shape.slots,
            "threads": shape.threads,
        },
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Requests in flight get this long after the port is closed; the pool's own drain comes after.
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        timeout_keep_alive=75,  # longer than a load balancer's idle timeout: it closes first, never we under it
        backlog=2048,
        ws="none",
    )
    Server(config, app.state.context.pool, settings.drain_delay_s).run()

"""Run the service: wire its parts, print the effective configuration, serve, drain on SIGTERM."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service import __version__, catalogue, logs
from service.api import access
from service.api.admin_tokens import AdminTokens
from service.api.app import create_app
from service.api.context import AppContext
from service.desk import open_desk
from service.http_protocol import PatientProtocol
from service.metrics import Metrics
from service.pool.interface import Pool
from service.pool.wiring import open_pool
from service.settings import ConfigurationError, Settings
from service.tiers.history import VersionLog
from service.tiers.opening import open_store
from service.tracing import open_tracer
from service.worker.slot import EngineFactory

log = logging.getLogger("pixeltier.serve")


def build(settings: Settings, engine: EngineFactory | None = None) -> FastAPI:
    """The application the settings describe.

    Raises:
        ValueError, FileNotFoundError: what cannot be served and why; ConfigurationError, TierTableError,
            AccessFileError and QuotaExceededError are ValueErrors.
    """
    return assemble(settings, settings.state_dir, lambda metrics: open_pool(settings, metrics, engine))


def assemble(
    settings: Settings, versions: VersionLog | Path | None, make_pool: Callable[[Metrics], Pool]
) -> FastAPI:
    """The application over a pool and a history of the tier table from elsewhere; raises as `build` does."""
    models = catalogue.load(settings.weights_dir)
    try:
        tiers = open_store(settings.tiers_file, versions, models.models)
    except OSError as error:
        raise ConfigurationError(f"state_dir: the tier table's versions cannot be kept: {error}") from error
    metrics = Metrics(tiers)
    pool = make_pool(metrics)
    keys = access.load(settings.api_keys_file)
    tracer = open_tracer(settings.tracing)
    desk = open_desk(settings, tiers, pool, metrics)
    tokens = AdminTokens(settings.admin_token_file)
    return create_app(AppContext(settings, tiers, models, pool, metrics, keys, desk, tokens, tracer))


class Server(uvicorn.Server):
    """uvicorn's server, which at SIGTERM is not ready at once and keeps its port open a moment longer.

    In that moment load balancers see `/readyz` fail and stop sending; what arrives meanwhile is still served.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        pool: Pool,
        drain_delay_s: float,
        reload: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._pool = pool
        self._reload = reload
        self._drain_delay_s = drain_delay_s
        self._exit_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; from then on SIGHUP reads the tier file again."""
        await super().startup(sockets)
        if self._reload is not None and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first SIGTERM; stop listening at once for Ctrl-C and for a second signal.

        uvicorn's own handler would raise the signal again after the drain; a drained service exits with 0.
        """
        del frame
        self._pool.begin_drain()
        if sig == signal.SIGTERM and self._exit_at is None:
            self._exit_at = time.monotonic() + self._drain_delay_s
            log.info("draining", extra={"listening_for_s": self._drain_delay_s})
            return
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop listening."""
        drained = self._exit_at is not None and time.monotonic() >= self._exit_at
        return await super().on_tick(counter) or drained


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is one."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Returns after the drain."""
    logs.configure(settings.log_format, settings.log_level)
    _allow_many_connections()
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
        timeout_keep_alive=75,  # longer than load balancers' idle timeouts: they close first, never we
        backlog=2048,
        http=PatientProtocol,
        ws="none",
    )
    context: AppContext = app.state.context
    # Without a tier file SIGHUP means what it always does: the terminal is gone.
    reload = context.desk.reload if settings.tiers_file is not None else None
    Server(config, context.pool, settings.drain_delay_s, reload).run()

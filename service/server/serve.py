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

from pixeltier.service import __version__, catalogue
from pixeltier.service.api import access
from pixeltier.service.api.admin_tokens import AdminTokens
from pixeltier.service.api.app import create_app
from pixeltier.service.api.context import AppContext
from pixeltier.service.configuration.settings import ConfigurationError, Settings, ignored_variables
from pixeltier.service.grpc_server.listening import GrpcPort, check_installed, open_port
from pixeltier.service.jobs.store import JobLimits, JobStore
from pixeltier.service.operations.desk import open_desk
from pixeltier.service.pool.wiring import open_pool
from pixeltier.service.server import process_limits
from pixeltier.service.server.http_protocol import PatientProtocol
from pixeltier.service.server.listening import listening_sockets, names
from pixeltier.service.telemetry import logs
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.telemetry.tracing import open_tracer
from pixeltier.service.tiers.history import VersionLog
from pixeltier.service.tiers.opening import open_store
from pixeltier.service.work.pool import Pool, StartError
from pixeltier.service.worker import signals
from pixeltier.service.worker.startup import EngineFactory

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
    jobs = JobStore(
        JobLimits(settings.jobs_limit, settings.jobs_max_bytes, settings.jobs_keep_s, settings.jobs_dir)
    )
    return create_app(AppContext(settings, tiers, models, pool, metrics, keys, desk, tokens, jobs, tracer))


class Server(uvicorn.Server):
    """uvicorn's server, which at SIGTERM is not ready at once and keeps its port open a moment longer.

    In that moment load balancers see `/readyz` fail and stop sending; what arrives meanwhile is still served.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        pool: Pool,
        jobs: JobStore,
        settings: Settings,
        reload: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._pool = pool
        self._jobs = jobs
        self._reload = reload
        self._settings = settings
        self._grpc: GrpcPort | None = None
        self._exit_at: float | None = None

    @property
    def grpc_port(self) -> int | None:
        """The port of gRPC while it is open."""
        return None if self._grpc is None else self._grpc.port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; from then on SIGHUP reads the tier file again.

        Raises:
            ConfigurationError: another process has begun to listen there since the sockets were bound.
        """
        try:
            await super().startup(sockets)
        except OSError as error:
            raise ConfigurationError(f"host, port: cannot listen: {error}") from error
        try:
            self._grpc = await open_port(self.config.loaded_app, self._settings)
        except ConfigurationError:
            await self.lifespan.shutdown()  # the workers are started
            raise
        addresses = names(sockets or [])
        if self.grpc_port is not None:
            addresses.append(f"grpc://{self._settings.host}:{self.grpc_port}")
        log.info("listening", extra={"addresses": addresses})
        signals.install(self._reload, lambda number: self.handle_exit(number, None))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close both ports; what is begun is finished, by either protocol, before the pool is stopped.

        Jobs are not: nobody could fetch their results, and who follows their events would hold up the end.
        """
        await self._jobs.stop()
        if self._grpc is None:
            await super().shutdown(sockets)
            return
        # Among uvicorn's own tasks, which it waits for before the lifespan ends, and not when it is forced.
        closing = asyncio.create_task(self._grpc.close())
        self.server_state.tasks.add(closing)
        closing.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)
        await self._grpc.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first SIGTERM; stop listening at once for Ctrl-C and for a second signal.

        uvicorn's own handler would raise the signal again after the drain; a drained service exits with 0.
        """
        del frame
        self._pool.begin_drain()
        if sig == signal.SIGTERM and self._exit_at is None:
            self._exit_at = time.monotonic() + self._settings.drain_delay_s
            log.info("draining", extra={"listening_for_s": self._settings.drain_delay_s})
            return
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop listening."""
        drained = self._exit_at is not None and time.monotonic() >= self._exit_at
        hopeless = self._pool.start_failure is not None
        return await super().on_tick(counter) or drained or hopeless


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application; the sockets are service/server/listening.py's affair."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Requests in flight get this long after the port is closed; the pool's own drain comes after.
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        timeout_keep_alive=settings.keep_alive_s,
        backlog=2048,
        http=PatientProtocol,
        ws="none",
        proxy_headers=False,  # service/api/proxy.py reads them, the path prefix among them
    )


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Returns after the drain.

    Raises:
        StartError: no worker could be started.
        ProcessLimitError: a limit of the process is too low; and what `build` raises.
    """
    logs.configure(settings.log_format, settings.log_level)
    signals.ignore()
    shape = settings.shape()
    process_limits.check(shape.slots, shape.threads)
    check_installed(settings)
    app = build(settings)
    if ignored := ignored_variables():
        log.info("variables that Kubernetes sets for Services are ignored", extra={"variables": ignored})
    log.info(
        "starting",
        extra={
            "version": __version__,
            "configuration": settings.effective(),
            "slots": shape.slots,
            "threads": shape.threads,
        },
    )
    context: AppContext = app.state.context
    reload = context.desk.reload if settings.tiers_file is not None else None
    with listening_sockets(settings) as sockets:
        Server(uvicorn_config(app, settings), context.pool, context.jobs, settings, reload).run(sockets)
    signals.ignore()
    if context.pool.start_failure is not None:
        raise StartError(context.pool.start_failure)

"""The port of the gRPC service: opened and closed beside HTTP's."""

from typing import Any

from starlette.types import ASGIApp

from pixeltier.service.api.tensors import body_limit
from pixeltier.service.configuration.settings import ConfigurationError, Settings

INSTALL = "pip install 'pixeltier[grpc]'"


CALLS_BESIDE = 64
"""Calls that may be open beside as many as may queue: those at work, health checks, uploads. One more is refused
(RESOURCE_EXHAUSTED) before its message is read.
"""


class GrpcPort:
    """A gRPC server in the event loop of the HTTP application."""

    def __init__(self, server: Any, health: Any, port: int, grace_s: float) -> None:
        self._server = server
        self._health = health
        self.port = port
        self._grace_s = grace_s

    async def close(self) -> None:
        """Take no more calls, and wait for those that are begun as long as HTTP's have."""
        self._health.end()
        await self._server.stop(self._grace_s)

    async def abort(self) -> None:
        """Cancel the calls that are left; a `close` that waits for them then ends, too."""
        await self._server.stop(None)


def check_installed(settings: Settings) -> None:
    """Refuse a port that cannot be served, before anything is started.

    Raises:
        ConfigurationError: says what to install.
    """
    if settings.grpc_port is None:
        return
    try:
        from pixeltier.service.grpc_server import health, servicer  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"grpc_port: gRPC is not installed ({error}): {INSTALL}") from error


async def open_port(app: ASGIApp, settings: Settings) -> GrpcPort | None:
    """Listen where the settings say; nothing without `grpc_port`.

    Raises:
        ConfigurationError: the port is taken.
    """
    if settings.grpc_port is None:
        return None
    import grpc.aio

    from pixeltier.service.grpc_server import health, servicer

    limit = body_limit(settings.max_body_bytes)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=settings.queue_limit + CALLS_BESIDE,
        options=[
            ("grpc.max_receive_message_length", min(limit, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that another process has is an error, as for HTTP
        ],
    )
    server.add_generic_rpc_handlers((servicer.handlers(app),))
    watched = health.add(app, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise ConfigurationError(f"host, grpc_port: cannot listen: {error}") from error
    await server.start()
    return GrpcPort(server, watched, port, settings.drain_timeout_s)

"""The fake application behind a real uvicorn, in a thread: for clients that are not ASGI ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import httpx
import uvicorn
from fastapi import FastAPI

from pixeltier.service.server.listening import listening_sockets, names
from pixeltier.service.server.serve import Server, uvicorn_config
from tests.integration.fakes import fake_app


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Serve the fake application on the sockets and with the configuration of `pixeltier serve`.

    Gives the URL of the first address; below a Unix socket it is `http://unix`, for a transport of `uds`.
    """
    app = fake_app(**{"port": 0, **settings})
    with _running(app, uvicorn.Server(uvicorn_config(app, app.state.context.settings))) as url:
        yield url


@dataclass(frozen=True)
class BothPorts:
    """Addresses of a service that speaks gRPC, too; its application, and its server."""

    http: str
    grpc: str
    app: FastAPI
    server: Server


@contextmanager
def serving_grpc(**settings: Any) -> Iterator[BothPorts]:
    """The same by the server of `pixeltier serve`, with a port for gRPC."""
    app = fake_app(**{"port": 0, "grpc_port": 0, **settings})
    context = app.state.context
    server = Server(uvicorn_config(app, context.settings), context.pool, context.jobs, context.settings)
    # Signals reach the main thread alone, and this one is another.
    with mock.patch("pixeltier.service.server.serve.signals.install"), _running(app, server) as url:
        assert server.grpc_port is not None
        yield BothPorts(url, f"127.0.0.1:{server.grpc_port}", app, server)


@contextmanager
def _running(app: FastAPI, server: uvicorn.Server) -> Iterator[str]:
    effective = app.state.context.settings
    with listening_sockets(effective) as sockets:
        url = names(sockets)[0].partition(" ")[0] if effective.uds is None else "http://unix"
        url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
        thread.start()
        try:
            _wait_ready(url, effective.root_path, None if effective.uds is None else str(effective.uds))
            yield url
        finally:
            server.should_exit = True
            thread.join(30)


def _wait_ready(url: str, root_path: str, uds: str | None) -> None:
    end = time.monotonic() + 30
    with httpx.Client(transport=httpx.HTTPTransport(uds=uds)) as client:
        while True:
            assert time.monotonic() < end
            try:
                if client.get(f"{url}{root_path}/readyz").status_code == 200:
                    return
            except httpx.TransportError:  # bound, and not listening yet
                pass
            time.sleep(0.02)

"""The fake application behind a real uvicorn, in a thread: for clients that are not ASGI ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from service.http_protocol import PatientProtocol
from tests.integration.fakes import fake_app


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Serve the fake application; gives its URL."""
    app = fake_app(**settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", http=PatientProtocol)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    while httpx.get(url + "/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.02)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(30)

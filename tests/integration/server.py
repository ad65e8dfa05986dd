"""The fake application behind a real uvicorn, in a thread: for clients that are not ASGI ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from pixeltier.service.server.listening import listening_sockets, names
from pixeltier.service.server.serve import uvicorn_config
from tests.integration.fakes import fake_app


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Serve the fake application on the sockets and with the configuration of `pixeltier serve`.

    Gives the URL of the first address; below a Unix socket it is `http://unix`, for a transport of `uds`.
    """
    app = fake_app(**{"port": 0, **settings})
    effective = app.state.context.settings
    server = uvicorn.Server(uvicorn_config(app, effective))
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

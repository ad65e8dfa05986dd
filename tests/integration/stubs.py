"""Servers that answer as a script says, byte by byte: what real ones do only on bad days."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[socket.socket], None]
"""Writes to the connection whose request has been read; returning closes it."""


def sent(*parts: bytes, every_s: float = 0.0) -> Answer:
    """These parts, with a pause before each but the first."""

    def answer(connection: socket.socket) -> None:
        for number, part in enumerate(parts):
            time.sleep(every_s if number else 0)
            connection.sendall(part)

    return answer


def response(
    body: bytes = b"", *, status: str = "200 OK", length: int | None = None, headers: tuple[str, ...] = ()
) -> bytes:
    """A whole HTTP/1.1 response; `length` is announced in place of the body's own."""
    announced = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {announced}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def stub(answer: Answer, *, read: bool = True) -> Iterator[str]:
    """Serve the answer to every request; gives the URL. With `read=False` not one byte of a request is taken."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen(16)
    threading.Thread(target=_serve, args=(listener, answer, read), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def _serve(listener: socket.socket, answer: Answer, read: bool) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_converse, args=(connection, answer, read), daemon=True).start()


def _converse(connection: socket.socket, answer: Answer, read: bool) -> None:
    with contextlib.suppress(OSError), connection:
        if not read:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if not read or _read_request(connection):
            answer(connection)


def _read_request(connection: socket.socket) -> bool:
    """Take a whole request; False where the client only connected."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return False
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < wanted and (chunk := connection.recv(65536)):
        body += chunk
    return True

"""A finished job's answer: small ones in memory, larger ones in a file that nobody else can see."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

IN_MEMORY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """What the request would have been answered with at once."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class StoredResponse:
    """A response that is kept. Its file has no name: where the process ends, however it ends, nothing is left."""

    def __init__(self, response: Response, directory: Path | None) -> None:
        """Keep a response; blocks while it is written.

        Raises:
            OSError: the disk is full, or the directory cannot be written.
        """
        self.headers = response.headers
        self.size = len(response.body)
        self._body = response.body if self.size <= IN_MEMORY_BYTES else b""
        self._file = None
        if self.size > IN_MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as the result
            try:
                self._file.write(response.body)
                self._file.flush()
            except OSError:
                self._file.close()
                raise

    def read(self) -> bytes:
        """The body; may be called from several threads at once.

        Raises:
            ValueError: it is closed.
        """
        if self._file is None:
            return self._body
        body = bytearray()
        number = self._file.fileno()
        while len(body) < self.size and (piece := os.pread(number, self.size - len(body), len(body))):
            body += piece
        return bytes(body)

    def close(self) -> None:
        """Give the space back."""
        if self._file is not None:
            self._file.close()

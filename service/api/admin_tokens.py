"""Who may use the admin API: bearer tokens from a file that may change while the service runs."""

import hashlib
import hmac
import logging
from pathlib import Path

from starlette.requests import Request

from pixeltier.service.configuration import token_file
from pixeltier.service.configuration.token_file import TokenFileError
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.telemetry import redaction

log = logging.getLogger("pixeltier.admin")


class AdminTokens:
    """The tokens of a file, as hashes; without a file there is no admin API."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Raises:
            TokenFileError: unreadable, or no token in it.
        """
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._digests: tuple[tuple[str, bytes], ...] = ()
        if path is not None:
            self._read(path)

    @property
    def enabled(self) -> bool:
        """Whether there is an admin API."""
        return self._path is not None

    def check(self, request: Request) -> str:
        """The name of the token that a request carries.

        Raises:
            ProblemError: not-found without a token file, unauthorized without a valid token.
        """
        if self._path is None:
            raise ProblemError(Problem.NOT_FOUND, f"{request.method} {request.url.path[:200]}: Not Found")
        self._refresh(self._path)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError(Problem.UNAUTHORIZED, "the admin API needs a bearer token")
        given = _digest(token.strip())
        # Every token is compared, in constant time each: the time of an answer tells nothing of how near a guess was.
        found = [name for name, known in self._digests if hmac.compare_digest(known, given)]
        if not found:
            raise ProblemError(Problem.UNAUTHORIZED, "this token is not known")
        return found[0]

    def _refresh(self, path: Path) -> None:
        """Read the file again if it changed; one that cannot be used lets nobody in."""
        try:
            if _state_of(path) != self._state:
                self._read(path)
        except (OSError, TokenFileError) as error:
            if self._digests:
                log.error(
                    "the file of admin tokens cannot be used: nobody is let in", extra={"why": str(error)}
                )
            self._digests, self._state = (), None

    def _read(self, path: Path) -> None:
        try:
            state = _state_of(path)
        except OSError as error:
            raise TokenFileError(f"{path}: {error}") from error
        found = token_file.read(path)
        for _, token in found.tokens:
            redaction.conceal(token)  # one pasted into a path or an image's name must not end up in the log
        for fault in found.faults:
            log.warning(
                "a line of the file of admin tokens is left out", extra={"file": str(path), "why": fault}
            )
        self._digests = tuple((name, _digest(token)) for name, token in found.tokens)
        self._state = state


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()

"""Who may use the admin API: bearer tokens from a file that may change while the service runs."""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from starlette.requests import Request

from service import redaction
from service.api.problems import Problem, ProblemError

log = logging.getLogger("pixeltier.admin")

UNNAMED = "operator"
"""The name of a token that has none."""

LEAST_LENGTH = 20

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class TokenFileError(ValueError):
    """The file of admin tokens cannot be used; the message names the line, never a token."""


class AdminTokens:
    """The tokens of a file, as hashes; without a file there is no admin API."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Raises:
            TokenFileError: unreadable, no token in it, or one that is malformed.
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
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenFileError(f"{path}: {error}") from error
        found = [
            _entry(line.strip(), f"{path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        if not found:
            raise TokenFileError(f"{path}: there is no token in it")
        self._digests, self._state = tuple(found), state


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _entry(line: str, where: str) -> tuple[str, bytes]:
    name, colon, token = line.partition(":")
    if not colon:
        name, token = UNNAMED, line
    name, token = name.strip(), token.strip()
    if not _NAME.fullmatch(name):
        raise TokenFileError(f"{where}: a name is 1 to 64 letters, digits, dots, dashes or underscores")
    if len(token) < LEAST_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenFileError(
            f"{where}: a token is at least {LEAST_LENGTH} printable characters without spaces"
        )
    redaction.conceal(token)  # one pasted into a path or an image's name must not end up in the log
    return name, _digest(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()

"""Versions of the tier table on disk: one immutable file each, so that a change is there wholly or not at all.

    STATE_DIR/versions/00000003.json    the document, who put it in force, when, why, and its thresholds then
    STATE_DIR/lock                      held while a version is added

A version is written to a temporary file, flushed to the disk, renamed, and the directory flushed: a process killed at
any instant, a full disk or a lost power supply leave the versions before it. The file is also its own audit entry, so
that no change exists without one.
"""

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = logging.getLogger("pixeltier.tiers")

Kind = Literal["start", "file", "put", "patch", "rollback", "model"]

KEPT = 1000
"""Versions that stay on disk and in memory; older ones are removed."""

_NAME = re.compile(r"(\d{8})\.json")
_TEMPORARY = re.compile(r"\.\d{8}\.json\.\d+\.part")


def now() -> datetime:
    """The time of a change, in UTC, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class VersionRecord(BaseModel):
    """One version, as stored. `document` stays as written even where later releases have other rules."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = Field(ge=1)
    changed_at: datetime
    actor: str
    kind: Kind
    reason: str = ""
    request_id: str | None = None
    based_on: int | None = None
    source: str | None = None
    """SHA-256 of the tier file that was taken over last, by this version or one before it."""
    models: dict[str, str]
    document: dict[str, Any]
    thresholds: dict[str, dict[str, float]]


class VersionTakenError(Exception):
    """Another process has added a version meanwhile."""


class VersionLog(Protocol):
    """Where versions are kept and shared; used from one thread at a time. `StateDirectory` is one."""

    @property
    def seen(self) -> int:
        """The highest version number read or added here."""

    def read(self, after: int = 0) -> list[VersionRecord]:
        """The versions above `after`, oldest first; raises OSError."""

    def newer(self) -> bool:
        """Whether somebody else has added versions since the last `read` or `add`; raises OSError."""

    def add(self, record: VersionRecord) -> None:
        """Store a version so that it survives what follows; raises VersionTakenError, OSError."""


class StateDirectory:
    """The versions on disk. Not thread-safe; the store uses it from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Create the directory where it is missing and remove what a killed process left half written.

        Raises:
            OSError: it cannot be created or read.
        """
        self._versions = path / "versions"
        self._versions.mkdir(parents=True, exist_ok=True)
        self._lock = path / "lock"
        self._seen = 0
        with self._locked():
            for entry in list(self._versions.iterdir()):
                if _TEMPORARY.fullmatch(entry.name):
                    entry.unlink(missing_ok=True)

    @property
    def seen(self) -> int:
        """The highest version number read or added here; a broken file counts, so that no number is used twice."""
        return self._seen

    def _numbers(self) -> list[int]:
        return sorted(int(m[1]) for entry in self._versions.iterdir() if (m := _NAME.fullmatch(entry.name)))

    def _path(self, version: int) -> Path:
        return self._versions / f"{version:08d}.json"

    def read(self, after: int = 0) -> list[VersionRecord]:
        """The versions above `after`, oldest first; files that are broken are skipped and logged.

        Raises:
            OSError: the directory cannot be listed.
        """
        found = []
        for version in self._numbers():
            self._seen = max(self._seen, version)
            if version <= after:
                continue
            try:
                record = VersionRecord.model_validate_json(self._path(version).read_bytes())
                if record.version != version:
                    raise ValueError(f"it says that it is version {record.version}")
                found.append(record)
            except (OSError, ValueError, ValidationError) as error:
                log.exception(
                    "a stored version cannot be read and is skipped",
                    extra={"file": str(self._path(version)), "error": str(error)},
                )
        return found

    def newer(self) -> bool:
        """Whether another process has added versions since."""
        numbers = self._numbers()
        return bool(numbers) and numbers[-1] > self._seen

    def add(self, record: VersionRecord) -> None:
        """Store a version so that it survives what follows.

        Raises:
            VersionTakenError: somebody else added versions that were not read here.
            OSError: it could not be stored; the versions are as before.
        """
        with self._locked():
            if self.newer() or record.version <= self._seen:
                raise VersionTakenError
            target = self._path(record.version)
            partial = self._versions / f".{target.name}.{os.getpid()}.part"
            try:
                _write_durably(partial, record.model_dump_json(indent=1).encode() + b"\n")
                os.rename(partial, target)  # noqa: PTH104  (the tests cut in at every call of os)
                _flush_directory(self._versions)
            except BaseException:
                for path in (target, partial):  # a version that may not last must not be seen either
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
                raise
            self._seen = record.version
            self._prune()

    def _prune(self) -> None:
        for version in self._numbers()[:-KEPT]:
            with contextlib.suppress(OSError):
                self._path(version).unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            with contextlib.suppress(OSError):  # the lock ends with the descriptor, whatever close says
                os.close(descriptor)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

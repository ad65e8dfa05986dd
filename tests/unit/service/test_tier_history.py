"""Versions on disk: whatever is cut off, filled up or broken, the last good version is there."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixeltier.service.tiers import history, schema
from pixeltier.service.tiers.history import StateDirectory, VersionRecord, VersionTakenError, now

CUT = 9
"""Exit status of a child that the test cut off."""

CALLS = ("open", "write", "fsync", "rename", "close")


def _record(version: int, reason: str = "") -> VersionRecord:
    return VersionRecord(
        version=version,
        changed_at=now(),
        actor="test",
        kind="put",
        reason=reason,
        models={},
        document=schema.load().document(),
        thresholds={},
    )


class _Interrupted:
    """The module `os`, except that its n-th call of those that touch the disk does something else."""

    def __init__(self, place: int, instead: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self.left = place
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            return self._instead(name, arguments) if self.left == 0 else real(*arguments, **more)

        return call


def _cut(name: str, arguments: tuple[Any, ...]) -> Any:
    """Die, as by SIGKILL; a write gets half of its bytes out first."""
    if name == "write":
        descriptor, content = arguments
        os.write(descriptor, content[: len(content) // 2])
    os._exit(CUT)


def _in_child(work: Callable[[], None]) -> int:
    """Exit status of a forked child that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_killed_at_any_call_leaves_the_old_version_or_the_new_one(tmp_path: Path) -> None:
    seen = []
    for place in range(1, 100):
        path = tmp_path / str(place)
        StateDirectory(path).add(_record(1, "old"))

        def write(path: Path = path, place: int = place) -> None:
            directory = StateDirectory(path)
            directory.read()
            history.os = _Interrupted(place, _cut)  # type: ignore[attr-defined]
            directory.add(_record(2, "new"))

        status = _in_child(write)
        fresh = StateDirectory(path)
        found = fresh.read()
        assert [one.reason for one in found] in (["old"], ["old", "new"]), place
        assert not list((path / "versions").glob(".*")), "what was left half written is gone"
        fresh.add(_record(found[-1].version + 1))
        assert len(StateDirectory(path).read()) == len(found) + 1
        seen.append((status, len(found)))
        if status == 0:
            break
    assert seen[-1] == (0, 2)
    assert [status for status, _ in seen[:-1]] == [CUT] * (len(seen) - 1)
    assert len(seen) >= 8
    versions = [count for _, count in seen]
    assert versions == sorted(versions), "one instant separates the old version from the new one"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_at_any_call_changes_nothing_and_the_next_change_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "close":
            os.close(*arguments)
        raise OSError(error, os.strerror(error))

    refused = 0
    for place in range(1, 100):
        path = tmp_path / str(place)
        directory = StateDirectory(path)
        directory.add(_record(1, "old"))
        interrupted = _Interrupted(place, fail)
        monkeypatch.setattr(history, "os", interrupted)
        try:
            directory.add(_record(2, "new"))
            stored = True
        except OSError:
            stored = False
            refused += 1
        monkeypatch.setattr(history, "os", os)
        if interrupted.left > 0:
            assert stored
            break
        if stored:  # the lock's own end may fail: the version is there
            assert StateDirectory(path).read()[-1].reason == "new"
            continue
        assert directory.seen == 1
        assert [one.reason for one in StateDirectory(path).read()] == ["old"], place
        directory.add(_record(directory.seen + 1, "next"))
        assert StateDirectory(path).read()[-1].reason == "next"
    assert refused >= 7


def test_a_file_system_that_takes_no_more_bytes(tmp_path: Path) -> None:
    """Not simulated: the kernel itself ends the write in the middle."""
    StateDirectory(tmp_path).add(_record(1, "old"))

    def write() -> None:
        directory = StateDirectory(tmp_path)
        directory.read()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            directory.add(_record(2, "new"))
        except OSError as error:
            os._exit(CUT if error.errno == errno.EFBIG else 2)

    assert _in_child(write) == CUT
    directory = StateDirectory(tmp_path)
    assert [one.reason for one in directory.read()] == ["old"]
    assert not list((tmp_path / "versions").glob(".*"))
    directory.add(_record(2))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"version": 2}', _record(7).model_dump_json().encode()]
)
def test_a_broken_version_is_skipped_and_its_number_not_used_again(tmp_path: Path, content: bytes) -> None:
    directory = StateDirectory(tmp_path)
    directory.add(_record(1, "good"))
    directory.add(_record(2, "broken soon"))
    (tmp_path / "versions" / "00000002.json").write_bytes(content)
    fresh = StateDirectory(tmp_path)
    assert [one.reason for one in fresh.read()] == ["good"]
    assert fresh.seen == 2
    with pytest.raises(VersionTakenError):
        fresh.add(_record(2))
    fresh.add(_record(3, "next"))
    assert [one.reason for one in StateDirectory(tmp_path).read()] == ["good", "next"]


def test_of_two_processes_that_add_at_once_one_wins(tmp_path: Path) -> None:
    StateDirectory(tmp_path).add(_record(1))
    directories = [StateDirectory(tmp_path) for _ in range(2)]
    for directory in directories:
        directory.read()
    directories[0].add(_record(2, "first"))
    assert directories[1].newer()
    with pytest.raises(VersionTakenError):
        directories[1].add(_record(2, "second"))
    assert [one.reason for one in directories[1].read(after=1)] == ["first"]
    directories[1].add(_record(3, "second"))


def test_old_versions_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    directory = StateDirectory(tmp_path)
    for version in range(1, 6):
        directory.add(_record(version))
    assert [one.version for one in StateDirectory(tmp_path).read()] == [3, 4, 5]

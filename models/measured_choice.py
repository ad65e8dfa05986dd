"""The fastest of several ways to compute the same, measured on this machine once and remembered.

Processes that start together measure one after the other, and all but the first read what that one found: they agree.
"""

import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixeltier.models.atomic_files import replacing

log = logging.getLogger(__name__)

ROUNDS = 5
PREFERENCE = 0.9
"""A later candidate is taken where it needs less than this share of the first one's time: noise decides nothing."""

MOST_ENTRIES = 64
FILE = "measured.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of the candidate taken, and the milliseconds of each."""

    name: str
    milliseconds: Mapping[str, float]


def fastest(
    key: str,
    candidates: Callable[[], Mapping[str, Callable[[], object]]],
    directory: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Choose among candidates, the preferred one first; each runs a few times, in turns, and its best time counts.

    Args:
        key: all that the answer depends on; see `machine`.
        candidates: makes what is measured; not called where the answer is remembered.
        directory: where answers are kept (`cache_directory()` if None); if it cannot be written, they are not.
    """
    with _locked(directory or cache_directory()) as path:
        known = {} if path is None else _read(path)
        if key in known:
            return known[key]
        choice = _measured(candidates(), clock)
        if path is not None:
            _write(path, {**known, key: choice})
        return choice


def machine() -> str:
    """What a measurement is good for: the processor's model and the number of processors."""
    name = platform.processor()
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            name = next(
                (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name
            )
    except OSError:
        pass
    return f"{name or platform.machine()} x{os.cpu_count()}"


def cache_directory() -> Path | None:
    """`pixeltier` in the user's cache (XDG Base Directory Specification); None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "pixeltier"
    except RuntimeError:
        return None


def _measured(candidates: Mapping[str, Callable[[], object]], clock: Callable[[], float]) -> Choice:
    best: dict[str, float] = {}
    for run in candidates.values():
        run()
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            start = clock()
            run()
            best[name] = min(best.get(name, float("inf")), 1000 * (clock() - start))
    first = next(iter(best))
    quickest = min(best, key=best.__getitem__)
    chosen = quickest if best[quickest] < PREFERENCE * best[first] else first
    return Choice(chosen, {name: round(ms, 3) for name, ms in best.items()})


@contextmanager
def _locked(directory: Path | None) -> Iterator[Path | None]:
    """The file of answers, for this process alone where the directory can be written."""
    if directory is None:
        yield None
        return
    path = directory / FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / f"{FILE}.lock").open("w")
    except OSError:
        yield path
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def _read(path: Path) -> dict[str, Choice]:
    """What is remembered; nothing where the file is missing or damaged."""
    try:
        entries = json.loads(path.read_bytes())
        return {
            str(key): Choice(
                str(entry["name"]), {str(n): float(ms) for n, ms in entry["milliseconds"].items()}
            )
            for key, entry in entries.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(path: Path, choices: Mapping[str, Choice]) -> None:
    kept = list(choices.items())[-MOST_ENTRIES:]
    text = json.dumps(
        {key: {"name": c.name, "milliseconds": dict(c.milliseconds)} for key, c in kept}, indent=1
    )
    try:
        with replacing(path) as partial:
            partial.write_text(text + "\n")
    except OSError as error:
        log.debug("measurements are not kept: %s", error)

"""Requests as they came: when, what for, at which tier."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixeltier.service.tasks import Task


class ReplayError(ValueError):
    """What was given cannot be replayed; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One image to compute.

    Attributes:
        at: seconds on the recording's own clock.
        tier: the name that was asked for; None is the table's default. A `threshold` counts instead.
        image: its file; None where the recording does not say. Then `pixels` is its size, if that is known.
        line: where it stands in the recording.
        served_at, worker_ms: the threshold that it was answered at, and how long its worker took, if that was recorded.
    """

    at: float
    task: Task
    tier: str | None
    threshold: float | None
    line: int
    image: Path | None = None
    pixels: int | None = None
    served_at: float | None = None
    worker_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """The arrivals of a file in order of time.

    Attributes:
        overhead_ms: what a request took besides waiting and its worker, if that was recorded.
        latencies_ms: what answered requests took then, if that was recorded.
        left_out: requests that are not among the arrivals, by the reason.
        far_in_size: arrivals whose image, drawn from a folder, is more than a quarter larger or smaller than theirs.
    """

    arrivals: list[Arrival]
    overhead_ms: float | None = None
    latencies_ms: Sequence[float] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    far_in_size: int = 0


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, counted from 1.

    Raises:
        ReplayError: another encoding. OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise at_line(
                    path, number, f"not UTF-8 (byte 0x{byte:02X}); save the file as UTF-8"
                ) from error


def json_object(path: Path, line: int, text: str) -> dict[str, Any]:
    """The object that a line is; raises ReplayError where it is none."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise at_line(path, line, f"this is not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # an integer of 5000 digits, a thousand brackets
        raise at_line(path, line, f"this is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise at_line(path, line, "a line is a JSON object, as {...}")
    return found


def at_line(path: Path, line: int, what: str | ValidationError) -> ReplayError:
    """What is wrong with a line, as an error."""
    if isinstance(what, ValidationError):
        what = "; ".join(f"{_place(one['loc'])}{_said(one['msg'])}" for one in what.errors())
    return ReplayError(f"{path}, line {line}: {what}")


def _place(loc: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, loc))}: " if loc else ""


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")

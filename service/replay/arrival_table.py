"""A table of arrivals: CSV or JSON lines with time, task, tier, image and, instead of a tier, a threshold."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pixeltier.service.replay.arrivals import Arrival, Recording, ReplayError, at_line, json_object
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.schema import Threshold

NEEDED = ("time", "task", "image")


class Moment(NamedTuple):
    """A time in seconds; `dated` tells those since 1970 from those of a clock of the table's own."""

    seconds: float
    dated: bool


def _moment(value: object) -> Moment:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Moment(float(value), dated=False)
    text = str(value).strip()
    try:
        return Moment(float(text), dated=False)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither seconds nor a timestamp as 2026-11-26T10:00:00Z") from None
    if when.tzinfo is None:
        raise ValueError(f"{text} lacks its offset from UTC: end it with Z or +01:00")
    return Moment(when.timestamp(), dated=True)


def _finite(moment: Moment) -> Moment:
    if not abs(moment.seconds) < 1e12:
        raise ValueError("seconds are a number below 1e12")
    return moment


def _none_if_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


class Row(BaseModel):
    """One line of the table; other columns are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)

    time: Annotated[Moment, BeforeValidator(lambda value: _finite(_moment(value)))]
    task: Task
    tier: Annotated[str | None, BeforeValidator(_none_if_empty)] = None
    threshold: Annotated[Threshold | None, BeforeValidator(_none_if_empty)] = None
    image: Annotated[str, Field(min_length=1)]


def read_table(path: Path, lines: Iterable[tuple[int, str]], images: Path, *, json_lines: bool) -> Recording:
    """The arrivals of a table's lines.

    Args:
        images: the folder that the table's paths start from.

    Raises:
        ReplayError: with the line.
    """
    rows = _json_rows(path, lines) if json_lines else _csv_rows(path, lines)
    arrivals: list[Arrival] = []
    first: tuple[int, bool] | None = None
    found: set[Path] = set()
    for line, fields in rows:
        row = _row(path, line, fields)
        first = first or (line, row.time.dated)
        if row.time.dated != first[1]:
            raise at_line(path, line, f"seconds and timestamps are mixed; line {first[0]} has the other kind")
        file = images / row.image
        if file not in found and not file.is_file():
            raise at_line(path, line, f"there is no image {file}")
        found.add(file)
        arrivals.append(Arrival(row.time.seconds, row.task, row.tier, row.threshold, line, file))
    if not arrivals:
        raise ReplayError(f"{path}: no arrival in it")
    return Recording(sorted(arrivals, key=lambda one: one.at))


def _row(path: Path, line: int, fields: Any) -> Row:
    try:
        return Row.model_validate(fields)
    except ValidationError as error:
        raise at_line(path, line, error) from error


def _json_rows(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    for number, text in lines:
        if text.strip():
            yield number, json_object(path, number, text)


def _csv_rows(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 1

    def texts() -> Iterator[str]:
        nonlocal number
        for number, text in lines:  # noqa: B007  (read by the rows below)
            yield text

    reader = csv.DictReader(texts(), strict=True, skipinitialspace=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if missing := [name for name in NEEDED if name not in columns]:
            raise at_line(
                path, number, f"no column {', '.join(missing)}: a table begins with its columns' names"
            )
        reader.fieldnames = columns
        for fields in reader:
            if None in fields or None in fields.values():
                raise at_line(
                    path, number, f"there are {len(columns)} columns, and another number of cells here"
                )
            yield number, {name: cell.strip() for name, cell in fields.items()}
    except csv.Error as error:
        raise at_line(path, number, f"this is not CSV: {error}") from error

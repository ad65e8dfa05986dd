"""CSV tables of photos: a column `path`, and columns that tell their class and split."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pixeltier.models.text_files import TextError, find_stray_in_line, read_text

CLASS_COLUMNS = ("class_index", "imagenet_index")


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """A row: the photo's path as written, its class where the table has that column, its split likewise."""

    path: str
    class_index: int | None
    split: str | None


def read_rows(table: Path) -> list[PhotoRow]:
    """The rows of a table.

    Raises:
        ValueError: not UTF-8, no column `path`, a row without a path or whose class is not a whole number; with the
            line, and with the character nobody sees that may be the cause.
        OSError: the file cannot be read.
    """
    try:
        text = read_text(table)
    except TextError as error:
        raise TextError(f"{table}: {error}") from error
    # strict: a quote that never closes would swallow the rest of the table as one value
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if columns and "path" not in columns:
            raise ValueError(f"{table} has no column 'path'; it has {columns}{_stray(text, 1)}")
        column = next((name for name in CLASS_COLUMNS if name in columns), None)
        return [_row(table, reader.line_num, row, column, text) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{table}, line {reader.line_num}: {error}") from error


def _row(table: Path, line: int, row: dict[str, str], column: str | None, text: str) -> PhotoRow:
    if not row["path"]:
        raise ValueError(f"{table}, line {line}: the row has no path")
    if column is None:
        return PhotoRow(row["path"], None, row.get("split"))
    try:
        return PhotoRow(row["path"], int(row[column] or ""), row.get("split"))
    except ValueError as error:
        raise ValueError(
            f"{table}, line {line}: {column} must be a whole number, not {row[column]!r}{_stray(text, line)}"
        ) from error


def _stray(text: str, line: int) -> str:
    found = find_stray_in_line(text, line)
    return f"; {found}" if found else ""

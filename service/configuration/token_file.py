"""The file of admin tokens: NAME:TOKEN a line, read by the service and by its command line."""

import re
from dataclasses import dataclass
from pathlib import Path

from pixeltier.models.text_files import TextError, is_stray, name, read_text

UNNAMED = "operator"
"""The name of a token that has none."""

LEAST_LENGTH = 20

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class TokenFileError(ValueError):
    """The file of admin tokens cannot be used; the message names the line, never a token."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The tokens by name, and what is wrong with the lines that are none; a fault shows nothing of its line."""

    tokens: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]


def read(path: Path) -> TokenFile:
    """Read the file; a bad line disables itself only.

    Raises:
        TokenFileError: the file is unreadable, or no line of it is a token.
    """
    try:
        text = read_text(path)
    except (OSError, TextError) as error:
        raise TokenFileError(f"{path}: {error}") from error
    tokens: list[tuple[str, str]] = []
    faults: list[str] = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        entry = line.strip(" \t")
        if not entry or entry.startswith("#"):
            continue
        fault = _fault(line)
        if fault is None:
            tokens.append(_split(entry))
        else:
            faults.append(f"line {number}{fault}")
    if not tokens:
        raise TokenFileError(f"{path}: there is no token in it{''.join(f'; {fault}' for fault in faults)}")
    return TokenFile(tuple(tokens), tuple(faults))


def stray(text: str) -> str | None:
    """What stands in a token that none can have, with its column; None where nothing does."""
    for column, one in enumerate(text, 1):
        if is_stray(one):
            return f"{name(one)} at column {column} does not belong there"
        if not one.isascii():
            return f"the character at column {column} is not ASCII"
    return None


def _split(entry: str) -> tuple[str, str]:
    named, colon, token = entry.partition(":")
    return (named.strip(" \t"), token.strip(" \t")) if colon else (UNNAMED, entry)


def _fault(line: str) -> str | None:
    """What is wrong with a line, without showing any of it."""
    found = stray(line)
    if found is not None:
        return f": {found}"
    named, token = _split(line.strip(" \t"))
    if not _NAME.fullmatch(named):
        return ": a name is 1 to 64 letters, digits, dots, dashes or underscores"
    if len(token) < LEAST_LENGTH or " " in token or "\t" in token:
        return f": a token is at least {LEAST_LENGTH} printable characters without spaces"
    return None

"""Text files that people write: a byte-order mark is taken, other characters nobody sees are named with their place."""

import codecs
import json
import re
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)

_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Zl", "Zp", "Zs"})

_SEEN = frozenset(" \t\n\r")

_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffd]")
"""Drawn as nothing or as a gap though Unicode files them under letters, marks and symbols; and the replacement
character, which stands where an editor lost one."""

_LOOKALIKE = re.compile(
    "[\u00ab\u00b4\u00bb\u2010-\u201f\u2032-\u2037\u2039\u203a\u2212\ufe58\ufe63\uff01-\uff5e]"
)
"""Typographic quotes and dashes, and full-width forms, in the places of ASCII's."""

_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""' r"|'''.*?'''" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'" r"|#[^\n]*", re.DOTALL
)
"""TOML's strings and comments, whichever begins first."""

_NAMES = {"\ufeff": "BYTE-ORDER MARK", "\0": "NUL", "\x85": "NEXT LINE"}


class TextError(ValueError):
    """The bytes are not text, or not of the kind that was asked for; the message says where and what to do."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark at its beginning.

    Raises:
        TextError: another encoding. OSError: the file cannot be read.
    """
    return decode(path.read_bytes())


def decode(data: bytes) -> str:
    """UTF-8 with or without a byte-order mark; raises TextError where it is another encoding."""
    for mark, name in _WIDE_MARKS:
        if data.startswith(mark):
            raise TextError(f"the file is {name}: save it as UTF-8 (iconv -f {name} -t UTF-8 OLD > NEW)")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        raise TextError(
            f"not UTF-8: byte 0x{error.object[error.start]:02X} at {_at(before)}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise TextError(
            f"NUL at {_at(text[: text.index(chr(0))])}: the file is UTF-16 or no text; save it as UTF-8"
        )
    return text


def is_invisible(character: str) -> bool:
    """Whether nobody can see a character, or tell it from a space."""
    if character in _SEEN or (character.isascii() and character.isprintable()):
        return False
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or _BLANK.match(character) is not None


def is_lookalike(character: str) -> bool:
    """Whether a character passes for a quote, a dash or another character of ASCII."""
    return _LOOKALIKE.match(character) is not None


def is_stray(character: str) -> bool:
    """Whether a character is invisible or a lookalike."""
    return is_invisible(character) or is_lookalike(character)


def name(character: str) -> str:
    """What Unicode calls a character, with its number."""
    known = _NAMES.get(character) or unicodedata.name(character, "a control character")
    return f"{known} (U+{ord(character):04X})"


def find_invisible(text: str) -> str | None:
    """The first invisible character with its line and column, as a phrase for a message; None where there is none."""
    return next((_named(text, place) for place, one in enumerate(text) if is_invisible(one)), None)


def find_stray_in_line(text: str, line: int) -> str | None:
    """The first invisible or lookalike character of a line, counted from 1, as `find_invisible` names it."""
    lines = text.split("\n")
    if line > len(lines):
        return None
    start = sum(len(one) + 1 for one in lines[: line - 1])
    return next((_named(text, start + at) for at, one in enumerate(lines[line - 1]) if is_stray(one)), None)


def loads_toml(text: str) -> dict[str, Any]:
    """TOML's values; an error names the character nobody sees that may have caused it.

    Raises:
        TextError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer of 5000 digits does not raise TOMLDecodeError
        found = _stray_in_toml(text)
        raise TextError(f"{error}; {found}" if found else str(error)) from error


def loads_json(text: str) -> Any:
    """JSON's value, errors as those of `loads_toml`.

    Raises:
        TextError: not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        at = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
        found = _named(text, at) if at < len(text) and is_stray(text[at]) else find_invisible(text)
        raise TextError(f"{error}; {found}" if found else str(error)) from error


def invisible_in_toml(text: str) -> str | None:
    """As `find_invisible`, comments left out."""
    return find_invisible(_STRING_OR_COMMENT.sub(lambda m: _blanked(m[0]) if m[0][0] == "#" else m[0], text))


def _stray_in_toml(text: str) -> str | None:
    """The first character outside strings and comments that does not belong there; inside it would do no harm."""
    outside = _STRING_OR_COMMENT.sub(lambda m: _blanked(m[0]), text)
    for place, one in enumerate(outside):
        if is_stray(one):
            return _named(text, place)
    return None


def _blanked(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _named(text: str, place: int) -> str:
    return f"{name(text[place])} at {_at(text[:place])} does not belong there: delete it or type it anew"


def _at(before: str) -> str:
    line = before.count("\n") + 1
    return f"line {line}, column {len(before) - before.rfind(chr(10))}"

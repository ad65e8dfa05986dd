"""Entity tags and the lists of them in If-Match and If-None-Match (RFC 9110, 8.8.3 and 13.1)."""

import re
from dataclasses import dataclass

from starlette.requests import Request

_TAG = re.compile(r'[ \t,]*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?=,|$)')
"""With the empty elements before it, which a list may have (RFC 9110, 5.6.1.2)."""


@dataclass(frozen=True, slots=True)
class Tag:
    """What stands in the quotes, and whether W/ stands before them."""

    value: str
    weak: bool

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.value}"'


class MalformedError(ValueError):
    """The header is neither * nor a list of entity tags."""


def read(request: Request, name: str) -> list[Tag] | None:
    """The tags of a header, of all its lines; None for `*`.

    Raises:
        MalformedError: with the header in its message.
    """
    header = ", ".join(request.headers.getlist(name))
    if header.strip() == "*":
        return None
    tags, at = [], 0
    while found := _TAG.match(header, at):
        tags.append(Tag(found[2], weak=found[1] is not None))
        at = found.end()
    if not tags or header[at:].strip(" \t,"):
        raise MalformedError(f"{header[:100]!r} is neither * nor a list of tags in quotes")
    return tags


def is_known(request: Request, value: str) -> bool:
    """Whether If-None-Match has the tag, by the weak comparison; a malformed header has none."""
    if "if-none-match" not in request.headers:
        return False
    try:
        tags = read(request, "if-none-match")
    except MalformedError:
        return False
    return tags is None or any(tag.value == value for tag in tags)

"""Settings that are lists: one syntax for flag, environment variable and file, and what their entries may be."""

import ipaddress
import json
import re
import types
import typing
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

_DEFAULT_PORTS = {"http": 80, "https": 443}

SYNTAX = "comma separated"
"""For help texts. A JSON list is taken as well: its first character is a bracket."""


def is_list(annotation: Any) -> bool:
    """Whether a setting of this type holds several values."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        return any(is_list(part) for part in typing.get_args(annotation))
    return (origin or annotation) in {tuple, list, set, frozenset}


def split(value: Any) -> Any:
    """The entries of a text; anything else is handed on.

    Raises:
        ValueError: an empty entry, or a text that begins like a JSON list and is none.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith("["):
        entries = [entry.strip() for entry in text.split(",")] if text else []
        if not all(entries):
            raise ValueError("an entry is empty; separate entries by one comma")
        return entries
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"neither comma separated nor a JSON list: {error}") from error
    if not isinstance(found, list) or not all(isinstance(entry, str | int | float) for entry in found):
        raise ValueError("a JSON list must hold plain values")
    return found


def joined(values: Any) -> str:
    """A list as the command line spells it."""
    return ",".join(str(value) for value in values)


def _origin(value: str) -> str:
    if value == "*":
        return value
    hint = "an origin is scheme://host or scheme://host:port, as https://example.com"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@,\"']+/*", value):
        raise ValueError(f"{value!r} is not an origin: {hint}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{value!r} is not an origin ({error}): {hint}") from error
    host = parts.netloc.lower()
    if port == _DEFAULT_PORTS.get(parts.scheme):
        host = host.removesuffix(f":{port}")
    sent = f"{parts.scheme}://{host}"
    if value != sent:
        raise ValueError(f"{value!r} is never sent by a browser; write {sent}")
    return value


Origin = Annotated[str, AfterValidator(_origin)]
"""`*`, or an origin as browsers send it (RFC 6454 section 6.2): lower case, no path, no default port."""


def _proxy(value: str) -> str:
    if value not in {"*", "unix"}:
        ipaddress.ip_network(value)  # its error names the entry
    return value


Proxy = Annotated[str, AfterValidator(_proxy)]
"""An address, a network without host bits, `unix` for the peer of a Unix socket, or `*`."""

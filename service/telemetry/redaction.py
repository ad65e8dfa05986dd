"""Takes secrets out of what is logged: those the service knows, and whatever looks like one."""

import json
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRETS = re.compile(
    r"""
    pxt_[\w-]{8,}                                                             # our own API keys
    | bearer (?:\s|%20|\+)+ (?P<bearer> [^\s"'\\,;&]+ )
    | authorization ["']? [\s,:=]+ (?:b(?=["']))? ["']? (?P<header> (?:(?:bearer|basic|digest)\s+)? [^\s"'\\,;&]+ )
    | (?:token|secret|password|passwd|api[_-]?key|signature)
      ["']? \s* [=:] \s* (?:b(?=["']))? ["']? (?P<value> [^\s"'\\,;&]+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What looks like a secret wherever it stands: tokens, credentials, and `token=...` as in query strings."""

_HINTS = (
    "pxt_", "bearer", "authorization", "token", "secret", "passw", "apikey", "api_key", "api-key", "signature",
    "cookie",
)  # fmt: skip
"""Text without any of these holds none of them: most lines are spared the search."""

_SECRET_NAME = re.compile(
    r"(?:proxy-)?authorization|(?:set-)?cookie|.*(?:token|secret|password|api[_-]?key)", re.I
)
"""Names of fields and headers whose values are secrets, whatever they look like."""

_known_secrets: set[str] = set()


def conceal(secret: str) -> None:
    """Have this very string never logged, whatever its form. For secrets that the service reads itself.

    Ones shorter than four characters are left alone: they are not secrets, and would tear holes into words.
    """
    if len(secret) >= 4:
        _known_secrets.update({secret, json.dumps(secret, ensure_ascii=False)[1:-1]})


def redact(text: str) -> str:
    """The text with every secret replaced by `[redacted]`."""
    for secret in _known_secrets:
        text = text.replace(secret, REDACTED)
    return _SECRETS.sub(_without_secret, text) if _hinted(text) else text


def suspicious(text: str) -> bool:
    """Whether the text may hold a secret and is worth the pains of `clean`; quick, and never wrongly no."""
    return _hinted(text) or any(secret in text for secret in _known_secrets)


def clean(fields: Mapping[str, object]) -> dict[str, Any]:
    """The fields of an event with the secrets in them taken out, to any depth.

    Numbers stay numbers; what JSON has no form for becomes text.
    """
    return {str(name): _clean_named(str(name), value) for name, value in fields.items()}


def _hinted(text: str) -> bool:
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _without_secret(match: re.Match[str]) -> str:
    value = match[match.lastgroup] if match.lastgroup else match[0]
    return match[0].removesuffix(value) + REDACTED


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return clean(value)
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str | bytes):  # a header, as ASGI and httpx write them
            return [_clean(value[0]), _clean_named(_text(value[0]), value[1])]
        return [_clean(item) for item in value]
    return value if isinstance(value, int | float | None) else redact(str(value))


def _clean_named(name: str, value: object) -> object:
    return REDACTED if value is not None and _SECRET_NAME.fullmatch(name) else _clean(value)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value

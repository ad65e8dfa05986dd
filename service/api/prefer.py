"""The Prefer header (RFC 7240): whether a client would rather have its answer later."""

from dataclasses import dataclass

from starlette.requests import Request

LONGEST_WAIT_S = 600.0

RESPOND_ASYNC = "respond-async"


@dataclass(frozen=True, slots=True)
class Preference:
    """`respond_async`: a 202 will do, where the answer takes longer than `wait_s`."""

    respond_async: bool = False
    wait_s: float = 0.0


def preference_of(request: Request) -> Preference:
    """What the header's lines say; of what is said twice the first counts, and what is not understood is nothing."""
    said: dict[str, str] = {}
    for part in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = said.get("wait", "")
    seconds = float(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 9 else 0.0
    return Preference(RESPOND_ASYNC in said, min(LONGEST_WAIT_S, seconds))

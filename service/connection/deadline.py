"""When to ask again: Retry-After, growing pauses, and one deadline over all attempts."""

import email.utils
import math
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

RETRIED = frozenset({429, 502, 503})
"""Answers that may be other ones a moment later."""

_LONGEST_MS = 2**31
"""The longest X-Request-Timeout-Ms that the service reads."""


@dataclass(slots=True)
class Attempts:
    """The attempts of one call."""

    timeout_s: float
    retries: int
    started: float = field(default_factory=time.monotonic)
    made: int = 0

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.timeout_s - (time.monotonic() - self.started)

    def headers(self) -> dict[str, str]:
        """The service learns how long we still wait: it drops what we would no longer read."""
        return {"X-Request-Timeout-Ms": str(max(1, int(min(_LONGEST_MS, self.left_s * 1000))))}

    def pause_s(self, response: httpx.Response | None) -> float | None:
        """Seconds until the next attempt; None: this was the last."""
        self.made += 1
        if self.made > self.retries or (response is not None and not _may_change(response)):
            return None
        told = retry_after_s(response.headers) if response is not None else None
        pause = told if told is not None else 0.1 * 2.0 ** (self.made - 1)
        room = self.left_s - pause
        if room <= 0:
            return None
        # So that clients do not come back in step; never earlier than told, and in time.
        return pause + min(0.25 * pause, 0.5 * room) * random.random()  # noqa: S311


def _may_change(response: httpx.Response) -> bool:
    """Whether asking again may give another answer: images are only looked at, so asking twice does no harm."""
    ours = response.headers.get("content-type", "").startswith("application/problem+json")
    # A 5xx that is not a problem document is a proxy's, whose replica died at the request.
    return response.status_code in RETRIED or (response.status_code >= 500 and not ours)


def retry_after_s(headers: httpx.Headers) -> float | None:
    """The seconds that Retry-After asks for (RFC 9110 section 10.2.3); None where it is absent or not valid."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) < 18 else math.inf
    when = _http_date(text)
    if when is None:
        return None
    # By the server's own clock, where it says what that shows.
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (when - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    """An HTTP-date in any of its three forms (RFC 9110 section 5.6.7)."""
    if not text[:3].isalpha():  # each begins with the day's name; the parser alone would take much more
        return None
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

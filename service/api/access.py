"""Who may do what: API keys with allowed tiers, rate and concurrency. Without a key file everything is open.

The file is TOML; keys stand in it as SHA-256 of the token, made by `pixeltier key NAME`:

    anonymous = false            # may requests come without a key? They then share [limits] per address.

    [[keys]]
    name = "team-a"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    tiers = ["fast", "fastest"]  # all if absent; "custom" stands for thresholds of the client's own
    rate = 5.0                   # images a second on average; unlimited if absent
    burst = 20                   # images at once
    concurrency = 4              # images in flight; unlimited if absent
    urgency = 0                  # the best RFC 9218 urgency it may ask for; 3 if absent
"""

import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from pixeltier.models.text_files import TextError, invisible_in_toml, loads_toml, read_text
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.telemetry.record import record_of

MAX_ADDRESSES = 10_000
"""Addresses whose budgets are remembered; the longest idle is forgotten first."""


class AccessFileError(ValueError):
    """The key file cannot be used."""


class ClientLimits(BaseModel):
    """What a client may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiers: tuple[str, ...] | None = None
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    burst: int = Field(default=10, ge=1)
    concurrency: Annotated[int, Field(ge=1)] | None = None
    urgency: int = Field(default=3, ge=0, le=7)


class Key(ClientLimits):
    """A client with a key."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class AccessFile(BaseModel):
    """The key file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anonymous: bool = False
    limits: ClientLimits = ClientLimits()
    keys: tuple[Key, ...] = ()


@dataclass(slots=True)
class _Budget:
    """A token bucket, and how many images are in flight."""

    limits: ClientLimits
    tokens: float = field(init=False)
    seen: float = field(default_factory=time.monotonic)
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.tokens = float(self.limits.burst)

    def take(self, images: int) -> float:
        """Take so many images; the seconds to wait if there are too few."""
        rate = self.limits.rate
        if rate is None:
            return 0.0
        now = time.monotonic()
        self.tokens = min(float(self.limits.burst), self.tokens + (now - self.seen) * rate)
        self.seen = now
        if self.tokens >= images:
            self.tokens -= images
            return 0.0
        return (images - self.tokens) / rate

    def headers(self, wait_s: float) -> dict[str, str]:
        """RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
        limits = self.limits
        window = max(1, math.ceil(limits.burst / limits.rate)) if limits.rate else 1
        return {
            "RateLimit-Policy": f'"client";q={limits.burst};w={window}',
            "RateLimit": f'"client";r={int(self.tokens)};t={math.ceil(wait_s)}',
        }


@dataclass(slots=True)
class Visit:
    """A request that was let in. What it may do is counted in images."""

    limits: ClientLimits
    _budget: _Budget | None
    _images: int = 0

    def add(self, images: int) -> None:
        """Count more images of the request.

        Raises:
            ProblemError: rate-limited.
        """
        budget, limits = self._budget, self.limits
        if budget is None or not images:
            return
        if limits.concurrency is not None and budget.in_flight + images > limits.concurrency:
            detail = f"{budget.in_flight} images of yours are in flight and {limits.concurrency} may be"
            raise ProblemError(Problem.RATE_LIMITED, detail, retry_after_s=1, headers=budget.headers(1))
        wait_s = budget.take(images)
        if wait_s > 0:
            raise ProblemError(
                Problem.RATE_LIMITED,
                f"you may send {limits.rate:g} images a second, {limits.burst} at once",
                retry_after_s=math.ceil(wait_s),
                headers=budget.headers(wait_s),
            )
        budget.in_flight += images
        self._images += images

    def end(self) -> None:
        """Count the images as done."""
        if self._budget is not None:
            self._budget.in_flight -= self._images


class Access:
    """Checks every inference request."""

    def __init__(self, file: AccessFile | None) -> None:
        self._file = file
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()

    @contextmanager
    def admit(self, request: Request) -> Iterator["Visit"]:
        """Let a request in, as one image, or raise; its images count as in flight until the block ends.

        Raises:
            ProblemError: unauthorized, rate-limited.
        """
        if self._file is None:
            yield Visit(ClientLimits(), None)
            return
        name, limits = self._identify(request, self._file)
        record_of(request).client = name
        visit = Visit(limits, self._budget(name, limits))
        visit.add(1)
        try:
            yield visit
        finally:
            visit.end()

    def owner(self, request: Request) -> str | None:
        """The name of the key that a request comes with; None where it needs none.

        Raises:
            ProblemError: unauthorized.
        """
        if self._file is None:
            return None
        name, limits = self._identify(request, self._file)
        record_of(request).client = name
        return name if isinstance(limits, Key) else None

    def _identify(self, request: Request, file: AccessFile) -> tuple[str, ClientLimits]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).hexdigest()
            # Every key is compared, in constant time each: the answer's time tells nothing of how near a guess was.
            found = [key for key in file.keys if hmac.compare_digest(key.sha256, digest)]
            if found:
                return found[0].name, found[0]
            raise ProblemError(Problem.UNAUTHORIZED, "this key is not known")
        if not file.anonymous:
            raise ProblemError(Problem.UNAUTHORIZED, "this service needs a key")
        return f"address:{request.client.host if request.client else '?'}", file.limits

    def _budget(self, name: str, limits: ClientLimits) -> _Budget:
        budget = self._budgets.get(name)
        if budget is None:
            budget = self._budgets[name] = _Budget(limits)
            if len(self._budgets) > MAX_ADDRESSES:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(name)
        return budget


def check_tier(limits: ClientLimits, tier: str) -> None:
    """Raises ProblemError forbidden where the client may not use a tier."""
    if limits.tiers is not None and tier not in limits.tiers:
        allowed = ", ".join(limits.tiers)
        raise ProblemError(Problem.FORBIDDEN, f"your key does not allow the tier {tier}, but {allowed}")


def load(path: Path | None) -> Access:
    """Read the key file; open access for None.

    Raises:
        AccessFileError: unreadable or invalid; the message names the place, never a hash.
    """
    if path is None:
        return Access(None)
    try:
        text = read_text(path)
        document = loads_toml(text)
    except (OSError, TextError) as error:
        raise AccessFileError(f"{path}: {error}") from error
    if (stray := invisible_in_toml(text)) is not None:
        raise AccessFileError(f"{path}: {stray}")
    try:
        file = AccessFile.model_validate(document)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise AccessFileError(f"{path}: {places}") from error
    names = [key.name for key in file.keys]
    if len(set(names)) != len(names):
        raise AccessFileError(f"{path}: duplicate key name")
    return Access(file)


def new_key(name: str) -> tuple[str, str]:
    """A fresh token, and the stanza for the key file that knows only its hash."""
    token = f"pxt_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    return token, f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\n'

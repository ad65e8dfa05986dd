"""A typed client, sync and async: retries that honour Retry-After, one deadline over all of them.

>>> with Client("http://localhost:8000") as pixeltier:
...     print(pixeltier.classify(Path("cat.jpg"), tier="fast").predictions[0].label)
"""

import asyncio
import random
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

import httpx

from service import __version__

Image = bytes | Path
"""Compressed bytes, or a file that holds them."""

RETRIED = frozenset({429, 502, 503})
"""Answers that may be other ones a moment later."""

DEFAULT_URL = "http://127.0.0.1:8000"


class CostOptions(TypedDict, total=False):
    """What an answer may cost; None is as good as nothing."""

    tier: str | None
    threshold: float | None
    max_macs_ratio: float | None
    max_latency_ms: float | None


class ClassifyOptions(CostOptions, total=False):
    """Of `classify`."""

    top_k: int | None


class UpscaleOptions(CostOptions, total=False):
    """Of `upscale`."""

    format: Literal["png", "webp", "jpeg"] | None
    quality: int | None


class PixeltierError(Exception):
    """The service answered with a problem, or could not be reached (status 0, type `unreachable`)."""

    def __init__(self, status: int, type_: str, detail: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(f"{type_} ({status}): {detail}" if status else f"{type_}: {detail}")
        self.status = status
        self.type = type_
        self.detail = detail
        self.document = document or {}


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer cost, from its headers."""

    request_id: str
    tier: str
    tier_effective: str
    threshold: float
    macs_dense: int
    macs_executed: int
    macs_saved_ratio: float
    config_version: int
    model_version: str
    timings_ms: dict[str, float]
    predicted_ms: float | None = None
    """What the service expected `timings_ms["total"]` to be."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """Best classes first."""

    predictions: list[Prediction]
    cost: Cost


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A compressed image of four times the size."""

    body: bytes
    media_type: str
    cost: Cost


@dataclass(slots=True)
class _Attempts:
    """When to try again, shared by both clients."""

    timeout_s: float
    retries: int
    started: float = field(default_factory=time.monotonic)
    made: int = 0

    @property
    def left_s(self) -> float:
        return self.timeout_s - (time.monotonic() - self.started)

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        """The service learns how long we still wait: it drops what we would no longer read."""
        return headers | {"X-Request-Timeout-Ms": str(max(1, int(self.left_s * 1000)))}

    def pause_s(self, response: httpx.Response | None) -> float | None:
        """Seconds until the next attempt; None: this was the last."""
        self.made += 1
        if self.made > self.retries or (response is not None and not _may_change(response)):
            return None
        told = _retry_after(response) if response is not None else None
        pause = told if told is not None else 0.1 * 2.0 ** (self.made - 1)
        pause *= 1.0 + 0.25 * random.random()  # noqa: S311 - so that clients do not come back in step
        return pause if pause < self.left_s else None


def _may_change(response: httpx.Response) -> bool:
    """Whether asking again may give another answer: images are only looked at, so asking twice does no harm."""
    ours = response.headers.get("content-type", "").startswith("application/problem+json")
    # A 5xx that is no problem document is a proxy's, whose replica died at the request.
    return response.status_code in RETRIED or (response.status_code >= 500 and not ours)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _request(
    route: str, image: Image, parameters: dict[str, Any], api_key: str | None
) -> tuple[str, bytes, dict[str, str], dict[str, str]]:
    query = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    headers = {"Content-Type": "application/octet-stream", **_trace_headers()}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    body = image.read_bytes() if isinstance(image, Path) else image
    return route, body, query, headers


def _trace_headers() -> dict[str, str]:
    """The caller's trace context, where its program traces: what it never imported, we do not either."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        document = response.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    raise PixeltierError(
        response.status_code,
        str(document.get("type", "http-error")),
        str(document.get("detail", response.reason_phrase)),
        document,
    )


def _cost(response: httpx.Response) -> Cost:
    headers = response.headers
    predicted = headers.get("X-Latency-Predicted-Ms")
    timings = {}
    for part in headers.get("Server-Timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        if duration:
            timings[name] = float(duration)
    return Cost(
        request_id=headers["X-Request-Id"],
        tier=headers["X-Tier"],
        tier_effective=headers["X-Tier-Effective"],
        threshold=float(headers["X-Threshold"]),
        macs_dense=int(headers["X-Macs-Dense"]),
        macs_executed=int(headers["X-Macs-Executed"]),
        macs_saved_ratio=float(headers["X-Macs-Saved-Ratio"]),
        config_version=int(headers["X-Config-Version"]),
        model_version=headers["X-Model-Version"],
        timings_ms=timings,
        predicted_ms=float(predicted) if predicted else None,
    )


def _classification(response: httpx.Response) -> Classification:
    predictions = [Prediction(**one) for one in response.json()["predictions"]]
    return Classification(predictions, _cost(response))


def _upscaled(response: httpx.Response) -> Upscaled:
    return Upscaled(response.content, response.headers["Content-Type"], _cost(response))


def _unreachable(error: httpx.HTTPError) -> PixeltierError:
    return PixeltierError(0, "unreachable", f"{type(error).__name__}: {error}")


Plan = Generator[
    tuple[dict[str, str], float] | float, httpx.Response | httpx.TransportError | None, httpx.Response
]


def _plan(attempts: _Attempts, headers: dict[str, str]) -> Plan:
    """The retry loop without any input or output, so that sync and async run the same one.

    Yields (headers, timeout) to have a request sent and expects its outcome; yields a number to sleep.
    """
    while True:
        outcome = yield attempts.headers(headers), max(0.001, attempts.left_s)
        response = outcome if isinstance(outcome, httpx.Response) else None
        if response is not None and response.is_success:
            return response
        pause = attempts.pause_s(response)
        if pause is None:
            if isinstance(outcome, httpx.TransportError):
                raise _unreachable(outcome) from outcome
            if response is None:
                raise RuntimeError("the plan was not told the outcome")
            return _checked(response)
        yield pause


class _Base:
    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._retries = retries

    def _attempts(self) -> _Attempts:
        return _Attempts(self._timeout_s, self._retries)

    @property
    def _agent(self) -> dict[str, str]:
        return {"User-Agent": f"pixeltier/{__version__}"}


class Client(_Base):
    """The synchronous client. Its methods raise PixeltierError."""

    def __init__(self, *args: Any, transport: httpx.BaseTransport | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.Client(base_url=self._url, headers=self._agent, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def classify(self, image: Image, **options: Unpack[ClassifyOptions]) -> Classification:
        """Name what an image shows, at a tier or threshold, within a budget (see docs/api.md)."""
        return _classification(self._post("/v1/classify", image, **options))

    def upscale(self, image: Image, **options: Unpack[UpscaleOptions]) -> Upscaled:
        """Enlarge an image four times, at a tier or threshold, within a budget (see docs/api.md)."""
        return _upscaled(self._post("/v1/super-resolve", image, **options))

    def ready(self) -> bool:
        """Whether the service takes work now."""
        try:
            return self._http.get("/readyz", timeout=5.0).is_success
        except httpx.TransportError:
            return False

    def tiers(self) -> dict[str, Any]:
        """The tier table, as GET /v1/tiers gives it."""
        try:
            answer: dict[str, Any] = _checked(self._http.get("/v1/tiers", timeout=5.0)).json()
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        return answer

    def _post(self, route: str, image: Image, **parameters: Any) -> httpx.Response:
        path, body, query, headers = _request(route, image, parameters, self._api_key)
        plan = _plan(self._attempts(), headers)
        try:
            step = next(plan)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = next(plan)
                    continue
                sent, timeout = step
                outcome: httpx.Response | httpx.TransportError
                try:
                    outcome = self._http.post(path, content=body, params=query, headers=sent, timeout=timeout)
                except httpx.TransportError as error:
                    outcome = error
                step = plan.send(outcome)
        except StopIteration as done:
            response: httpx.Response = done.value
            return response


class AsyncClient(_Base):
    """The asynchronous client. Its methods raise PixeltierError."""

    def __init__(self, *args: Any, transport: httpx.AsyncBaseTransport | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.AsyncClient(base_url=self._url, headers=self._agent, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def classify(self, image: Image, **options: Unpack[ClassifyOptions]) -> Classification:
        """Name what an image shows, at a tier or threshold, within a budget (see docs/api.md)."""
        return _classification(await self._post("/v1/classify", image, **options))

    async def upscale(self, image: Image, **options: Unpack[UpscaleOptions]) -> Upscaled:
        """Enlarge an image four times, at a tier or threshold, within a budget (see docs/api.md)."""
        return _upscaled(await self._post("/v1/super-resolve", image, **options))

    async def _post(self, route: str, image: Image, **parameters: Any) -> httpx.Response:
        path, body, query, headers = _request(route, image, parameters, self._api_key)
        plan = _plan(self._attempts(), headers)
        try:
            step = next(plan)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = next(plan)
                    continue
                sent, timeout = step
                outcome: httpx.Response | httpx.TransportError
                try:
                    outcome = await self._http.post(
                        path, content=body, params=query, headers=sent, timeout=timeout
                    )
                except httpx.TransportError as error:
                    outcome = error
                step = plan.send(outcome)
        except StopIteration as done:
            response: httpx.Response = done.value
            return response

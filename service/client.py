"""A typed client, sync and async: retries that honour Retry-After, one deadline over everything.

>>> with Client("http://localhost:8000") as pixeltier:
...     print(pixeltier.classify(Path("cat.jpg"), tier="fast").predictions[0].label)
"""

import asyncio
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack

import httpx

from pixeltier.service.connection import answers, background_loop
from pixeltier.service.connection.answers import Classification, Cost, Prediction, Upscaled
from pixeltier.service.connection.deadline import Attempts
from pixeltier.service.connection.errors import PixeltierError
from pixeltier.service.connection.exchange import Connection
from pixeltier.service.connection.jobs import PREFER, Following, Progress

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "Classification",
    "ClassifyOptions",
    "Client",
    "Cost",
    "CostOptions",
    "Image",
    "PixeltierError",
    "Prediction",
    "Progress",
    "UpscaleOptions",
    "Upscaled",
]

Answer = TypeVar("Answer")

Image = bytes | Path
"""Compressed bytes, or a file that holds them."""

DEFAULT_URL = "http://127.0.0.1:8000"

_READY_TIMEOUT_S = 5.0


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
    scale: Literal[2, 3, 4] | None
    width: int | None
    height: int | None
    quality_of_input: Literal["auto", "clean", "compressed"] | None


class _Base:
    """Arguments of both clients.

    Args:
        url: http://host:port, https://host or unix:/path/of/the.sock, with a path prefix if there is one.
        api_key: sent as bearer token.
        timeout_s: seconds that a call may take in all: connecting, sending, reading, pauses and retries.
        retries: attempts after the first.
        transport: in place of the network, for tests.

    Raises:
        PixeltierError: `invalid-url`, `invalid-key`. ValueError: a timeout that is not above 0.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if math.isnan(timeout_s) or timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s:g}")
        self._connection = Connection(url, api_key=api_key, transport=transport)
        self._timeout_s = timeout_s
        self._retries = retries

    def _attempts(self) -> Attempts:
        return Attempts(self._timeout_s, self._retries)

    async def _post(
        self,
        route: str,
        body: bytes,
        attempts: Attempts,
        parameters: dict[str, Any],
        trace: dict[str, str],
    ) -> httpx.Response:
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        headers = {"Content-Type": "application/octet-stream", **trace}
        response = await self._connection.ask("POST", route, attempts, headers, content=body, params=query)
        return answers.checked(response)

    async def _upscale(
        self,
        image: Image,
        following: Following,
        attempts: Attempts,
        parameters: dict[str, Any],
        trace: dict[str, str],
    ) -> Upscaled:
        """Enlarge, by a job where it takes longer; whoever stops waiting has `following` abandon it."""
        body = (await asyncio.to_thread(_file, image))[1]
        first = await self._post("/v1/super-resolve", body, attempts, parameters, {"Prefer": PREFER, **trace})
        return answers.upscaled(await following.result(first))

    async def _post_many(
        self, route: str, images: Sequence[Image], parameters: dict[str, Any], trace: dict[str, str]
    ) -> httpx.Response:
        attempts = self._attempts()
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        files = [("file", await asyncio.to_thread(_file, image)) for image in images]
        headers = {"Accept": answers.MIXED, **trace}
        response = await self._connection.ask("POST", route, attempts, headers, files=files, params=query)
        return answers.checked(response)

    async def _outcomes(
        self,
        route: str,
        images: Sequence[Image],
        read: Callable[[httpx.Response], Answer],
        parameters: dict[str, Any],
        trace: dict[str, str],
    ) -> list[Answer | PixeltierError]:
        if len(images) > 1:
            return answers.outcomes(await self._post_many(route, images, parameters, trace), read)
        found: list[Answer | PixeltierError] = []
        for image in images:
            body = (await asyncio.to_thread(_file, image))[1]
            try:
                found.append(read(await self._post(route, body, self._attempts(), parameters, trace)))
            except PixeltierError as error:
                found.append(error)
        return found

    async def _check_ready(self, at_most_s: float = math.inf) -> None:
        attempts = Attempts(min(self._timeout_s, at_most_s), retries=0)
        answers.check_ready(await self._connection.send("GET", "/readyz", attempts))

    async def _is_ready(self) -> bool:
        try:
            await self._check_ready(_READY_TIMEOUT_S)
        except PixeltierError:
            return False
        return True

    async def _tiers(self) -> dict[str, Any]:
        return answers.json_object(await self._connection.ask("GET", "/v1/tiers", self._attempts(), {}))


class Client(_Base):
    """The blocking client. Its methods raise PixeltierError, and OSError where an image's file cannot be read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        background_loop.run(self._connection.close())

    def classify(self, image: Image, **options: Unpack[ClassifyOptions]) -> Classification:
        """Name what an image shows, at a tier or threshold, within a budget (see docs/api.md)."""
        return answers.classification(self._blocking_post("/v1/classify", image, **options))

    def upscale(
        self, image: Image, *, progress: Progress | None = None, **options: Unpack[UpscaleOptions]
    ) -> Upscaled:
        """Enlarge an image up to four times, at a tier or threshold, within a budget (see docs/api.md).

        `progress` is told the tiles done, and all, of an image that takes longer than a second, in another thread.
        """
        if progress is None:
            return answers.upscaled(self._blocking_post("/v1/super-resolve", image, **options))
        attempts = self._attempts()
        following = Following(self._connection, attempts, progress)
        try:
            return background_loop.run(
                self._upscale(image, following, attempts, {**options}, _trace_headers())
            )
        except BaseException:
            background_loop.run(following.abandon())
            raise

    def classify_many(
        self, images: Sequence[Image], **options: Unpack[ClassifyOptions]
    ) -> list[Classification | PixeltierError]:
        """Several images in one request, each with its answer or its own error; the service says how many it takes."""
        return background_loop.run(
            self._outcomes("/v1/classify", images, answers.classification, {**options}, _trace_headers())
        )

    def upscale_many(
        self, images: Sequence[Image], **options: Unpack[UpscaleOptions]
    ) -> list[Upscaled | PixeltierError]:
        """As `classify_many`; all answers are held in memory."""
        return background_loop.run(
            self._outcomes("/v1/super-resolve", images, answers.upscaled, {**options}, _trace_headers())
        )

    def check_ready(self) -> None:
        """Raise PixeltierError unless the service takes work now: `not-ready`, or why it cannot be asked."""
        background_loop.run(self._check_ready())

    def ready(self) -> bool:
        """Whether the service takes work now; False also where it cannot be reached within five seconds."""
        return background_loop.run(self._is_ready())

    def tiers(self) -> dict[str, Any]:
        """The tier table, as GET /v1/tiers gives it."""
        return background_loop.run(self._tiers())

    def _blocking_post(self, route: str, image: Image, **parameters: Any) -> httpx.Response:
        attempts = self._attempts()
        body = image.read_bytes() if isinstance(image, Path) else image
        # The caller's trace is known in the caller's thread only.
        return background_loop.run(self._post(route, body, attempts, parameters, _trace_headers()))


class AsyncClient(_Base):
    """The asynchronous client. Its methods raise as those of `Client`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what is open."""
        await self._connection.close()

    async def classify(self, image: Image, **options: Unpack[ClassifyOptions]) -> Classification:
        """Name what an image shows, at a tier or threshold, within a budget (see docs/api.md)."""
        return answers.classification(await self._send("/v1/classify", image, **options))

    async def upscale(
        self, image: Image, *, progress: Progress | None = None, **options: Unpack[UpscaleOptions]
    ) -> Upscaled:
        """Enlarge an image up to four times, at a tier or threshold, within a budget (see docs/api.md).

        `progress` is told the tiles done, and all, of an image that takes longer than a second.
        """
        if progress is None:
            return answers.upscaled(await self._send("/v1/super-resolve", image, **options))
        attempts = self._attempts()
        following = Following(self._connection, attempts, progress)
        try:
            return await self._upscale(image, following, attempts, {**options}, _trace_headers())
        except BaseException:
            await following.abandon()
            raise

    async def classify_many(
        self, images: Sequence[Image], **options: Unpack[ClassifyOptions]
    ) -> list[Classification | PixeltierError]:
        """Several images in one request, each with its answer or its own error; the service says how many it takes."""
        return await self._outcomes(
            "/v1/classify", images, answers.classification, {**options}, _trace_headers()
        )

    async def upscale_many(
        self, images: Sequence[Image], **options: Unpack[UpscaleOptions]
    ) -> list[Upscaled | PixeltierError]:
        """As `classify_many`; all answers are held in memory."""
        return await self._outcomes(
            "/v1/super-resolve", images, answers.upscaled, {**options}, _trace_headers()
        )

    async def check_ready(self) -> None:
        """Raise PixeltierError unless the service takes work now: `not-ready`, or why it cannot be asked."""
        await self._check_ready()

    async def ready(self) -> bool:
        """Whether the service takes work now; False also where it cannot be reached within five seconds."""
        return await self._is_ready()

    async def tiers(self) -> dict[str, Any]:
        """The tier table, as GET /v1/tiers gives it."""
        return await self._tiers()

    async def _send(self, route: str, image: Image, **parameters: Any) -> httpx.Response:
        attempts = self._attempts()
        body = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image
        return await self._post(route, body, attempts, parameters, _trace_headers())


def _file(image: Image) -> tuple[str, bytes]:
    """A name and the bytes of an image."""
    return (image.name, image.read_bytes()) if isinstance(image, Path) else ("image", image)


def _trace_headers() -> dict[str, str]:
    """The caller's trace context, where its program traces: what it never imported, we do not either."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers

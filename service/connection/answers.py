"""What the service answers, and how it is told from what anything between may answer instead."""

import email
import email.message
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from pixeltier.service.connection.errors import UNEXPECTED, PixeltierError

MIXED = "multipart/mixed"

_SHARED = ("X-Request-Id", "X-Config-Version", "X-Model-Version")
"""What the answer to several images says once."""

Answer = TypeVar("Answer")


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
    """A compressed image of up to four times the size; `quality_of_input` is what its weights are made for."""

    body: bytes
    media_type: str
    cost: Cost
    quality_of_input: str = ""


def classification(response: httpx.Response) -> Classification:
    """Read an answer of /v1/classify; raises PixeltierError."""
    document = json_object(response)
    with _expected(response):
        predictions = [
            Prediction(int(one["index"]), str(one["label"]), float(one["probability"]))
            for one in document["predictions"]
        ]
    return Classification(predictions, _cost(response))


def upscaled(response: httpx.Response) -> Upscaled:
    """Read an answer of /v1/super-resolve; raises PixeltierError."""
    media_type = checked(response).headers.get("Content-Type", "")
    if not media_type.startswith("image/"):
        raise unexpected(response)
    return Upscaled(
        response.content, media_type, _cost(response), response.headers.get("X-Quality-Of-Input", "")
    )


def parts(response: httpx.Response) -> list[httpx.Response]:
    """The answers to several images, each as if it had come alone; raises PixeltierError.

    What the whole answer says (request, table and model) stands in each of them, too.
    """
    message = email.message.Message()
    message["Content-Type"] = checked(response).headers.get("Content-Type", "")
    boundary = message.get_boundary()
    if message.get_content_type() != MIXED or not boundary:
        raise unexpected(response)
    shared = {name: response.headers[name] for name in _SHARED if name in response.headers}
    found = []
    with _expected(response):
        for part in (b"\r\n" + response.content).split(f"\r\n--{boundary}".encode())[1:-1]:
            head, _, body = part.partition(b"\r\n\r\n")
            headers = email.message_from_bytes(head.lstrip(b"\r\n"))
            status = int(headers["X-Status"])
            found.append(
                httpx.Response(
                    status, headers=shared | dict(headers.items()), content=body, request=response.request
                )
            )
    return found


def outcomes(
    response: httpx.Response, read: Callable[[httpx.Response], Answer]
) -> list[Answer | PixeltierError]:
    """The answers to several images, each read as if it had come alone; raises PixeltierError for all of them."""
    found: list[Answer | PixeltierError] = []
    for part in parts(response):
        try:
            found.append(read(part))
        except PixeltierError as error:
            found.append(error)
    return found


def check_ready(response: httpx.Response) -> None:
    """Read an answer of /readyz; raises PixeltierError, `not-ready` where the service says so."""
    if json_object(response).get("status") != "ready":
        raise unexpected(response)


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a success; raises PixeltierError."""
    with _expected(checked(response)):
        document = response.json()
    if not isinstance(document, dict):
        raise unexpected(response)
    return document


def checked(response: httpx.Response) -> httpx.Response:
    """The answer, if it is a success; raises PixeltierError with the problem else."""
    if response.is_success:
        return response
    document = _problem(response)
    type_, detail = document.get("type"), document.get("detail")
    raise PixeltierError(
        response.status_code,
        type_ if isinstance(type_, str) and type_ else "http-error",
        detail if isinstance(detail, str) and detail else _failure(response),
        document,
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _failure(response: httpx.Response) -> str:
    if response.is_redirect:
        return f"it redirects to {response.headers['Location'][:200]}; give the URL that it leads to"
    return f"{response.status_code} {response.reason_phrase} without a problem document: not from Pixeltier"


def unexpected(response: httpx.Response) -> PixeltierError:
    """What to raise where an answer is not one of the service's."""
    kind = response.headers.get("Content-Type", "") or "no Content-Type"
    url = response.request.url.copy_with(userinfo=b"")
    detail = f"{kind[:100]} at {url} is not an answer of Pixeltier; is it another service, or a proxy's page?"
    return PixeltierError(response.status_code, UNEXPECTED, detail)


@contextmanager
def _expected(response: httpx.Response) -> Iterator[None]:
    """What cannot be read inside was not written by the service."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise unexpected(response) from error


def _cost(response: httpx.Response) -> Cost:
    headers = response.headers
    with _expected(response):
        predicted = headers.get("X-Latency-Predicted-Ms")
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
            timings_ms=_timings(headers.get("Server-Timing", "")),
            predicted_ms=float(predicted) if predicted else None,
        )


def _timings(text: str) -> dict[str, float]:
    """The durations of Server-Timing; proxies add entries of their own, not all with one."""
    timings = {}
    for part in text.split(","):
        name, _, duration = part.strip().partition(";dur=")
        try:
            timings[name] = float(duration)
        except ValueError:
            continue
    return timings

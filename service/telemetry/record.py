"""What one request did. Headers, metrics and the log line are all written from here, so that they agree."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from pixeltier.service.problems import Problem
from pixeltier.service.tasks import NO_TIER, Task
from pixeltier.service.telemetry.trace_context import TraceContext
from pixeltier.service.work.messages import Work

SCOPE_KEY = "pixeltier.record"

STAGES = ("queue", "decode", "importance", "infer", "encode", "total")

EXPOSED_HEADERS = (
    "X-Request-Id",
    "Server-Timing",
    "X-Tier",
    "X-Tier-Effective",
    "X-Threshold",
    "X-Config-Version",
    "X-Model-Version",
    "X-Macs-Dense",
    "X-Macs-Executed",
    "X-Macs-Saved-Ratio",
    "X-Latency-Predicted-Ms",
    "X-Quality-Of-Input",
    "Retry-After",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "traceresponse",
)
"""What CORS lets a page read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that shall be compared; it holds the compressed image until then."""

    task: Task
    body: bytes
    served: float
    candidate: float
    pixels: int | None


@dataclass(slots=True)
class RequestRecord:
    """Filled in while a request passes through; whoever learns a fact writes it here.

    `answered` is when the worker's answer came, by the monotonic clock; `trace` is this request's own span where it
    is `traced`, else the caller's. A request of several images has a record for each in `images`; its own then tells
    what they have in common. A `deferred` one is answered before its image is, which has a record of its own;
    `answered_by` is that record, where a request fetches the answer.
    """

    request_id: str
    method: str
    config_version: int
    started: float = field(default_factory=time.monotonic)
    task: Task | None = None
    tier: str = NO_TIER
    tier_effective: str = NO_TIER
    threshold: float | None = None
    model_version: str | None = None
    problem: Problem | None = None
    queue_ms: float | None = None
    worker_ms: float | None = None
    answered: float | None = None
    predicted_worker_ms: float | None = None
    max_latency_ms: float | None = None
    work: Work | None = None
    client: str | None = None
    sample: Sample | None = None
    trace: TraceContext | None = None
    traced: bool = False
    ended: float | None = None
    images: list["RequestRecord"] = field(default_factory=list)
    deferred: bool = False
    answered_by: "RequestRecord | None" = None

    def of_image(self) -> "RequestRecord":
        """The record of one of several images; what is known of the request is known of each."""
        image = RequestRecord(self.request_id, self.method, self.config_version, self.started, self.task)
        image.client = self.client
        self.images.append(image)
        return image

    def close(self) -> None:
        """The request has ended; images that nobody finished ended as it did."""
        for image in self.images:
            if image.work is None and image.problem is None:
                image.problem = self.problem

    @property
    def inferences(self) -> list["RequestRecord"]:
        """A record for each image: this one, unless the request holds several, or is answered before its image."""
        return self.images or ([] if self.deferred else [self])

    @property
    def elapsed_ms(self) -> float:
        """From the request's first byte to now, or to when it `ended`."""
        return ((self.ended or time.monotonic()) - self.started) * 1000.0

    @property
    def macs(self) -> tuple[int, int] | None:
        """MACs of the dense network and those executed, of all images; None where nothing was computed."""
        works = [one.work for one in self.inferences if one.work is not None]
        if not works:
            return None
        return sum(work.macs_dense for work in works), sum(work.macs_executed for work in works)

    @property
    def saved_ratio(self) -> float | None:
        """1 - executed / dense; at `exact` negative: base and importance count."""
        macs = self.macs
        if macs is None or not macs[0]:
            return None
        return 1.0 - macs[1] / macs[0]

    def stages(self) -> dict[str, float]:
        """Milliseconds of the stages that took place, in their order."""
        shown: dict[str, float] = {}
        if self.queue_ms is not None:
            shown["queue"] = self.queue_ms
        if self.work is not None:
            shown |= {
                "decode": self.work.decode_ms,
                "importance": self.work.importance_ms,
                "infer": self.work.infer_ms,
                "encode": self.work.encode_ms,
            }
        shown["total"] = self.elapsed_ms
        return shown

    @property
    def predicted_ms(self) -> float | None:
        """What `total` was expected to be when the job went to its worker, by the latency model."""
        if self.predicted_worker_ms is None or self.worker_ms is None:
            return None
        answered = self.elapsed_ms if self.answered is None else (self.answered - self.started) * 1000.0
        return answered - self.worker_ms + self.predicted_worker_ms

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers of CONVENTIONS, as far as their values are known."""
        if self.answered_by is not None:
            return replace(self.answered_by, request_id=self.request_id).headers()
        values: dict[str, str] = {
            "x-request-id": self.request_id,
            "x-config-version": str(self.config_version),
            "server-timing": ", ".join(f"{name};dur={ms:.3f}" for name, ms in self.stages().items()),
        }
        if self.traced and self.trace is not None:
            values["traceresponse"] = self.trace.header()
        if self.tier != NO_TIER:
            values |= {"x-tier": self.tier, "x-tier-effective": self.tier_effective}
        if self.threshold is not None:
            values["x-threshold"] = f"{self.threshold:.9g}"  # enough digits to name a float32
        if self.model_version is not None:
            values["x-model-version"] = self.model_version
        if (macs := self.macs) is not None:
            values["x-macs-dense"], values["x-macs-executed"] = map(str, macs)
            if (predicted_ms := self.predicted_ms) is not None:
                values["x-latency-predicted-ms"] = f"{predicted_ms:.3f}"
            values["x-macs-saved-ratio"] = f"{self.saved_ratio or 0.0:.6f}"
        return [(name.encode("ascii"), value.encode("ascii", "replace")) for name, value in values.items()]

    def log_fields(self) -> dict[str, Any]:
        """The parts of the log line that this record knows; absent facts are left out."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "model": self.task,
            "tier": None if self.tier == NO_TIER else self.tier,
            "tier_effective": self.tier_effective if self.tier_effective != self.tier else None,
            "threshold": self.threshold,
            "config_version": self.config_version,
            "outcome": "ok" if self.problem is None else self.problem.kind.type,
            "client": self.client,
            "trace_id": self.trace.trace_id if self.trace else None,
            "span_id": self.trace.span_id if self.trace else None,
            "ms": {name: round(ms, 2) for name, ms in self.stages().items()},
        }
        if self.images:
            failed = sum(one.problem is not None for one in self.images)
            fields |= {"images": len(self.images), "images_failed": failed}
        if (macs := self.macs) is not None:
            fields |= {
                "pixels": sum(one.work.pixels for one in self.inferences if one.work is not None),
                "macs_dense": macs[0],
                "macs_executed": macs[1],
                "macs_saved_ratio": round(self.saved_ratio or 0.0, 6),
            }
        return {name: value for name, value in fields.items() if value is not None}


def record_of(connection: Request | Scope) -> RequestRecord:
    """The record of the request being answered."""
    scope = connection.scope if isinstance(connection, Request) else connection
    record: RequestRecord = scope[SCOPE_KEY]
    return record

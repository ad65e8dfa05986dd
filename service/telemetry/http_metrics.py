"""Metrics of HTTP: requests by method, route and status, how long they took, how many are open."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
"""Methods that are labels; any other is `other`, so that no client makes label sets."""


class HttpMetrics:
    """Of every request, whatever it asks for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._open = Gauge(
            "http_requests_in_progress", "Requests begun and not yet answered, uploads included.",
            registry=registry,
        )  # fmt: skip
        self._duration = Histogram(
            "http_request_duration_seconds",
            "From the request's head to the answer's end.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )

    def set_routes(self, routes: Iterable[tuple[str, str, int]]) -> None:
        """Create the label sets of (method, route, status)."""
        for method, route, status in routes:
            self._requests.labels(method, route, str(status))
            self._duration.labels(method, route)

    def begun(self) -> None:
        """Count a request that arrived; `ended` ends it."""
        self._open.inc()

    def ended(self, method: str, route: str, status: int, seconds: float, trace_id: str | None) -> None:
        """Count one finished request; a trace becomes the exemplar of its duration."""
        shown = method if method in METHODS else "other"
        self._open.dec()
        self._requests.labels(shown, route, str(status or 499)).inc()
        exemplar = {"trace_id": trace_id} if trace_id is not None else None
        self._duration.labels(shown, route).observe(seconds, exemplar)

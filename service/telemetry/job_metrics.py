"""Gauges of requests that are answered later."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class JobReport:
    """Jobs by their state, and the space that their results take or may yet take."""

    by_state: Mapping[str, int]
    reserved_bytes: int
    bytes_limit: int


class JobCollector(Collector):
    """Read when scraped."""

    def __init__(self, report: Callable[[], JobReport]) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        report = self._report()
        jobs = GaugeMetricFamily("pixeltier_jobs", "Asynchronous jobs that are held.", labels=["state"])
        for state, count in report.by_state.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily(
            "pixeltier_jobs_reserved_bytes",
            "Space that results of asynchronous jobs take, or may yet take.",
            value=report.reserved_bytes,
        )
        yield GaugeMetricFamily(
            "pixeltier_jobs_bytes_limit", "Space that they may take.", value=report.bytes_limit
        )

"""Times measured here against recorded ones: another machine, other load, caches gone cold between requests."""

import statistics
from collections.abc import Iterable, Mapping

from pixeltier.service.operations.prediction import ENOUGH_TIMES
from pixeltier.service.replay.arrivals import Arrival
from pixeltier.service.replay.efforts import EffortTable
from pixeltier.service.replay.measurement import Measured, Subject, subject_of
from pixeltier.service.tasks import Task

CLOSE = 1e-6


def time_factors(
    arrivals: Iterable[Arrival], table: EffortTable, measured: Mapping[Subject, Measured]
) -> dict[Task, float]:
    """By task how many times longer workers took then than here: the median over requests served at the threshold
    that the table gives them. A task with few of them has no factor.
    """
    ratios: dict[Task, list[float]] = {}
    for arrival in arrivals:
        effort = table.effort(arrival)
        if arrival.worker_ms is None or arrival.served_at is None:
            continue
        if abs(arrival.served_at - effort.threshold) > CLOSE:
            continue
        here_ms = measured[subject_of(arrival)].runs[effort].worker_ms
        if here_ms > 0:
            ratios.setdefault(arrival.task, []).append(arrival.worker_ms / here_ms)
    return {task: statistics.median(found) for task, found in ratios.items() if len(found) >= ENOUGH_TIMES}

"""How long a job will take, learned from those before it."""

from service.pool.interface import Request
from service.tasks import Task

WEIGHT = 0.2
"""Share of a new measurement in the running mean."""

UNKNOWN_PIXELS = 256 * 256

FIRST_GUESS_MS = {Task.CLASSIFY: 10.0, Task.SUPER_RESOLVE: 100.0}


class Estimator:
    """Running means by (task, tier): milliseconds a classify job, milliseconds a pixel of super-resolution."""

    def __init__(self) -> None:
        self._means: dict[tuple[Task, str], float] = {}

    def cost_ms(self, request: Request) -> float:
        """Expected time of a job in its slot."""
        task = request.job.task
        mean = self._means.get((task, request.tier))
        if mean is None:
            return FIRST_GUESS_MS[task]
        return mean * _units(request)

    def learn(self, request: Request, took_ms: float) -> None:
        """Take a finished job's time into the mean."""
        key = (request.job.task, request.tier)
        per_unit = took_ms / _units(request)
        mean = self._means.get(key)
        self._means[key] = per_unit if mean is None else mean + WEIGHT * (per_unit - mean)

    def forget_a_little(self, request: Request) -> None:
        """Lower the mean after a job was refused because of it, so that a wrong mean cannot refuse for ever."""
        key = (request.job.task, request.tier)
        if key in self._means:
            self._means[key] *= 0.98


def _units(request: Request) -> float:
    if request.job.task is Task.CLASSIFY:
        return 1.0
    return float(max(1, UNKNOWN_PIXELS if request.pixels is None else request.pixels))

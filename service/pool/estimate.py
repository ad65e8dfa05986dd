"""How long a job will take, learned from those before it: ms = a + b * pixels for each task and tier.

Admission and batches ask this, before the image is decoded: its MACs are not known then, its tier stands in for them.
What a budget allows, and what an answer should have taken, `pixeltier.service.pool.latency` says from its MACs.
"""

from dataclasses import dataclass

from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task
from pixeltier.service.work.pool import Request

FORGET = 0.9
"""What an observation weighs after the next one: about ten jobs are remembered."""

PRIOR_WEIGHT = 0.05
"""Of the two points of the prior, never forgotten: they hold the line where no image of another size came by."""

UNKNOWN_PIXELS = 256 * 256.0


@dataclass(slots=True)
class _Line:
    """A running least-squares line over pixels in units of UNKNOWN_PIXELS."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, x: float, y: float, weight: float = 1.0) -> None:
        self.weight += weight
        self.x += weight * x
        self.y += weight * y
        self.xx += weight * x * x
        self.xy += weight * x * y

    def forget(self) -> None:
        self.weight *= FORGET
        self.x *= FORGET
        self.y *= FORGET
        self.xx *= FORGET
        self.xy *= FORGET

    def at(self, x: float) -> float:
        spread = self.weight * self.xx - self.x * self.x
        slope = max(0.0, (self.weight * self.xy - self.x * self.y) / spread) if spread > 1e-12 else 0.0
        return max(0.0, (self.y - slope * self.x) / self.weight) + slope * x


class Estimator:
    """One line for each (task, tier)."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Task, str], _Line] = {}

    def cost_ms(self, request: Request) -> float:
        """Expected time of a job in its worker."""
        task = request.job.task
        seen = self._lines.get((task, request.tier), _Line())
        line = _Line(seen.weight, seen.x, seen.y, seen.xx, seen.xy)
        prior = SPECS[task].prior
        for x, y in enumerate((prior.empty_ms, prior.unit_ms)):
            line.add(float(x), y, PRIOR_WEIGHT)
        return line.at(_units(request))

    def learn(self, request: Request, took_ms: float) -> None:
        """Take a finished job's time into the line."""
        line = self._lines.setdefault((request.job.task, request.tier), _Line())
        line.forget()
        line.add(_units(request), took_ms)

    def forget_a_little(self, request: Request) -> None:
        """Trust the line less after it had a job refused, so that a wrong one cannot refuse for ever."""
        line = self._lines.get((request.job.task, request.tier))
        if line is not None:
            line.forget()


def _units(request: Request) -> float:
    if request.pixels is None or not SPECS[request.job.task].per_pixel:
        return 1.0
    return request.pixels / UNKNOWN_PIXELS

"""How long a job of known size will take in a worker, learned online: ms = a + b * MACs + c * pixels for each task.

Weighted recursive least squares (Ljung, System Identification, 2nd ed., 11.2) with exponential forgetting, on
relative errors, so that a large image counts no more than a small one. Coefficients are never negative.
"""

from dataclasses import dataclass, field

from pixeltier.service.task_specs.registry import SPECS, AnyTaskSpec
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Work

FORGET = 0.98
"""What an observation weighs after the next one: about fifty jobs are remembered."""

DOUBT = 0.8
"""The same after a job was refused because of the model."""

SHAPE_WEIGHT = 1e-5
"""How much the proportions of the first guess count beside one observation: they hold the plane where no job of
another size came by."""

SPEED_WEIGHT = 1e-6
"""How much its speed counts: nothing, once a job was seen."""

MISFIT_WEIGHT = 0.1
"""How fast the running mean of the relative error follows."""

MACS_UNIT = 1e9
PIXELS_UNIT = 1e6

LEAST_MS = 0.1

Vector = tuple[float, float, float]


@dataclass(slots=True)
class _Plane:
    """Sums of a weighted least-squares fit y = w . x over three features, each observation scaled to y = 1.

    The prior is the first guess times the machine's speed, a single factor that is fitted before.
    """

    prior: Vector
    xx: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    xy: list[float] = field(default_factory=lambda: [0.0] * 3)
    misfit: float = 0.0
    fitted: Vector | None = None

    def add(self, x: Vector, y: float) -> None:
        error = abs(self.at(x) - y) / y
        self.misfit += MISFIT_WEIGHT * (min(error, 1.0) - self.misfit)
        self.forget(FORGET)
        scaled = [value / y for value in x]
        for i in range(3):
            self.xy[i] += scaled[i]
            for j in range(3):
                self.xx[i][j] += scaled[i] * scaled[j]
        self.fitted = None

    def forget(self, weight: float) -> None:
        self.xy = [weight * value for value in self.xy]
        self.xx = [[weight * value for value in row] for row in self.xx]
        self.fitted = None

    def at(self, x: Vector) -> float:
        return max(LEAST_MS, sum(w * value for w, value in zip(self.weights(), x, strict=True)))

    def weights(self) -> Vector:
        if self.fitted is None:
            self.fitted = self._fit()
        return self.fitted

    def _fit(self) -> Vector:
        """The fit with the prior in it; a coefficient that comes out negative is set to 0 and the rest fitted again."""
        xx, xy = [row[:] for row in self.xx], self.xy[:]
        speed = self._speed()
        for i, guess in enumerate(self.prior):
            xx[i][i] += SHAPE_WEIGHT / (speed * guess) ** 2
            xy[i] += SHAPE_WEIGHT / (speed * guess)
        kept = [0, 1, 2]
        while kept:
            solved = _solve([[xx[i][j] for j in kept] for i in kept], [xy[i] for i in kept])
            lowest = min(range(len(kept)), key=solved.__getitem__)
            if solved[lowest] >= 0.0:
                weights = [0.0] * 3
                for place, value in zip(kept, solved, strict=True):
                    weights[place] = value
                return weights[0], weights[1], weights[2]
            del kept[lowest]
        return self.prior

    def _speed(self) -> float:
        """The factor of the first guess that fits best."""
        agreed = sum(guess * value for guess, value in zip(self.prior, self.xy, strict=True))
        square = sum(self.prior[i] * self.prior[j] * self.xx[i][j] for i in range(3) for j in range(3))
        return (agreed + SPEED_WEIGHT) / (square + SPEED_WEIGHT)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination; the prior keeps the matrix positive definite."""
    size = len(right)
    rows = [[*matrix[i], right[i]] for i in range(size)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (rows[i][size] - sum(rows[i][j] * found[j] for j in range(i + 1, size))) / rows[i][i]
    return found


@dataclass(slots=True)
class _Least:
    """The least MACs seen, relative to the image's size: below it no threshold goes."""

    per_unit: float = 0.0

    def learn(self, seen: float) -> None:
        self.per_unit = min(self.per_unit, seen) if self.per_unit else seen


class LatencyModel:
    """One plane for each task. Times are milliseconds from dispatch to answer, the pipe included."""

    def __init__(self) -> None:
        self._planes = {task: _Plane(_prior(spec)) for task, spec in SPECS.items()}
        self._least = {task: _Least() for task in Task}

    def predict(self, task: Task, macs: float, pixels: float) -> float:
        """Milliseconds a job will take."""
        return self._planes[task].at(_features(1.0, macs, pixels))

    def least(self, task: Task, pixels: float) -> float:
        """Milliseconds that the cheapest computation of an image takes; optimistic until one was seen."""
        return self.predict(task, self._least[task].per_unit * _units(task, pixels), pixels)

    def macs_within(self, task: Task, ms: float, pixels: float) -> int | None:
        """The MACs that fit into a time, its usual error kept free; None: MACs cost no time that was ever seen."""
        plane = self._planes[task]
        a, b, c = plane.weights()
        if b <= 0.0:
            return None
        left = ms / (1.0 + plane.misfit) - a - c * pixels / PIXELS_UNIT
        return max(0, int(left / b * MACS_UNIT))

    def learn(self, task: Task, works: list[Work], took_ms: float) -> None:
        """Take the time of jobs that ran together into the model."""
        if not works or took_ms <= 0.0:
            return
        macs, pixels = sum(work.macs_executed for work in works), sum(work.pixels for work in works)
        self._planes[task].add(_features(1.0, macs, pixels), max(LEAST_MS, took_ms))
        for work in works:
            self._least[task].learn(work.macs_curve[-1] / _units(task, work.pixels))

    def doubt(self, task: Task) -> None:
        """Trust the model less after it had a job refused, so that a wrong one cannot refuse for ever."""
        self._planes[task].forget(DOUBT)


def _features(one: float, macs: float, pixels: float) -> Vector:
    return one, macs / MACS_UNIT, pixels / PIXELS_UNIT


def _units(task: Task, pixels: float) -> float:
    return max(1.0, pixels) if SPECS[task].per_pixel else 1.0


def _prior(spec: AnyTaskSpec) -> Vector:
    return spec.prior.job_ms, spec.prior.gmac_ms, spec.prior.megapixel_ms

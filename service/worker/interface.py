"""What a worker needs of an engine. `pixeltier.models.engine` gives it for real; tests bring small ones."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pixeltier.models.budgets import Budget, Infeasible

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""uint8 [height, width, 3], sRGB."""

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class Outcome(Protocol):
    """What both tasks report; the fields are those of `pixeltier.models.engine.Outcome`."""

    @property
    def threshold(self) -> float: ...  # noqa: D102
    @property
    def macs_dense(self) -> int: ...  # noqa: D102
    @property
    def macs_executed(self) -> int: ...  # noqa: D102
    @property
    def active_share(self) -> float: ...  # noqa: D102
    @property
    def importance(self) -> Floats: ...  # noqa: D102
    @property
    def macs_curve(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def importance_ms(self) -> float: ...  # noqa: D102
    @property
    def infer_ms(self) -> float: ...  # noqa: D102


class Classification(Outcome, Protocol):
    """Probabilities of the 1000 classes."""

    @property
    def probabilities(self) -> Floats: ...  # noqa: D102


class SuperResolution(Outcome, Protocol):
    """The enlarged image, [4h, 4w, 3]."""

    @property
    def image(self) -> Pixels: ...  # noqa: D102


class Engine(Protocol):
    """Both models, loaded."""

    @property
    def torch_version(self) -> str: ...  # noqa: D102
    @property
    def isa(self) -> str: ...  # noqa: D102

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""

    def classify(
        self, images: Sequence[Pixels], thresholds: Sequence[float], limits: Sequence[Budget]
    ) -> Sequence[Classification | Infeasible]:
        """Classify [224, 224, 3] images, each at the lowest threshold from its own on that its budget allows."""

    def upscale(self, image: Pixels, threshold: float, budget: Budget) -> SuperResolution | Infeasible:
        """Enlarge an image by four, likewise."""

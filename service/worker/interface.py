"""What a worker needs of an engine. `pixeltier.models.engine` gives it for real; tests bring small ones."""

from collections.abc import Sequence
from typing import Protocol

from pixeltier.models.outcome import CostLimits, Infeasible
from pixeltier.models.results import Classification, Pixels, SuperResolution
from pixeltier.service.worker.progress import Advance, unwatched


class Engine(Protocol):
    """Both models, loaded."""

    @property
    def torch_version(self) -> str: ...  # noqa: D102
    @property
    def isa(self) -> str: ...  # noqa: D102

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""

    def classify(
        self, images: Sequence[Pixels], thresholds: Sequence[float], limits: Sequence[CostLimits]
    ) -> Sequence[Classification | Infeasible]:
        """Classify [224, 224, 3] images, each at the lowest threshold from its own on that its limits allow."""

    def upscale(
        self,
        image: Pixels,
        threshold: float,
        limits: CostLimits,
        *,
        compressed: bool = False,
        advance: Advance = unwatched,
    ) -> SuperResolution | Infeasible:
        """Enlarge an image by four, likewise; with the weights for compressed images where there are some.

        `advance` is called before and after each tile; what it raises ends the call.
        """

    @property
    def knows_compressed(self) -> bool:
        """Whether there are."""

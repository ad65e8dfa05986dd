"""The engine a slot runs: both models, loaded for real. Importing this module imports torch."""

from collections.abc import Sequence
from pathlib import Path

import torch

import native
from models.budgets import Budget, Infeasible
from models.engine import Classification, Classifier, Precision, SuperResolution, SuperResolver
from service.worker.interface import Pixels


class TorchEngine:
    """Both models of `models.engine`."""

    def __init__(self, classifier: Classifier, resolver: SuperResolver) -> None:
        self._classifier = classifier
        self._resolver = resolver
        self.torch_version = str(torch.__version__)
        self.isa = native.cpu_isa()

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""
        torch.set_num_threads(threads)

    def classify(
        self, images: Sequence[Pixels], thresholds: Sequence[float], limits: Sequence[Budget]
    ) -> Sequence[Classification | Infeasible]:
        """See Engine."""
        return self._classifier.classify_within(images, thresholds, limits)

    def upscale(self, image: Pixels, threshold: float, budget: Budget) -> SuperResolution | Infeasible:
        """See Engine."""
        return self._resolver.upscale_within(image, threshold, budget)


def load(weights_dir: str | None, precision: Precision) -> TorchEngine:
    """Load both models from a directory, or the packaged weights."""
    directory = None if weights_dir is None else Path(weights_dir)
    return TorchEngine(Classifier.load(directory, precision), SuperResolver.load(directory, precision))

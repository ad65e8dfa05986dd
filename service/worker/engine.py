"""The engine a worker runs: both models, loaded for real. Importing this module imports torch."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from pixeltier import native
from pixeltier.models import devices
from pixeltier.models.cards import compressed_directory
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.inference.device import bound_memory
from pixeltier.models.outcome import CostLimits, Infeasible
from pixeltier.models.precision import Precision
from pixeltier.models.results import Classification, Pixels, SuperResolution
from pixeltier.service.worker.progress import Advance, unwatched

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TorchEngine:
    """Both models of `pixeltier.models.engine`."""

    def __init__(
        self,
        classifier: Classifier,
        resolver: SuperResolver,
        of_compressed: SuperResolver | None,
        device: torch.device,
    ) -> None:
        self._classifier = classifier
        self._resolver = resolver
        self._of_compressed = of_compressed
        self.torch_version = str(torch.__version__)
        self.isa = native.cpu_isa() if device.type == "cpu" else native.ops.cuda_isa()

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""
        torch.set_num_threads(threads)

    def classify(
        self, images: Sequence[Pixels], thresholds: Sequence[float], limits: Sequence[CostLimits]
    ) -> Sequence[Classification | Infeasible]:
        """See Engine."""
        return _on_device(lambda: self._classifier.classify_within(images, thresholds, limits))

    @property
    def knows_compressed(self) -> bool:
        """See Engine."""
        return self._of_compressed is not None

    def upscale(
        self,
        image: Pixels,
        threshold: float,
        limits: CostLimits,
        *,
        compressed: bool = False,
        advance: Advance = unwatched,
    ) -> SuperResolution | Infeasible:
        """See Engine."""
        resolver = self._of_compressed if compressed and self._of_compressed else self._resolver
        return _on_device(lambda: resolver.upscale_within(image, threshold, limits, advance=advance))


def _on_device(call: Callable[[], Result]) -> Result:
    """Give memory back after a job that found too little; end the process where the device is lost.

    After a fault no call of a process reaches its GPU any more. The pool starts the worker again, and the job gets
    its one retry there.
    """
    try:
        return call()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise
    except RuntimeError as error:
        if "CUDA error" in str(error) or str(error).startswith("CUDA:"):
            log.critical("the GPU is lost to this worker", exc_info=True)
            os._exit(1)
        raise


def load(
    weights_dir: str | None,
    precision: Precision,
    device: str = "cpu",
    gpu_memory_share: float = 0.9,
) -> TorchEngine:
    """Load both models from a directory, or the packaged weights, onto a device (`pixeltier.models.devices.choose`).

    Raises:
        models.devices.DeviceError: the device cannot be used.
    """
    directory = None if weights_dir is None else Path(weights_dir)
    target = devices.choose(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
        torch.cuda.set_stream(torch.cuda.Stream(target))
        bound_memory(target, gpu_memory_share)
    compressed = compressed_directory("super-resolve", directory)
    return TorchEngine(
        Classifier.load(directory, precision, target),
        SuperResolver.load(directory, precision, target),
        None if compressed is None else SuperResolver.load(compressed, precision, target),
        target,
    )

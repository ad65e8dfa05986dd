"""A worker's proof that it works, before it says it is ready. It also pays every first-call cost."""

import numpy as np

from pixeltier.models.budgets import UNLIMITED, Infeasible
from pixeltier.service.tasks import SCALE
from pixeltier.service.worker.interface import Engine

CHECK_SIZES = ((24, 32), (64, 64))


def self_check(engine: Engine) -> None:
    """Run both models, sparse and exact, on a synthetic image and check the numbers.

    Raises:
        RuntimeError: says which number is wrong.
    """
    ramp = np.linspace(0, 255, 224, dtype=np.uint8)
    photo = np.stack(
        [np.tile(ramp, (224, 1)), np.tile(ramp[:, None], (1, 224)), np.full((224, 224), 128, np.uint8)], 2
    )
    for threshold in (0.0, 0.5):
        (result,) = engine.classify([photo], [threshold], [UNLIMITED])
        if isinstance(result, Infeasible):
            raise RuntimeError(f"self-check: classify at {threshold} misses a budget that nobody set")
        total = float(result.probabilities.sum())
        if not np.isfinite(result.probabilities).all() or abs(total - 1.0) > 1e-2:
            raise RuntimeError(f"self-check: classify at {threshold} gives probabilities that sum to {total}")
    for height, width in CHECK_SIZES:
        for threshold in (0.0, 0.5):
            enlarged = engine.upscale(np.ascontiguousarray(photo[:height, :width]), threshold, UNLIMITED)
            if isinstance(enlarged, Infeasible):
                raise RuntimeError(f"self-check: super-resolve at {threshold} misses a budget nobody set")
            if enlarged.image.shape != (SCALE * height, SCALE * width, 3):
                raise RuntimeError(
                    f"self-check: super-resolve of {height}x{width} gives {enlarged.image.shape}"
                )
            # A sane model keeps the mean: broken kernels and weights do not.
            drift = abs(float(enlarged.image.mean()) - float(photo[:height, :width].mean()))
            if drift > 24.0:
                raise RuntimeError(
                    f"self-check: super-resolve at {threshold} moves the mean by {drift:.0f} of 255"
                )

"""What the two tasks give beside what they cost. Free of torch: tests of the worker bring an engine without it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pixeltier.models.outcome import Outcome

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedOutcome(Outcome):
    """With the importance map, float32 [h, w] in [0, 1], one value a window."""

    importance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(MappedOutcome):
    """Class probabilities, float32 [classes]."""

    probabilities: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperResolution(MappedOutcome):
    """The image, uint8 [4h, 4w, 3]."""

    image: Pixels

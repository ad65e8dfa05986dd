"""Maps for an oracle: windows ranked by something that only who knows the answer can know."""

import numpy as np
import numpy.typing as npt


def ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Importance in (0, 1) by rank, ties in raster order; at threshold 1 nothing is active.

    Args:
        values: [h, w], one a window; the highest one becomes the most important.
    """
    order = np.argsort(values, axis=None, kind="stable")
    found = np.empty(values.size, dtype=np.float32)
    found[order] = np.arange(1, values.size + 1, dtype=np.float32) / np.float32(values.size + 1)
    return found.reshape(values.shape)

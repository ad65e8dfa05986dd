"""Photos drawn evenly over the classes that the base sees in them.

A collection of photos has a share of each class of its own, and a network that learns from it takes that share for
granted. Drawing each photo with a probability of its class's frequency to the power of -evenness takes it out (as for
words in Mikolov et al., arXiv 1310.4546, and languages in Conneau et al., arXiv 1911.02116).
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.atomic_files import replacing
from pixeltier.models.images import read_classify_input
from pixeltier.models.networks.classification import base_input
from pixeltier.models.training.classify_photos import as_input

BATCH = 32
READERS = 2


def draw_probabilities(classes: npt.NDArray[np.int64], evenness: float) -> npt.NDArray[np.float64]:
    """How likely each photo is drawn, given its class: [photos], the sum is 1.

    `evenness` 0 draws every photo alike, 1 every class alike.
    """
    weight: npt.NDArray[np.float64] = np.bincount(classes).astype(np.float64)[classes] ** -evenness
    return np.asarray(weight / weight.sum())


def seen_classes(
    logits_of: Callable[[Tensor], Tensor], photos: Sequence[Path], cache: Path, device: torch.device
) -> npt.NDArray[np.int64]:
    """The class that a network sees in each photo: int64 [photos]. Kept in `cache` for the same list of photos."""
    digest = hashlib.sha256("\0".join(map(str, photos)).encode()).hexdigest()
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["photos"]) == digest:
                return np.asarray(kept["classes"])
    classes = np.empty(
        len(photos), np.int64
    )  # small results that pile up would pin the large freed blocks between them
    with ThreadPoolExecutor(READERS) as pool, tqdm(total=len(photos), desc="classes", unit="photo") as bar:
        for first in range(0, len(photos), BATCH):
            pixels = np.stack(list(pool.map(read_classify_input, photos[first : first + BATCH])))
            logits = logits_of(base_input(as_input(pixels).to(device)))
            classes[first : first + len(pixels)] = logits.argmax(1).cpu().numpy()
            bar.update(len(pixels))
    cache.parent.mkdir(parents=True, exist_ok=True)
    with replacing(cache) as part:
        np.savez(part, photos=digest, classes=classes)
    return classes

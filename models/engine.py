"""What a worker slot runs: images in, results and their costs out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import counting
from models.calibration import Calibration
from models.cards import ModelCard
from models.checkpoints import load_resnet18, load_srresnet
from models.images import DEVIATION, MEAN
from models.inference.resnet18 import SparseResNet18
from models.inference.srresnet import SparseSRResNet, compose
from models.inference.tiles import Tile, split
from models.networks.masks import expand_from_windows
from models.networks.resnet18 import ResNet18
from models.networks.srresnet import SCALE, SRResNet
from native import cpu_isa, ops

Pixels = npt.NDArray[np.uint8]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What any inference reports. `importance` is float32 [h, w] in [0, 1], one value per window."""

    threshold: float
    macs_dense: int
    macs_executed: int
    active_share: float
    importance: npt.NDArray[np.float32]
    importance_ms: float
    infer_ms: float

    @property
    def macs_saved(self) -> float:
        """1 - executed / dense; slightly negative where base and importance come on top of every cell."""
        return 1 - self.macs_executed / self.macs_dense


@dataclass(frozen=True, slots=True)
class Classification(Outcome):
    """Class probabilities, float32 [1000]."""

    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SuperResolution(Outcome):
    """The image, uint8 [4h, 4w, 3]."""

    image: Pixels


def inference_dtype(precision: Precision) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, unless the caller says otherwise."""
    if precision == "auto":
        return torch.bfloat16 if cpu_isa() in ("avx512_bf16", "amx") else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class Classifier:
    """ResNet-18 at any threshold."""

    def __init__(self, model: ResNet18, card: ModelCard, precision: Precision = "auto") -> None:
        self.card = card
        self._network = SparseResNet18(model, inference_dtype(precision))
        self._calibrate = Calibration(card.calibration)
        self._mean = 255 * torch.tensor(MEAN).view(1, 3, 1, 1)
        self._scale = 1 / (255 * torch.tensor(DEVIATION).view(1, 3, 1, 1))

    @classmethod
    def load(cls, directory: Path | None = None, precision: Precision = "auto") -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_resnet18(directory), precision)

    @torch.inference_mode()
    def classify(self, images: Sequence[Pixels], thresholds: Sequence[float]) -> list[Classification]:
        """Classify a batch, each image at its own threshold.

        Args:
            images: uint8 [H, W, 3] each, all of one size (see `models.images.classify_input`).
            thresholds: in [0, 1], as many as images; 0 computes every cell.

        Raises:
            ValueError: images of different sizes, or another number of thresholds.
        """
        if len({image.shape for image in images}) != 1 or len(images) != len(thresholds):
            raise ValueError("a batch needs one threshold for each image and images of one size")
        start = time.perf_counter()
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        height, width = pixels.shape[-2:]
        stem = self._network.stem(pixels.sub_(self._mean).mul_(self._scale))
        importance = self._calibrate(self._network.window_logits(stem))
        mapped = time.perf_counter()
        limits = torch.tensor(list(thresholds), dtype=torch.float32)
        run = self._network.run(stem, importance, limits, (height, width))
        probabilities = run.logits.softmax(1).numpy()
        done = time.perf_counter()
        return [
            Classification(
                threshold=thresholds[index],
                macs_dense=counting.resnet18_dense(height, width, self._network.shape.classes),
                macs_executed=run.macs[index],
                active_share=run.active_share[index],
                importance=importance[index, 0].numpy(),
                importance_ms=1000 * (mapped - start),
                infer_ms=1000 * (done - mapped),
                probabilities=probabilities[index],
            )
            for index in range(len(images))
        ]


class SuperResolver:
    """SRResNet x4 at any threshold and any size; large images go through in tiles."""

    def __init__(self, model: SRResNet, card: ModelCard, precision: Precision = "auto") -> None:
        self.card = card
        self._network = SparseSRResNet(model, inference_dtype(precision))
        self._calibrate = Calibration(card.calibration)

    @classmethod
    def load(cls, directory: Path | None = None, precision: Precision = "auto") -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_srresnet(directory), precision)

    @torch.inference_mode()
    def upscale(self, image: Pixels, threshold: float) -> SuperResolution:
        """Super-resolve uint8 [h, w, 3] to exactly [4h, 4w, 3] at a threshold in [0, 1]; 0 computes every cell."""
        height, width = image.shape[:2]
        window = self._network.shape.window
        result = np.empty((SCALE * height, SCALE * width, 3), dtype=np.uint8)
        importance = np.empty((-(-height // window), -(-width // window)), dtype=np.float32)
        executed = active_cells = 0
        importance_s = infer_s = 0.0
        for tile in self._tiles(height, width):
            start = time.perf_counter()
            x = torch.from_numpy(np.array(image[tile.outer])).permute(2, 0, 1)[None].float() / 255
            light = self._network.light_path(x)
            windows = self._calibrate(self._network.window_logits(light))
            mapped = time.perf_counter()
            rows, columns = x.shape[-2:]
            active = self._active(windows, threshold, rows, columns)
            executed += self._network.heavy_path(light, active, rows, columns)
            executed += rows * columns * (self._network.light_macs + self._network.importance_macs)
            result[tile.scaled(SCALE).target] = compose(x, light.pixels).numpy()[tile.scaled(SCALE).inner]
            inner = tile.divided(window)
            importance[inner.target] = windows[0, 0].numpy()[inner.inner]
            active_cells += tile.count_inside(active.numpy(), columns)
            importance_s += mapped - start
            infer_s += time.perf_counter() - mapped
        return SuperResolution(
            threshold=threshold,
            macs_dense=height * width * counting.srresnet_dense(),
            macs_executed=executed,
            active_share=active_cells / (height * width),
            importance=importance,
            importance_ms=1000 * importance_s,
            infer_ms=1000 * infer_s,
            image=result,
        )

    def _tiles(self, height: int, width: int) -> Iterator[Tile]:
        return split(height, width, halo=self._network.halo, align=8)

    def _active(self, windows: Tensor, threshold: float, height: int, width: int) -> Tensor:
        cells = expand_from_windows(windows, self._network.shape.window, height, width)[:, 0]
        return ops.plan(cells.contiguous(), torch.tensor([threshold], dtype=torch.float32))

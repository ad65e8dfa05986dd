"""What a worker slot runs: images in, results and their costs out."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import budgets, counting
from models.budgets import (
    UNLIMITED,
    Budget,
    CellMacs,
    ClassifyCount,
    Cost,
    Infeasible,
    SumOfCounts,
    TileMacs,
)
from models.calibration import Calibration
from models.cards import ModelCard
from models.checkpoints import load_resnet18, load_srresnet
from models.inference.device_resnet18 import DeviceResNet18
from models.inference.device_srresnet import DeviceSRResNet
from models.inference.resnet18 import SparseResNet18
from models.inference.srresnet import SparseSRResNet
from models.inference.tiles import Tile, split
from models.networks.masks import expand_from_windows, pool_to_windows
from models.networks.resnet18 import ResNet18, stage_sizes
from models.networks.srresnet import SCALE, SRResNet, SRResNetShape
from native import cpu_isa, ops

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What any inference reports.

    `importance` is float32 [h, w] in [0, 1], one value per window; `macs_curve` what the image takes at each of
    `models.budgets.CURVE_THRESHOLDS`.
    """

    threshold: float
    macs_dense: int
    macs_executed: int
    active_share: float
    importance: npt.NDArray[np.float32]
    macs_curve: tuple[int, ...]
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


CPU = torch.device("cpu")


def inference_dtype(precision: Precision, device: torch.device = CPU) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, unless the caller says otherwise."""
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16
    if precision == "auto":
        return torch.bfloat16 if cpu_isa() in ("avx512_bf16", "amx") else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class Classifier:
    """ResNet-18 at any threshold."""

    def __init__(
        self, model: ResNet18, card: ModelCard, precision: Precision = "auto", device: torch.device = CPU
    ) -> None:
        self.card = card
        dtype = inference_dtype(precision, device)
        self._network: SparseResNet18 | DeviceResNet18 = (
            SparseResNet18(model, dtype) if device.type == "cpu" else DeviceResNet18(model, dtype, device)
        )
        self._calibrate = Calibration(card.calibration)

    @classmethod
    def load(
        cls, directory: Path | None = None, precision: Precision = "auto", device: torch.device = CPU
    ) -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_resnet18(directory), precision, device)

    def classify(self, images: Sequence[Pixels], thresholds: Sequence[float]) -> list[Classification]:
        """Classify a batch, each image at its own threshold.

        Args:
            images: uint8 [H, W, 3] each, all of one size (see `models.images.classify_input`).
            thresholds: in [0, 1], as many as images; 0 computes every cell.

        Raises:
            ValueError: images of different sizes, or another number of thresholds.
        """
        results = self.classify_within(images, thresholds, [UNLIMITED] * len(thresholds))
        return [result for result in results if isinstance(result, Classification)]

    @torch.inference_mode()
    def classify_within(
        self,
        images: Sequence[Pixels],
        thresholds: Sequence[float],
        limits: Sequence[Budget],
        importance_of: Sequence[Floats] | None = None,
    ) -> list[Classification | Infeasible]:
        """As `classify`, with a budget for each image: its threshold is raised as far as the budget needs.

        Args:
            importance_of: maps to use in place of the network's own, float32 [h, w] each, one value per window; its
                MACs count all the same.
        """
        if len({image.shape for image in images}) != 1 or not len(images) == len(thresholds) == len(limits):
            raise ValueError("a batch needs one threshold and budget for each image and images of one size")
        start = time.perf_counter()
        height, width = images[0].shape[:2]
        stem, importance = self._map(images, importance_of)
        costs = self._costs(stem, importance, (height, width))
        solved = [
            budget.threshold(cost, floor)
            for cost, floor, budget in zip(costs, thresholds, limits, strict=True)
        ]
        results: list[Classification | Infeasible | None] = [
            cost.infeasible() if threshold is None else None
            for cost, threshold in zip(costs, solved, strict=True)
        ]
        places = [place for place, threshold in enumerate(solved) if threshold is not None]
        found = [threshold for threshold in solved if threshold is not None]
        if not places:
            return [result for result in results if result is not None]
        if len(places) < len(images):
            stem, importance = stem[places], importance[places]
        mapped = time.perf_counter()
        run = self._network.run(stem, importance, torch.tensor(found, dtype=torch.float32), (height, width))
        probabilities = run.logits.softmax(1).numpy()
        done = time.perf_counter()
        for index, place in enumerate(places):
            results[place] = Classification(
                threshold=found[index],
                macs_dense=costs[place].macs_dense,
                macs_executed=run.macs[index],
                active_share=run.active_share[index],
                importance=importance[index, 0].numpy(),
                macs_curve=budgets.curve(costs[place].macs),
                importance_ms=1000 * (mapped - start),
                infer_ms=1000 * (done - mapped),
                probabilities=probabilities[index],
            )
        return [result for result in results if result is not None]

    @torch.inference_mode()
    def costs(self, images: Sequence[Pixels]) -> list[Cost]:
        """What each image of a batch would cost at any threshold; nothing beyond its map is computed."""
        return self._costs(*self._map(images, None), images[0].shape[:2])

    def _map(self, images: Sequence[Pixels], importance_of: Sequence[Floats] | None) -> tuple[Tensor, Tensor]:
        """The stem's features and the importance of a batch."""
        stem = self._network.stem(torch.from_numpy(np.stack(images)))
        if importance_of is not None:
            return stem, torch.from_numpy(np.stack(importance_of))[:, None]
        return stem, self._calibrate(self._network.window_logits(stem))

    def _costs(self, stem: Tensor, importance: Tensor, input_size: tuple[int, int]) -> list[Cost]:
        """What each image of a batch takes at any threshold."""
        window, classes = self._network.shape.window, self._network.shape.classes
        height, width = stem.shape[-2:]
        sizes = stage_sizes(height, width)
        pooled = [
            pool_to_windows(importance, 2**stage // window).numpy()
            for stage in range(len(sizes))
            if 2**stage > window
        ]
        fixed = self._network.fixed_macs(*input_size)
        macs = tuple(counting.resnet18_cell(stage) for stage in range(len(sizes)))
        dense = counting.resnet18_dense(*input_size, classes)
        costs = []
        for index, windows in enumerate(importance.numpy()):
            count = partial(
                ClassifyCount, windows[0], [score[index, 0] for score in pooled], height, width, window
            )
            count_cells = partial(count, (1,) * len(sizes), 0)
            costs.append(Cost(count(macs, fixed), dense, count_cells, sum(h * w for h, w in sizes)))
        return costs


class SuperResolutionNetwork(Protocol):
    """What an upscaling needs of a network, wherever it runs; see `SparseSRResNet`.

    `light_path` takes and `image` gives tensors in the host's memory; what lies between them is the network's own.
    """

    shape: SRResNetShape

    @property
    def light_macs(self) -> int: ...  # noqa: D102
    @property
    def importance_macs(self) -> int: ...  # noqa: D102
    @property
    def body_macs(self) -> int: ...  # noqa: D102
    @property
    def tail_macs(self) -> int: ...  # noqa: D102
    @property
    def halo(self) -> int: ...  # noqa: D102
    def light_path(self, x: Tensor) -> Any: ...  # noqa: D102
    def window_logits(self, light: Any) -> Tensor: ...  # noqa: D102
    def heavy_path(self, light: Any, active: Tensor, height: int, width: int) -> int: ...  # noqa: D102
    def image(self, x: Tensor, light: Any) -> Tensor: ...  # noqa: D102


class SuperResolver:
    """SRResNet x4 at any threshold and any size; large images go through in tiles."""

    def __init__(
        self, model: SRResNet, card: ModelCard, precision: Precision = "auto", device: torch.device = CPU
    ) -> None:
        self.card = card
        dtype = inference_dtype(precision, device)
        self._network: SuperResolutionNetwork = (
            SparseSRResNet(model, dtype) if device.type == "cpu" else DeviceSRResNet(model, dtype, device)
        )
        self._calibrate = Calibration(card.calibration)

    @classmethod
    def load(
        cls, directory: Path | None = None, precision: Precision = "auto", device: torch.device = CPU
    ) -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_srresnet(directory), precision, device)

    def upscale(self, image: Pixels, threshold: float, importance: Floats | None = None) -> SuperResolution:
        """Super-resolve uint8 [h, w, 3] to exactly [4h, 4w, 3] at a threshold in [0, 1]; 0 computes every cell."""
        result = self.upscale_within(image, threshold, UNLIMITED, importance)
        if isinstance(result, Infeasible):
            raise RuntimeError("a budget without limits was not met")
        return result

    @torch.inference_mode()
    def cost(self, image: Pixels, importance: Floats | None = None) -> Cost:
        """What `upscale` would cost at any threshold; nothing beyond the maps is computed."""
        return _Upscaling(self._network, self._calibrate, image, importance).cost()

    @torch.inference_mode()
    def upscale_within(
        self, image: Pixels, threshold: float, budget: Budget, importance: Floats | None = None
    ) -> SuperResolution | Infeasible:
        """As `upscale`, with a budget: the threshold is raised as far as it needs, the same for all tiles.

        The maps of all tiles are then made before the first tile's heavy path runs. Keeping every tile's features
        meanwhile would take memory without bound, so where there are several their light path runs again, and
        counts again.

        Args:
            importance: a map to use in place of the network's own, float32 [ceil(h / window), ceil(w / window)]; its
                MACs count all the same.
        """
        return _Upscaling(self._network, self._calibrate, image, importance).run(threshold, budget)


@dataclass(slots=True)
class _TileMap:
    """A tile's importance [1, 1, h, w] and MACs; its light path while that is kept."""

    tile: Tile
    windows: Tensor
    count: TileMacs
    light: Any


class _Upscaling:
    """One image on its way through the network."""

    def __init__(
        self,
        network: SuperResolutionNetwork,
        calibrate: Calibration,
        image: Pixels,
        importance: Floats | None = None,
    ) -> None:
        self._importance = importance
        self._network = network
        self._calibrate = calibrate
        self._image = image
        self._height, self._width = image.shape[:2]
        self._window = network.shape.window
        self._tiles = list(split(self._height, self._width, halo=network.halo, align=8))
        self._dense = self._height * self._width * counting.srresnet_dense()
        self._importance_s = self._infer_s = 0.0

    def run(self, threshold: float, budget: Budget) -> SuperResolution | Infeasible:
        """Solve the budget, then compute tile by tile."""
        if not budget:
            return self._compute(threshold, (self._map(tile) for tile in self._tiles), besides=0)
        maps = self._maps()
        several = len(maps) > 1
        besides = self._network.light_macs * sum(tile.cells for tile in self._tiles) if several else 0
        cost = self._cost(maps, besides)
        start = time.perf_counter()
        solved = budget.threshold(cost, threshold)
        self._importance_s += time.perf_counter() - start
        return cost.infeasible() if solved is None else self._compute(solved, maps, besides)

    def cost(self) -> Cost:
        """What `run` without a budget would cost at any threshold."""
        return self._cost(self._maps(), besides=0)

    def _maps(self) -> list[_TileMap]:
        """Of all tiles; the features are kept where there is only one."""
        maps = []
        for tile in self._tiles:
            mapped = self._map(tile)
            if len(self._tiles) > 1:
                mapped.light = None
            maps.append(mapped)
        return maps

    def _cost(self, maps: Sequence[_TileMap], besides: int) -> Cost:
        return Cost(
            SumOfCounts([mapped.count for mapped in maps], besides),
            self._dense,
            partial(self._count_cells, maps),
            self._height * self._width,
        )

    def _compute(self, threshold: float, maps: Iterable[_TileMap], besides: int) -> SuperResolution:
        image = np.empty((SCALE * self._height, SCALE * self._width, 3), dtype=np.uint8)
        importance = np.empty((-(-self._height // self._window), -(-self._width // self._window)), np.float32)
        executed, active_cells = besides, 0
        curve = np.zeros(len(budgets.CURVE_THRESHOLDS), dtype=np.int64)
        for mapped in maps:
            start = time.perf_counter()
            tile, rows, columns = mapped.tile, *mapped.tile.size
            x = self._pixels(tile)
            light = mapped.light or self._network.light_path(x)
            active = self._active(mapped.windows, threshold, rows, columns)
            executed += self._network.heavy_path(light, active, rows, columns)
            executed += tile.cells * (self._network.light_macs + self._network.importance_macs)
            image[tile.scaled(SCALE).target] = self._network.image(x, light).numpy()[tile.scaled(SCALE).inner]
            inner = tile.divided(self._window)
            importance[inner.target] = mapped.windows[0, 0].numpy()[inner.inner]
            active_cells += tile.count_inside(active.numpy(), columns)
            curve += budgets.curve(mapped.count)
            mapped.light = None
            self._infer_s += time.perf_counter() - start
        return SuperResolution(
            threshold=threshold,
            macs_dense=self._dense,
            macs_executed=executed,
            active_share=active_cells / (self._height * self._width),
            importance=importance,
            macs_curve=tuple(curve.tolist()),
            importance_ms=1000 * self._importance_s,
            infer_ms=1000 * self._infer_s,
            image=image,
        )

    def _map(self, tile: Tile) -> _TileMap:
        start = time.perf_counter()
        light = self._network.light_path(self._pixels(tile))
        if self._importance is None:
            windows = self._calibrate(self._network.window_logits(light))
        else:
            given = self._importance[tile.divided(self._window).outer]
            windows = torch.from_numpy(np.ascontiguousarray(given))[None, None]
        macs = CellMacs(
            always=self._network.light_macs + self._network.importance_macs,
            body=self._network.body_macs,
            tail=self._network.tail_macs,
        )
        count = TileMacs(windows[0, 0].numpy(), *tile.size, self._window, macs)
        self._importance_s += time.perf_counter() - start
        return _TileMap(tile, windows, count, light)

    def _count_cells(self, maps: Sequence[_TileMap]) -> SumOfCounts:
        """Active cells of the image itself: each tile's core."""
        cores = (mapped.tile.inner for mapped in maps)
        return SumOfCounts(
            budgets.active_cells(
                mapped.windows[0, 0].numpy(),
                self._window,
                (down.start, down.stop),
                (across.start, across.stop),
            )
            for mapped, (down, across) in zip(maps, cores, strict=True)
        )

    def _pixels(self, tile: Tile) -> Tensor:
        return torch.from_numpy(np.array(self._image[tile.outer])).permute(2, 0, 1)[None].float() / 255

    def _active(self, windows: Tensor, threshold: float, height: int, width: int) -> Tensor:
        cells = expand_from_windows(windows, self._window, height, width)[:, 0]
        return ops.plan(cells.contiguous(), torch.tensor([threshold], dtype=torch.float32))

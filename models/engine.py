"""What a worker runs: images in, results and their costs out."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pixeltier.models import budgets, counting
from pixeltier.models.budgets import CellMacs, ClassifyCount, ImageCost, SumOfCounts, TileMacs
from pixeltier.models.calibration import Calibration
from pixeltier.models.cards import ModelCard
from pixeltier.models.checkpoints import load_classification, load_super_resolution
from pixeltier.models.inference.backend import backend_of
from pixeltier.models.inference.classification import RefinementPlan, SparseClassification
from pixeltier.models.inference.efficientnet_lite import BaseAnswer
from pixeltier.models.inference.super_resolution import BaseImage, SparseSuperResolution
from pixeltier.models.inference.tiles import Tile, split
from pixeltier.models.networks.classification import ClassificationNetwork, window_grid
from pixeltier.models.networks.masks import expand_from_windows, pool_to_windows
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork
from pixeltier.models.outcome import CURVE_THRESHOLDS, UNLIMITED, CostLimits, Infeasible
from pixeltier.models.precision import Precision, classifier_arithmetic, resolver_arithmetic
from pixeltier.models.results import Classification, Floats, Pixels, SuperResolution
from pixeltier.native import ops

CPU = torch.device("cpu")


class Classifier:
    """EfficientNet-Lite refined by ResNet-18 at any threshold."""

    def __init__(
        self,
        model: ClassificationNetwork,
        card: ModelCard,
        precision: Precision = "auto",
        device: torch.device = CPU,
    ) -> None:
        self.card = card
        self.arithmetic = arithmetic = classifier_arithmetic(model, card, precision, device)
        ranges = card.int8.ranges if card.int8 is not None and arithmetic.int8_base else None
        self._network = SparseClassification(model, backend_of(device, arithmetic.dtype), ranges)
        self._calibrate = Calibration(card.calibration)

    @classmethod
    def load(
        cls, directory: Path | None = None, precision: Precision = "auto", device: torch.device = CPU
    ) -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_classification(directory), precision, device)

    def classify(self, images: Sequence[Pixels], thresholds: Sequence[float]) -> list[Classification]:
        """Classify a batch, each image at its own threshold.

        Args:
            images: uint8 [H, W, 3] each, all of one size (see `pixeltier.models.images.classify_input`).
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
        limits: Sequence[CostLimits],
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
        pixels = torch.from_numpy(np.stack(images))
        answer, importance = self._map(pixels, importance_of)
        costs = self._costs(importance, pixels)
        solved = [
            cost.threshold(of_image, floor)
            for cost, floor, of_image in zip(costs, thresholds, limits, strict=True)
        ]
        # An image whose budget cannot be met is not refined, and its answer is not given.
        limit = torch.tensor([np.inf if found is None else found for found in solved], dtype=torch.float32)
        plan = RefinementPlan.of(importance, limit, refine_all=not self._network.shape.base_answers)
        mapped = time.perf_counter()
        run = self._network.refine(pixels, answer, plan) if plan.places else None
        probabilities = self._network.combine(answer, plan, run).softmax(1).numpy()
        done = time.perf_counter()
        base_macs = self._network.base_macs(*pixels.shape[1:3])
        refined = (
            dict(zip(plan.places, zip(run.macs, run.active_share, strict=True), strict=True)) if run else {}
        )
        results: list[Classification | Infeasible] = []
        for index, (cost, threshold) in enumerate(zip(costs, solved, strict=True)):
            if threshold is None:
                results.append(cost.infeasible())
                continue
            macs, share = refined.get(index, (0, 0.0))
            results.append(
                Classification(
                    threshold=threshold,
                    macs_dense=cost.macs_dense,
                    macs_executed=base_macs + macs,
                    active_share=share,
                    importance=importance[index, 0].numpy(),
                    macs_curve=budgets.curve(cost.macs),
                    active_curve=budgets.active_windows(importance[index, 0].numpy()),
                    importance_ms=1000 * (mapped - start),
                    infer_ms=1000 * (done - mapped),
                    probabilities=probabilities[index],
                )
            )
        return results

    def base_alone(self, images: Sequence[Pixels]) -> list[Classification]:
        """The base's own answers, without any refinement."""
        importance_of = [np.full(self._grid(images[0]), -1, dtype=np.float32)] * len(images)
        results = self.classify_within(images, [0.0] * len(images), [UNLIMITED] * len(images), importance_of)
        return [result for result in results if isinstance(result, Classification)]

    @torch.inference_mode()
    def costs(self, images: Sequence[Pixels]) -> list[ImageCost]:
        """What each image of a batch would cost at any threshold; nothing beyond the base is computed."""
        pixels = torch.from_numpy(np.stack(images))
        return self._costs(self._map(pixels, None)[1], pixels)

    def _grid(self, image: Pixels) -> tuple[int, int]:
        return window_grid(image.shape[0], image.shape[1], self._network.shape.window)

    def _map(self, pixels: Tensor, importance_of: Sequence[Floats] | None) -> tuple[BaseAnswer, Tensor]:
        """The base's answer and the importance of a batch, float32 [N, 1, h, w] in the host's memory."""
        answer = self._network.base(pixels)
        if importance_of is not None:
            return answer, torch.from_numpy(np.stack(importance_of))[:, None]
        return answer, self._calibrate(self._network.window_logits(answer, *pixels.shape[1:3]))

    def _costs(self, importance: Tensor, pixels: Tensor) -> list[ImageCost]:
        """What each image of a batch takes at any threshold."""
        shape, size = self._network.shape, (pixels.shape[1], pixels.shape[2])
        sizes = counting.resnet18_stage_sizes(*size)
        height, width = sizes[0]
        pooled = [
            pool_to_windows(importance, 2**stage // shape.window).numpy()
            for stage in range(len(sizes))
            if 2**stage > shape.window
        ]
        always, once = self._network.base_macs(*size), self._network.image_macs(*size)
        macs = tuple(counting.resnet18_cell(stage) for stage in range(len(sizes)))
        dense, cells = self._network.dense_macs(*size), sum(h * w for h, w in sizes)
        costs = []
        for index, windows in enumerate(importance.numpy()):
            count = partial(
                ClassifyCount,
                windows[0],
                [score[index, 0] for score in pooled],
                height,
                width,
                shape.window,
                keep_best=not shape.base_answers,
            )
            costs.append(
                ImageCost(count(macs, always, once), dense, partial(count, (1,) * len(sizes), 0), cells)
            )
        return costs


class SuperResolver:
    """ESPAN refined by SRResNet, x4, at any threshold and any size; large images go through in crops."""

    def __init__(
        self,
        model: SuperResolutionNetwork,
        card: ModelCard,
        precision: Precision = "auto",
        device: torch.device = CPU,
    ) -> None:
        self.card = card
        self.arithmetic = resolver_arithmetic(model, card, precision, device)
        self._network = SparseSuperResolution(model, backend_of(device, self.arithmetic.dtype))
        self._calibrate = Calibration(card.calibration)

    @classmethod
    def load(
        cls, directory: Path | None = None, precision: Precision = "auto", device: torch.device = CPU
    ) -> Self:
        """From the packaged weights, or those of a directory."""
        return cls(*load_super_resolution(directory), precision, device)

    def upscale(self, image: Pixels, threshold: float, importance: Floats | None = None) -> SuperResolution:
        """Super-resolve uint8 [h, w, 3] to exactly [4h, 4w, 3] at a threshold in [0, 1]; 0 computes every cell."""
        result = self.upscale_within(image, threshold, UNLIMITED, importance)
        if isinstance(result, Infeasible):
            raise RuntimeError("a budget without limits was not met")
        return result

    @torch.inference_mode()
    def cost(self, image: Pixels, importance: Floats | None = None) -> ImageCost:
        """What `upscale` would cost at any threshold; nothing beyond the maps is computed."""
        return _Upscaling(self._network, self._calibrate, image, importance).cost()

    @torch.inference_mode()
    def upscale_within(
        self,
        image: Pixels,
        threshold: float,
        limits: CostLimits,
        importance: Floats | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> SuperResolution | Infeasible:
        """As `upscale`, with a budget: the threshold is raised as far as it needs, the same for all crops.

        The maps of all crops are then made before the first one is refined. Keeping every crop's features meanwhile
        would take memory without bound, so where there are several their base runs again, and counts again.

        Args:
            importance: a map to use in place of the network's own, float32 [ceil(h / window), ceil(w / window)]; its
                MACs count all the same.
            advance: called before and after each tile with the tiles done and all tiles; what it raises ends the call.
        """
        upscaling = _Upscaling(self._network, self._calibrate, image, importance, advance)
        return upscaling.run(threshold, limits)


@dataclass(slots=True)
class _TileMap:
    """A tile's importance [1, 1, h, w] and MACs; the base's answer while that is kept."""

    tile: Tile
    windows: Tensor
    count: TileMacs
    answer: BaseImage | None


class _Upscaling:
    """One image on its way through the network."""

    def __init__(
        self,
        network: SparseSuperResolution,
        calibrate: Calibration,
        image: Pixels,
        importance: Floats | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> None:
        self._importance = importance
        self._tell = advance
        self._done = 0
        self._network = network
        self._calibrate = calibrate
        self._image = image
        self._height, self._width = image.shape[:2]
        self._window = network.shape.window
        halo = network.halo + ops.COMPOSE_REACH
        self._tiles = list(split(self._height, self._width, halo=halo, align=8))
        self._dense = self._height * self._width * counting.srresnet_dense()
        self._importance_s = self._infer_s = 0.0

    def run(self, threshold: float, limits: CostLimits) -> SuperResolution | Infeasible:
        """Solve for the limits, then compute tile by tile."""
        if not limits:
            return self._compute(threshold, (self._map(tile) for tile in self._tiles), besides=0)
        maps = self._maps()
        several = len(maps) > 1
        besides = self._network.base_macs * sum(tile.cells for tile in self._tiles) if several else 0
        cost = self._cost(maps, besides)
        start = time.perf_counter()
        solved = cost.threshold(limits, threshold)
        self._importance_s += time.perf_counter() - start
        return cost.infeasible() if solved is None else self._compute(solved, maps, besides)

    def cost(self) -> ImageCost:
        """What `run` without a budget would cost at any threshold."""
        return self._cost(self._maps(), besides=0)

    def _maps(self) -> list[_TileMap]:
        """Of all tiles; the features are kept where there is only one."""
        maps = []
        for tile in self._tiles:
            mapped = self._map(tile)
            if len(self._tiles) > 1:
                mapped.answer = None
            maps.append(mapped)
        return maps

    def _cost(self, maps: Sequence[_TileMap], besides: int) -> ImageCost:
        return ImageCost(
            SumOfCounts([mapped.count for mapped in maps], besides),
            self._dense,
            partial(self._count_cells, maps),
            self._height * self._width,
        )

    def _compute(self, threshold: float, maps: Iterable[_TileMap], besides: int) -> SuperResolution:
        image = np.empty((SCALE * self._height, SCALE * self._width, 3), dtype=np.uint8)
        importance = np.empty((-(-self._height // self._window), -(-self._width // self._window)), np.float32)
        executed, active_cells = besides, 0
        curve = np.zeros(len(CURVE_THRESHOLDS), dtype=np.int64)
        for mapped in maps:
            start = time.perf_counter()
            tile, rows, columns = mapped.tile, *mapped.tile.size
            answer = mapped.answer or self._network.base(self._pixels(tile))
            active = self._active(mapped.windows, threshold, rows, columns)
            executed += self._network.refine(answer, active)
            executed += tile.cells * (self._network.base_macs + self._network.importance_macs)
            image[tile.scaled(SCALE).target] = self._network.image(answer).numpy()[tile.scaled(SCALE).inner]
            inner = tile.divided(self._window)
            importance[inner.target] = mapped.windows[0, 0].numpy()[inner.inner]
            active_cells += tile.count_inside(active.numpy(), columns)
            curve += budgets.curve(mapped.count)
            mapped.answer = None
            self._infer_s += time.perf_counter() - start
            self._done += 1
            self._advance()
        return SuperResolution(
            threshold=threshold,
            macs_dense=self._dense,
            macs_executed=executed,
            active_share=active_cells / (self._height * self._width),
            importance=importance,
            macs_curve=tuple(curve.tolist()),
            active_curve=budgets.active_windows(importance),
            importance_ms=1000 * self._importance_s,
            infer_ms=1000 * self._infer_s,
            image=image,
        )

    def _advance(self) -> None:
        if self._tell is not None:
            self._tell(self._done, len(self._tiles))

    def _map(self, tile: Tile) -> _TileMap:
        self._advance()
        start = time.perf_counter()
        answer = self._network.base(self._pixels(tile))
        if self._importance is None:
            windows = self._calibrate(self._network.window_logits(answer))
        else:
            given = self._importance[tile.divided(self._window).outer]
            windows = torch.from_numpy(np.ascontiguousarray(given))[None, None]
        macs = CellMacs(
            always=self._network.base_macs + self._network.importance_macs,
            body=self._network.body_macs,
            tail=self._network.tail_macs,
        )
        count = TileMacs(windows[0, 0].numpy(), *tile.size, self._window, macs)
        self._importance_s += time.perf_counter() - start
        return _TileMap(tile, windows, count, answer)

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

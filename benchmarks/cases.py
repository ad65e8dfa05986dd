"""What takes part in the model benchmarks: ours at every tier and network by network, rivals in every engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from benchmarks.measured import BEST, OURS, CaseKey, Row, Runner, measure
from benchmarks.rivals import PRECISIONS, Rivals, dense_networks
from pixeltier.models.checkpoints import load_classification, load_super_resolution
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.images import classify_input, read_classify_input
from pixeltier.models.inference.backend import CpuBackend
from pixeltier.models.inference.classification import RefinementPlan, SparseClassification
from pixeltier.models.inference.super_resolution import SparseSuperResolution
from pixeltier.models.networks.classification import window_grid
from pixeltier.models.outcome import CostLimits
from pixeltier.models.precision import FAST_BF16, Arithmetic, Precision
from pixeltier.native import cpu_isa
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.opening import packaged_thresholds

PHOTO = Path(__file__).parents[1] / "docs/samples/astronaut.jpg"
DTYPES = ("fp32", "bf16", "int8", BEST)
BUDGETS = {"srresnet": (0.1,), "resnet18": (0.5, 0.3)}
"""Shares of the dense MACs that are asked for beside the tiers: what saved MACs are worth at a stated saving."""

PHOTOS = {"resnet18": 304, "srresnet": 48}
"""For INT8 rivals; the first is a multiple of the batches."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a case is measured: engines, networks of theirs, seconds, photos for INT8, weights."""

    engines: Sequence[str]
    networks: Sequence[str]
    seconds: float
    photos: Sequence[Path]
    weights: Path | None


def rival_precisions(dtype: str, engine: str, isa: str) -> tuple[str, ...]:
    """What an engine is run in: the case's dtype; all it has where each shall be at its best."""
    if dtype != BEST:
        return tuple(p for p in PRECISIONS[engine] if p == dtype)
    return tuple(p for p in PRECISIONS[engine] if p != "bf16" or isa in FAST_BF16)


def asked(dtype: str) -> Precision:
    """The precision that ours is asked for; it takes the nearest that it has, which its rows say."""
    return "auto" if dtype == BEST else dtype  # type: ignore[return-value]


def computes_in(arithmetic: Arithmetic, classifier: bool) -> dict[str, str]:
    """What each of our networks computes in. The classifier's base has float32 and int8 only."""
    refinement = "bf16" if arithmetic.dtype == torch.bfloat16 else "fp32"
    base = ("int8" if arithmetic.int8_base else "fp32") if classifier else refinement
    return {
        "base": base,
        "refinement": refinement,
        "both": base if base == refinement else f"{base} + {refinement}",
    }


def classify_cases(batches: Sequence[int], choice: Choice) -> Iterator[Callable[[int, str], list[Row]]]:
    """One a batch size: a function of threads and dtype."""
    model, _ = load_classification(choice.weights)
    for batch in batches:
        chosen = choice.photos[: PHOTOS["resnet18"]]
        crops = [_tensor(read_classify_input(path)) for path in chosen]
        groups = [torch.cat(crops[i : i + batch]) for i in range(0, len(crops) - batch + 1, batch)]
        yield partial(_classify, batch, Rivals(dense_networks(model), groups), choice)


def resolve_cases(
    sizes: Sequence[tuple[int, int]], choice: Choice
) -> Iterator[Callable[[int, str], list[Row]]]:
    """One a size (width, height): a function of threads and dtype."""
    model, _ = load_super_resolution(choice.weights)
    for size in sizes:
        photos = [_tensor(_fitted(path, size)) for path in choice.photos[: PHOTOS["srresnet"]]]
        yield partial(_resolve, size, Rivals(dense_networks(model), photos), choice)


def _classify(batch: int, rivals: Rivals, choice: Choice, threads: int, dtype: str) -> list[Row]:
    with Image.open(PHOTO) as image:
        pixels = [classify_input(image.convert("RGB").rotate(3 * index)) for index in range(batch)]
    model, card = load_classification(choice.weights)
    classifier = Classifier(model, card, asked(dtype))
    arithmetic = classifier.arithmetic
    precisions = computes_in(arithmetic, classifier=True)
    runs: dict[str, Callable[[], Sequence[Any]]] = {
        tier: partial(classifier.classify, pixels, [limit] * batch)
        for tier, limit in packaged_thresholds(Task.CLASSIFY).items()
    }
    for ratio in BUDGETS["resnet18"]:
        limits = [CostLimits(ratio)] * batch
        runs[f"macs <= {ratio}"] = partial(classifier.classify_within, pixels, [0.0] * batch, limits)
    runners = []
    for tier, run in runs.items():
        results = run()
        saved = 1 - sum(r.macs_executed for r in results) / sum(r.macs_dense for r in results)
        runners.append(Runner(OURS, "both", precisions["both"], run, tier, saved))
    ranges = card.int8.ranges if card.int8 is not None and arithmetic.int8_base else None
    network = SparseClassification(model, CpuBackend(arithmetic.dtype), ranges)
    stacked = torch.from_numpy(np.stack(pixels))
    answer = network.base(stacked)
    grid = window_grid(*stacked.shape[1:3], model.shape.window)
    plan = RefinementPlan.of(torch.ones(batch, 1, *grid), torch.zeros(batch), refine_all=True)
    parts = {
        "base": partial(network.base, stacked),
        "refinement": partial(network.refine, stacked, answer, plan),
    }
    runners += [Runner(OURS, name, precisions[name], run) for name, run in parts.items()]
    example = torch.cat([_tensor(one) for one in pixels])
    runners += _rivals(rivals, example, threads, dtype, choice)
    case: CaseKey = ("resnet18", "224x224", batch, threads, dtype)
    return measure(case, runners, choice.seconds)


def _resolve(size: tuple[int, int], rivals: Rivals, choice: Choice, threads: int, dtype: str) -> list[Row]:
    pixels = _fitted(PHOTO, size)
    model, card = load_super_resolution(choice.weights)
    resolver = SuperResolver(model, card, asked(dtype))
    precisions = computes_in(resolver.arithmetic, classifier=False)
    runs: dict[str, Callable[[], Any]] = {
        tier: partial(resolver.upscale, pixels, limit)
        for tier, limit in packaged_thresholds(Task.SUPER_RESOLVE).items()
    }
    for ratio in BUDGETS["srresnet"]:
        runs[f"macs <= {ratio}"] = partial(resolver.upscale_within, pixels, 0.0, CostLimits(ratio))
    runners = [
        Runner(OURS, "both", precisions["both"], run, tier, run().macs_saved) for tier, run in runs.items()
    ]
    example = _tensor(pixels)
    network = SparseSuperResolution(model, CpuBackend(resolver.arithmetic.dtype))
    answer = network.base(example)
    every = torch.arange(pixels.shape[0] * pixels.shape[1], dtype=torch.int32)
    parts: dict[str, Callable[[], Any]] = {
        "base": partial(network.base, example),
        "refinement": partial(network.refine, answer, every),  # adds to the same pixels each time
    }
    runners += [Runner(OURS, name, precisions[name], run) for name, run in parts.items()]
    runners += _rivals(rivals, example, threads, dtype, choice)
    case: CaseKey = ("srresnet", f"{size[0]}x{size[1]}", 1, threads, dtype)
    return measure(case, runners, choice.seconds)


def _rivals(
    rivals: Rivals, example: torch.Tensor, threads: int, dtype: str, choice: Choice
) -> Iterator[Runner]:
    for engine in choice.engines:
        for precision in rival_precisions(dtype, engine, cpu_isa()):
            for name in choice.networks:
                run = rivals.prepare(engine, name, precision, example, threads)
                if run is not None:
                    yield Runner(engine, name, precision, partial(run, example))


def _tensor(pixels: Pixels) -> torch.Tensor:
    """uint8 [h, w, 3] to float32 [1, 3, h, w] in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().contiguous() / 255


def _fitted(path: Path, size: tuple[int, int]) -> Pixels:
    """The largest central part of a photo with a size's proportions, shrunk to it: uint8 [h, w, 3]."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC))

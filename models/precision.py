"""The arithmetic of both models: as asked for, or the fastest that is measured and that the card allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from pixeltier.models.cards import ModelCard
from pixeltier.models.inference.backend import CpuBackend
from pixeltier.models.inference.classification import RefinementPlan, SparseClassification
from pixeltier.models.inference.super_resolution import SparseSuperResolution
from pixeltier.models.measured_choice import Choice, fastest, machine
from pixeltier.models.networks.classification import ClassificationNetwork, window_grid
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork
from pixeltier.native import _C, cpu_isa

Precision = Literal["auto", "fp32", "bf16", "int8"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FAST_BF16 = frozenset({"avx512_bf16", "amx"})
"""Instruction sets that multiply bfloat16; on others it is only converted, and never faster."""

MOST_INT8_LOSS = 0.003
"""Top-1 that int8 may lose, as a share, for `auto` to take it."""

VIEW = 224
SIDE = 48
"""Of the images that are measured: a photo's crop, a low-resolution patch."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """dtype of the refinement and of float features; whether the classifier's base computes in int8.

    `measured`: what was measured for it, by what was chosen between.
    """

    dtype: torch.dtype
    int8_base: bool = False
    measured: Mapping[str, Choice] = field(default_factory=dict)


def classifier_arithmetic(
    model: ClassificationNetwork, card: ModelCard, precision: Precision, device: torch.device
) -> Arithmetic:
    """How the classifier computes.

    Raises:
        ValueError: int8 is asked for and the card has no ranges for it, or the device is a GPU.
    """
    if precision == "int8":
        check_int8(card, device)
    fixed = fixed_dtype(precision, device)
    if fixed is not None:
        return Arithmetic(fixed)
    pixels = torch.randint(
        256, (1, VIEW, VIEW, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    measured: dict[str, Choice] = {}
    dtype = torch.float32
    if cpu_isa() in FAST_BF16:
        runs = partial(_refinements, model, pixels)
        measured["refinement"] = fastest(_key("classify refinement", card), runs)
        dtype = DTYPES[measured["refinement"].name]
    int8 = precision == "int8"
    if precision == "auto" and card.int8 is not None and card.int8.allowed(MOST_INT8_LOSS):
        measured["base"] = fastest(_key("classify base", card), partial(_bases, model, card, pixels))
        int8 = measured["base"].name == "int8"
    return Arithmetic(dtype, int8, measured)


def resolver_arithmetic(
    model: SuperResolutionNetwork, card: ModelCard, precision: Precision, device: torch.device
) -> Arithmetic:
    """How the super-resolver computes; there is no int8 of it: `int8` leaves it to the fastest float."""
    fixed = fixed_dtype(precision, device)
    if fixed is not None or cpu_isa() not in FAST_BF16:
        return Arithmetic(fixed or torch.float32)
    choice = fastest(_key("super-resolve", card), partial(_upscalings, model))
    return Arithmetic(DTYPES[choice.name], measured={"both networks": choice})


def check_int8(card: ModelCard, device: torch.device) -> None:
    """Refuse int8 where it cannot be had.

    Raises:
        ValueError: says why.
    """
    if device.type != "cpu":
        raise ValueError("precision int8 is for processors: use auto, bf16 or fp32 on a GPU")
    if card.int8 is None:
        raise ValueError(
            f"{card.name} {card.version} has no ranges for int8: write its card with `pixeltier calibrate classify`"
        )


def fixed_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What needs no measurement."""
    if device.type != "cpu":
        return torch.float32 if precision == "fp32" else torch.bfloat16
    return DTYPES.get(precision)


def _refinements(model: ClassificationNetwork, pixels: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The whole refinement of one photo, in each precision."""
    runs: dict[str, Callable[[], object]] = {}
    importance = torch.ones(1, 1, *window_grid(VIEW, VIEW, model.shape.window))
    plan = RefinementPlan.of(importance, torch.zeros(1), refine_all=True)
    for name, dtype in DTYPES.items():
        network = SparseClassification(model, CpuBackend(dtype))
        runs[name] = partial(network.refine, pixels, network.base(pixels), plan)
    return runs


def _bases(
    model: ClassificationNetwork, card: ModelCard, pixels: torch.Tensor
) -> dict[str, Callable[[], object]]:
    assert card.int8 is not None
    return {
        "fp32": partial(SparseClassification(model, CpuBackend(torch.float32)).base, pixels),
        "int8": partial(
            SparseClassification(model, CpuBackend(torch.float32), card.int8.ranges).base, pixels
        ),
    }


def _upscalings(model: SuperResolutionNetwork) -> dict[str, Callable[[], object]]:
    """Both networks on every cell of a patch, in each precision."""
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    active = torch.arange(SIDE * SIDE, dtype=torch.int32)

    def run(network: SparseSuperResolution) -> object:
        return network.refine(network.base(image), active)

    return {
        name: partial(run, SparseSuperResolution(model, CpuBackend(dtype))) for name, dtype in DTYPES.items()
    }


def _key(what: str, card: ModelCard) -> str:
    """What a choice depends on: the machine, its threads, the weights and the build of the extension."""
    build = Path(str(_C.__file__)).stat().st_mtime_ns
    parts = (what, card.name, card.version, machine(), f"{torch.get_num_threads()} threads", cpu_isa())
    return " | ".join([*parts, f"torch {torch.__version__}", f"build {build}"])

"""What both trainings share: configuration files, schedules, averaged weights, resumable checkpoints."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pixeltier.models.atomic_files import replacing
from pixeltier.models.checkpoints import read_weights
from pixeltier.models.text_files import TextError, loads_toml, read_text

Config = TypeVar("Config")
DTYPES = ("float32", "bfloat16")


def read_config(path: Path, kind: type[Config], **tables: type) -> Config:
    """A TOML file as a dataclass; unknown keys are refused by name.

    Args:
        tables: the dataclasses of arrays of tables, by key.

    Raises:
        ValueError: an unknown or missing key, or not TOML.
    """
    try:
        values = loads_toml(read_text(path))
    except TextError as error:
        raise TextError(f"{path}: {error}") from error
    for key, table in tables.items():
        try:
            values[key] = [table(**entry) for entry in values.get(key, [])]
        except TypeError as error:
            raise ValueError(f"{path}: {key}: {error}") from error
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{path}: unknown keys {unknown}; known are {sorted(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def shape_of(kind: type[Config], values: Mapping[str, int]) -> Config:
    """A network's shape from the table `shape` of a configuration.

    Raises:
        ValueError: an unknown key.
    """
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"shape: {error}") from error


def check_dtype(name: str) -> None:
    """Refuse types that nothing here is trained in.

    Raises:
        ValueError: says which there are.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is unknown; known are {', '.join(DTYPES)}")


def check_keep(least: float, most: float) -> None:
    """Refuse budgets that cannot be drawn from.

    Raises:
        ValueError: the shares of active windows are not in order.
    """
    if not 0 < least <= most <= 1:
        raise ValueError(f"0 < min_keep <= max_keep <= 1 must hold, not {least} and {most}")


@dataclass(slots=True)
class TrainingBudget:
    """How long a training runs: a number of steps, or minutes when `minutes` is positive."""

    steps: int
    minutes: float = 0.0
    spent_seconds: float = 0.0

    def start(self) -> None:
        """Begin (or, after a resume, go on) to count minutes."""
        self._resumed = time.monotonic() - self.spent_seconds

    _resumed: float = 0.0

    def progress(self, step: int) -> float:
        """Share of the training that is done, in [0, 1]."""
        self.spent_seconds = time.monotonic() - self._resumed
        if self.minutes > 0:
            return min(1.0, self.spent_seconds / (60 * self.minutes))
        return min(1.0, step / self.steps)


def cosine(progress: float, warmup: float = 0.01) -> float:
    """Learning-rate factor: linear warm-up, then a cosine to 1 % of the peak (Loshchilov & Hutter, 1608.03983)."""
    if progress < warmup:
        return max(0.05, progress / warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of all parameters, which is what is evaluated and shipped.

    Early steps count more, so that the start is forgotten.
    """

    def average(so_far: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        count = int(steps)
        return so_far.lerp(now, 1 - min(decay, (1 + count) / (10 + count)))

    return AveragedModel(model, avg_fn=average)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On the processor, equal runs give equal bits: gradients that are gathered are summed in a fixed order.

    A GPU keeps its faster kernels; two runs there differ by rounding.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        torch.save(state, partial)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None when there is none yet."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def read_state(path: Path, task: str) -> dict[str, Tensor]:
    """Weights to start from: safetensors, a directory of weights and card, a checkpoint of a training (its average),
    or a plain state dict.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if path.is_dir():
        return read_weights(task, path)
    if path.suffix == ".safetensors":
        return {name: value.float() for name, value in load_file(path).items()}
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return cast("dict[str, Tensor]", state.get("ema", state))


def resume(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: AveragedModel,
    budget: TrainingBudget,
) -> int:
    """Take up a checkpoint where there is one; returns its step, 0 without one."""
    state = load_checkpoint(path)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    average.module.load_state_dict(state["ema"])
    average.n_averaged.fill_(state["step"])
    budget.spent_seconds = state["spent_seconds"]
    return int(state["step"])


def save(
    path: Path,
    config: Any,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: AveragedModel,
    budget: TrainingBudget,
    step: int,
) -> None:
    """Write everything that `resume` takes up, and what `pixeltier calibrate` reads."""
    state = {
        "shape": asdict(cast("Any", model.shape)),
        "config": asdict(config),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": average.module.state_dict(),
        "spent_seconds": budget.spent_seconds,
        "step": step,
    }
    save_checkpoint(path, state)

"""What both trainings share: configuration files, schedules, averaged weights, resumable checkpoints."""

import math
import time
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.cards import weights_path

Config = TypeVar("Config")


def read_config(path: Path, kind: type[Config]) -> Config:
    """A TOML file as a dataclass; unknown keys are refused by name.

    Raises:
        ValueError: an unknown or missing key.
    """
    values: dict[str, Any] = tomllib.loads(path.read_text())
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{path}: unknown keys {unknown}; known are {sorted(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(slots=True)
class Budget:
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


class AveragedWeights:
    """Exponential moving average of all parameters; the average is what is evaluated and shipped."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; early steps count more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


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
        path = weights_path(task, path)
    if path.suffix == ".safetensors":
        return {name: value.float() for name, value in load_file(path).items()}
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return cast("dict[str, Tensor]", state.get("ema", state))


def resume(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: AveragedWeights,
    budget: Budget,
) -> int:
    """Take up a checkpoint where there is one; returns its step, 0 without one."""
    state = load_checkpoint(path)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    average.values = {k: v.to(average.values[k].device) for k, v in state["ema"].items()}
    budget.spent_seconds = state["spent_seconds"]
    return int(state["step"])


def save(
    path: Path,
    config: Any,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: AveragedWeights,
    budget: Budget,
    step: int,
) -> None:
    """Write everything that `resume` takes up, and what `pixeltier calibrate` reads."""
    state = {
        "shape": asdict(cast("Any", model.shape)),
        "config": asdict(config),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": average.values,
        "spent_seconds": budget.spent_seconds,
        "step": step,
    }
    save_checkpoint(path, state)

"""What the tests of training share: small configurations, runs that are cut off, comparison of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pixeltier.models.networks import efficientnet_lite
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.training.loop import load_checkpoint
from tests.unit.models.networks import lively

State = dict[str, Tensor]
CLASSES = 5
SMALL = SuperResolutionShape(base_channels=8, base_blocks=1, channels=16, blocks=2)


def write(path: Path, **settings: Any) -> Path:
    """A configuration file, of strings, numbers, lists and tables of numbers."""

    def value(one: Any) -> str:
        if isinstance(one, dict):
            return "{" + ", ".join(f"{key} = {number}" for key, number in one.items()) + "}"
        return str(one).lower() if isinstance(one, bool) else repr(one)

    path.write_text("".join(f"{key} = {value(one)}\n" for key, one in settings.items()))
    return path


def upscaling(folder: Path, photographs: Path, **changes: Any) -> Path:
    settings = {
        "photos": [str(photographs)],
        "out": str(folder / "run"),
        "patch": 16,
        "exact_patches": 2,
        "sparse_patches": 2,
        "base_steps": 1,
        "base_patches": 2,
        "base_learning_rate": 1e-3,
        "checkpoint_every": 2,
        "steps": 4,
        "dtype": "float32",
        "shape": asdict(SMALL),
    }
    return write(folder / "config.toml", **{**settings, **changes})


def naming(folder: Path, start: Path, photographs: Path, **changes: Any) -> Path:
    settings = {
        "start_weights": str(start),
        "photos": [str(photographs)],
        "out": str(folder / "run"),
        "batch": 3,
        "checkpoint_every": 2,
        "steps": 4,
        "dtype": "float32",
    }
    return write(folder / "config.toml", **{**settings, **changes})


def interrupted(train: Callable[[Path], Path], config: Path, module: Any, at: int) -> Path:
    """The checkpoint of a run that was cut off just after a checkpoint, and then gone on with."""
    saved, kept = module.save, 0

    class CutError(Exception):
        pass

    def save(*arguments: Any) -> None:
        nonlocal kept
        saved(*arguments)
        kept += 1
        if arguments[-1] == at:
            raise CutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save", save)
        with pytest.raises(CutError):
            train(config)
    assert kept == 1
    return train(config)


def weights_of(checkpoint: Path) -> dict[str, State]:
    state = load_checkpoint(checkpoint)
    assert state is not None
    return {"model": state["model"], "ema": state["ema"]}


def assert_same(first: dict[str, State], second: dict[str, State]) -> None:
    for part in ("model", "ema"):
        assert first[part].keys() == second[part].keys()
        for name, values in first[part].items():
            assert torch.equal(values, second[part][name]), name


def moved(before: State, after: State) -> set[str]:
    return {name for name in after if not torch.equal(before[name], after[name])}


def public_state(shape: EfficientNetLiteShape, seed: int) -> State:
    """A random state dict with the public names."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    with torch.no_grad():
        network = EfficientNetLite(shape)
        lively(network, seed)
        own = network.state_dict()
    for name, (conv, norm) in efficientnet_lite._public_names(shape).items():
        state[f"{conv}.weight"] = own[f"{name}.weight"]
        outputs = len(own[f"{name}.bias"])
        state[f"{norm}.weight"] = 0.5 + torch.rand(outputs, generator=generator)
        state[f"{norm}.bias"] = own[f"{name}.bias"]
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(outputs, generator=generator)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=generator)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    state["_fc.weight"], state["_fc.bias"] = own["fc.weight"], own["fc.bias"]
    return state

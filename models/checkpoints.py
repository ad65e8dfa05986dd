"""Weights on disk: safetensors beside their card."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pixeltier.models.atomic_files import replacing
from pixeltier.models.cards import ModelCard, base_weights_path, load_card, weights_path
from pixeltier.models.networks.classification import ClassificationNetwork, ClassificationShape
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape

BASE = "base."


def load_classification(directory: Path | None = None) -> tuple[ClassificationNetwork, ModelCard]:
    """The classifier in float32 and its card; packaged weights unless a directory is given."""
    card = load_card("classify", directory)
    model = ClassificationNetwork(ClassificationShape(**card.architecture))
    model.load_state_dict(read_weights(card.task, directory))
    return model.eval(), card


def load_super_resolution(directory: Path | None = None) -> tuple[SuperResolutionNetwork, ModelCard]:
    """The super-resolver in float32 and its card; packaged weights unless a directory is given."""
    card = load_card("super-resolve", directory)
    model = SuperResolutionNetwork(SuperResolutionShape(**card.architecture))
    model.load_state_dict(read_weights(card.task, directory))
    return model.eval(), card


def save_weights(task: str, state: Mapping[str, Tensor], directory: Path) -> None:
    """Write weights as float16, each file whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    base = {name for name in state if name.startswith(BASE)}
    for path, names in (
        (base_weights_path(task, directory), base),
        (weights_path(task, directory), set(state) - base),
    ):
        with replacing(path) as partial:
            save_file({name: state[name].half().contiguous() for name in sorted(names)}, partial)
            partial.chmod(0o644)  # safetensors writes private files; weights are for whoever serves them


def read_weights(task: str, directory: Path | None) -> dict[str, Tensor]:
    """All weights of a task in float32.

    Raises:
        FileNotFoundError: a file is missing; the message says which.
    """
    state: dict[str, Tensor] = {}
    for path in (base_weights_path(task, directory), weights_path(task, directory)):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing beside its card")
        state |= {name: value.to(torch.float32) for name, value in load_file(path).items()}
    return state

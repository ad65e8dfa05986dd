"""Weights on disk: safetensors beside their card."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.cards import ModelCard, load_card, weights_path
from models.networks.resnet18 import ResNet18, ResNet18Shape
from models.networks.srresnet import SRResNet, SRResNetShape


def load_resnet18(directory: Path | None = None) -> tuple[ResNet18, ModelCard]:
    """The classifier in float32 and its card; packaged weights unless a directory is given."""
    card = load_card("classify", directory)
    model = ResNet18(ResNet18Shape(**card.architecture))
    model.load_state_dict(_read(card, directory))
    return model.eval(), card


def load_srresnet(directory: Path | None = None) -> tuple[SRResNet, ModelCard]:
    """The super-resolver in float32 and its card; packaged weights unless a directory is given."""
    card = load_card("super-resolve", directory)
    model = SRResNet(SRResNetShape(**card.architecture))
    model.load_state_dict(_read(card, directory))
    return model.eval(), card


def save_weights(task: str, state: dict[str, Tensor], directory: Path) -> Path:
    """Write weights as float16, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    path = weights_path(task, directory)
    partial = path.with_suffix(".part")
    save_file({name: value.half().contiguous() for name, value in state.items()}, partial)
    partial.chmod(0o644)  # safetensors writes private files; weights are for whoever serves them
    partial.replace(path)
    return path


def _read(card: ModelCard, directory: Path | None) -> dict[str, Tensor]:
    path = weights_path(card.task, directory)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside its card")
    return {name: value.to(torch.float32) for name, value in load_file(path).items()}

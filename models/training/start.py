"""Where a training of the classifier may start: somebody's ResNet-18, weights of ours, or a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.cards import load_card, weights_path
from models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm

WRAPPERS = ("ema", "state_dict", "model")
"""Keys below which checkpoints keep their weights, the first one that is there; `ema` is ours."""


def start_resnet18(path: Path, shape: Mapping[str, int]) -> ResNet18:
    """A network with the weights at `path`; its importance network is fresh where they have none.

    Args:
        path: a torchvision or timm state dict (.pth, .safetensors), weights of ours (a directory, or the .safetensors
            in it) or the checkpoint of a training.
        shape: fields of `ResNet18Shape` that differ from what lies at `path`.

    Raises:
        FileNotFoundError, ValueError: there is nothing, or no ResNet-18 of that shape.
    """
    if path.is_dir():
        path = weights_path("classify", path)
    state = read_tensors(path)
    found = _stored_shape(path)
    if "bn1.weight" in state:
        state = fold_batch_norm(state)
    if "fc.weight" not in state:
        raise ValueError(f"{path} is no ResNet-18 (torchvision or timm names): fc.weight is missing")
    fields = {**found, "classes": state["fc.weight"].shape[0], **shape}
    model = ResNet18(ResNet18Shape(**fields))
    fill(model, state, path)
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict in float32, out of whatever wraps it; `module.` before every name is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no tensors, or code that would have to be run to read it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}")
    if path.suffix == ".safetensors":
        try:
            return _plain(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each have their own
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is no state dict that can be read safely: {text}") from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path} holds no state dict (names to tensors)")
    return _plain(loaded)


def fill(model: ResNet18, state: Mapping[str, Tensor], source: Path) -> None:
    """Load weights; only an importance network may be missing.

    Raises:
        ValueError: names the first tensor that does not fit.
    """
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state and not name.startswith("importance.")]
    unexpected = sorted(set(state) - set(wanted))
    if missing or unexpected:
        trouble = f"{missing[0]} is missing" if missing else f"it has {unexpected[0]} besides"
        raise ValueError(f"{source} is no ResNet-18: {trouble}")
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            got, needs = tuple(value.shape), tuple(wanted[name].shape)
            raise ValueError(f"{source} is no ResNet-18 of this shape: {name} is {got} instead of {needs}")
    model.load_state_dict(dict(state), strict=False)


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def _stored_shape(path: Path) -> dict[str, int]:
    """What a card beside the weights, or a checkpoint, says of the shape; nothing for a state dict."""
    if path.suffix == ".safetensors":
        beside = path == weights_path("classify", path.parent) and path.with_suffix(".json").is_file()
        return load_card("classify", path.parent).architecture if beside else {}
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return cast("dict[str, int]", loaded.get("shape", {})) if "ema" in loaded else {}

"""Where a training of the classifier may start: somebody's ResNet-18, weights of ours, or a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pixeltier.models.cards import load_card
from pixeltier.models.checkpoints import read_weights
from pixeltier.models.networks.classification import ClassificationNetwork, ClassificationShape
from pixeltier.models.networks.efficientnet_lite import EfficientNetLiteShape, from_public
from pixeltier.models.networks.resnet18 import fold_batch_norm
from pixeltier.models.training.loop import shape_of

WRAPPERS = ("ema", "state_dict", "model")
"""Keys below which checkpoints keep their weights, the first one that is there; `ema` is ours."""

REFINEMENT = "refinement."


def start_classification(
    path: Path, base: Path | None, shape: Mapping[str, int]
) -> tuple[ClassificationNetwork, frozenset[str]]:
    """A classifier with the weights at `path`, and the names of those that start afresh.

    What a ResNet-18 lacks starts so that it changes nothing: convolutions of a residual branch and `fuse` at zero.

    Args:
        path: a torchvision or timm state dict (.pth, .safetensors), a ResNet-18 with its batch norms folded, a
            directory of weights of ours, or the checkpoint of a training.
        base: the public weights of an EfficientNet-Lite0 with as many classes; None where `path` has a base.
        shape: fields of `ClassificationShape` that differ from what lies at `path`.

    Raises:
        FileNotFoundError, ValueError: there is nothing, or no ResNet-18 of that shape.
    """
    state = read_weights("classify", path) if path.is_dir() else read_tensors(path)
    found = _stored_shape(path)
    if "bn1.weight" in state:
        state = fold_batch_norm(state)
    if not any(name.startswith(REFINEMENT) for name in state):
        state = {REFINEMENT + name: value for name, value in state.items()}
    if f"{REFINEMENT}fc.weight" not in state:
        raise ValueError(f"{path} is not a ResNet-18 (torchvision or timm names): fc.weight is missing")
    fields = {**found, "classes": state[f"{REFINEMENT}fc.weight"].shape[0], **shape}
    model = ClassificationNetwork(shape_of(ClassificationShape, fields))
    if base is not None:
        public = from_public(read_tensors(base), EfficientNetLiteShape(fields["classes"]))
        state |= {f"base.{name}": value for name, value in public.items()}
    fill(model, state, path)
    fresh = frozenset(name for name, _ in model.named_parameters() if name not in state)
    _start_at_nothing(model, fresh)
    return model, fresh


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
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each have their own
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a state dict that can be read safely: {text}") from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path} does not hold a state dict (names to tensors)")
    return _plain(loaded)


MAY_BE_FRESH = ("importance.", "combination.", f"{REFINEMENT}fuse.", f"{REFINEMENT}layer")


def fill(model: ClassificationNetwork, state: Mapping[str, Tensor], source: Path) -> None:
    """Load weights; what the refinement gains, and convolutions of its branches, may be missing.

    Raises:
        ValueError: names the first tensor that does not fit.
    """
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state and not name.startswith(MAY_BE_FRESH)]
    unexpected = sorted(set(state) - set(wanted))
    if missing or unexpected:
        trouble = f"{missing[0]} is missing" if missing else f"it has {unexpected[0]} besides"
        raise ValueError(f"{source} does not fit the classifier: {trouble}")
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            got, needs = tuple(value.shape), tuple(wanted[name].shape)
            raise ValueError(f"{source} does not fit the classifier: {name} is {got} instead of {needs}")
    model.load_state_dict(dict(state), strict=False)


@torch.no_grad()
def _start_at_nothing(model: ClassificationNetwork, fresh: frozenset[str]) -> None:
    for name, module in model.refinement.named_modules():
        if f"{REFINEMENT}{name}.weight" not in fresh or not isinstance(module, nn.Conv2d):
            continue
        if name == "fuse" or name.endswith("conv2"):
            nn.init.zeros_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def _stored_shape(path: Path) -> dict[str, int]:
    """What a card beside the weights, or a checkpoint, says of the shape; nothing for a state dict."""
    if path.is_dir():
        return load_card("classify", path).architecture
    if path.suffix == ".safetensors":
        return {}
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return cast("dict[str, int]", loaded.get("shape", {})) if "ema" in loaded else {}

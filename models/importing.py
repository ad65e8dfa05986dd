"""Somebody's ResNet-18 made servable: folded, given an importance network, calibrated, with a card."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from models.cards import (
    LABELS_FILE,
    WEIGHTS,
    ModelCard,
    card_path,
    labels_path,
    load_card,
    weights_path,
    write_card,
)
from models.checkpoints import load_resnet18, save_weights
from models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm
from models.training.export import MACS_RULES, calibration_knots
from models.training.start import fill, read_tensors

NOTE = (
    "Imported, not trained here. The importance network is that of the packaged weights and was trained on another "
    "backbone: the exact tier is this network's own, the faster ones are weaker than they could be until "
    "`pixeltier train classify`, with this directory as start_weights, has adapted them."
)


def import_resnet18(
    source: Path, out: Path, photos: Sequence[Path], version: str, licence: str, labels: Path | None = None
) -> ModelCard:
    """Write weights, card and labels to `out`, and the packaged super-resolver where it has none: it can be served.

    Args:
        source: a torchvision or timm ResNet-18 state dict, .pth or .safetensors, of any number of classes.
        photos: what calibration is measured on; those that will be served are best.
        labels: names of the classes, one a line; those already in `out`, or ImageNet's, if None.

    Raises:
        FileNotFoundError, ValueError: something is missing or does not fit; nothing has been written then.
    """
    state = read_tensors(source)
    if any(name.startswith("importance.") for name in state):
        raise ValueError(f"{source} has an importance network already: serve its directory, or calibrate it")
    folded = fold_batch_norm(state)
    packaged, packaged_card = load_resnet18()
    shape = {**packaged_card.architecture, "classes": len(folded["fc.bias"])}
    names = _labels(labels or labels_path(out), shape["classes"])
    importance = {n: v for n, v in packaged.state_dict().items() if n.startswith("importance.")}
    model = ResNet18(ResNet18Shape(**shape))
    fill(model, {**folded, **importance}, source)
    weights = model.state_dict()
    overflowing = [name for name, value in weights.items() if not bool(torch.isfinite(value.half()).all())]
    if overflowing:
        raise ValueError(f"{source}: {overflowing[0]} has values that are not finite in float16")
    knots = calibration_knots("classify", {"shape": shape, "ema": weights}, photos)

    save_weights("classify", weights, out)
    if labels is not None:
        _write_whole(out / LABELS_FILE, "\n".join(names) + "\n")
    card = packaged_card.model_copy(
        update={
            "version": version,
            "architecture": shape,
            "macs_dense_rule": MACS_RULES["classify"],
            "calibration": knots,
            "calibration_data": f"{len(photos)} photos, at import",
            "expectations": [],
            "expectations_data": "",
            "training": {
                "command": "pixeltier import-weights",
                "source": source.name,
                "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
                "importance": f"{packaged_card.name} {packaged_card.version}",
                "note": NOTE,
            },
            "licence": licence,
        }
    )
    write_card(card, out)
    _complete(out)
    return card


def _labels(path: Path, classes: int) -> list[str]:
    names = path.read_text(encoding="utf-8").splitlines()
    if len(names) != classes:
        raise ValueError(
            f"{path} names {len(names)} classes, the network has {classes}: give --labels, one name a line"
        )
    if not all(name.strip() for name in names):
        raise ValueError(f"{path} has an empty line: every class needs a name")
    return names


def _complete(out: Path) -> None:
    """A service needs both models: the packaged super-resolver, card last, where there is none."""
    task = "super-resolve"
    if out.resolve() == WEIGHTS.resolve() or card_path(task, out).is_file():
        return
    target = weights_path(task, out)
    partial = target.with_suffix(".part")
    shutil.copyfile(weights_path(task), partial)
    partial.replace(target)
    write_card(load_card(task), out)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)

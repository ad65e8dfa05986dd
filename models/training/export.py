"""From a training's checkpoint to what is served: calibrated weights and their card."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from models.calibration import quantile_knots
from models.cards import FILE_NAMES, ModelCard, write_card
from models.checkpoints import save_weights
from models.images import classify_input
from models.networks.resnet18 import ResNet18, ResNet18Shape
from models.networks.srresnet import SRResNet, SRResNetShape
from models.training.classify_photos import normalise
from models.training.loop import load_checkpoint
from models.training.photos import load_photo, shrink

LARGEST_LR = 512
"""Calibration crops low-resolution photos to this side, so that a few huge ones do not dominate."""

LICENCES = {
    "classify": "non-commercial: fine-tuned from a ResNet-18 whose layer 4 is averaged from published models under "
    "CC-BY-NC 4.0 and a non-commercial licence; trained on ImageNet-derived and BSDS photos",
    "super-resolve": "non-commercial research: trained on BSDS500 (non-commercial), freely licensed wallpapers and "
    "Wikipedia photos, distilled from IMDN (MIT)",
}
MACS_RULES = {
    "classify": "plain ResNet-18 on the same input: 1.814 GMAC at 224x224",
    "super-resolve": "plain SRResNet x4: 2,218,176 MAC per low-resolution pixel",
}


def calibrate(
    task: str,
    checkpoint: Path,
    photos: Sequence[Path],
    out: Path,
    version: str,
    calibration_data: str,
    training_note: str = "",
    licence: str = "",
) -> ModelCard:
    """Measure the calibration table on photos and write weights and card to `out`.

    The card has no expectations yet; `pixeltier evaluate --update-card` adds them.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(f"no checkpoint at {checkpoint}: run `pixeltier train {task}` first")
    knots = calibration_knots(task, state, photos)
    save_weights(task, state["ema"], out)
    card = ModelCard(
        task=task,  # type: ignore[arg-type]
        name=FILE_NAMES[task],
        version=version,
        architecture=state["shape"],
        window=state["shape"]["window"],
        macs_dense_rule=MACS_RULES[task],
        calibration=knots,
        calibration_data=calibration_data,
        expectations=[],
        expectations_data="",
        training=_training_record(task, state, training_note),
        licence=licence or LICENCES[task],
    )
    write_card(card, out)
    return card


def calibration_knots(task: str, state: dict[str, Any], photos: Sequence[Path]) -> list[float]:
    """The calibration table of weights (`ema`) and `shape`, measured on photos.

    Raises:
        ValueError: the photos have too few windows for a table.
    """
    logits = _classify_logits if task == "classify" else _super_resolve_logits
    collected = torch.cat([values.flatten() for values in logits(state, photos)])
    return [round(value, 6) for value in quantile_knots(collected)]


def _training_record(task: str, state: dict[str, Any], note: str) -> dict[str, Any]:
    places = {"photos", "out", "seed_weights", "start_weights", "teacher", "labels", "images"}
    settings = {name: value for name, value in state["config"].items() if name not in places}
    return {
        "command": f"pixeltier train {task} CONFIG.toml, with the settings below and paths of one's own",
        "steps": state["step"],
        "hours": round(state["spent_seconds"] / 3600, 2),
        "note": note,
        "settings": settings,
    }


@torch.inference_mode()
def _classify_logits(state: dict[str, Any], photos: Sequence[Path]) -> Iterator[Tensor]:
    model = ResNet18(ResNet18Shape(**state["shape"])).eval()
    model.load_state_dict(state["ema"])
    for path in tqdm(photos, desc="calibrate", unit="photo"):
        with Image.open(path) as image:
            pixels = classify_input(image.convert("RGB"))
        yield model.importance(model.stem(normalise(pixels[None])))


@torch.inference_mode()
def _super_resolve_logits(state: dict[str, Any], photos: Sequence[Path]) -> Iterator[Tensor]:
    model = SRResNet(SRResNetShape(**state["shape"])).eval()
    model.load_state_dict(state["ema"])
    for path in tqdm(photos, desc="calibrate", unit="photo"):
        lr = shrink(load_photo(path))[:LARGEST_LR, :LARGEST_LR].copy()
        x = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255
        context = model.base(model.head_act(model.head(x)))
        yield model.window_logits(context)

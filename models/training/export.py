"""From a training's checkpoint to what is served: calibrated weights and their card."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.calibration import quantile_knots
from pixeltier.models.cards import BASE_FILE_NAMES, FILE_NAMES, FeatureRanges, Int8, ModelCard, write_card
from pixeltier.models.checkpoints import save_weights
from pixeltier.models.images import compressed, read_classify_input
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    ClassificationShape,
    base_input,
    window_grid,
)
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.models.quantization import feature_ranges
from pixeltier.models.training.classify_photos import as_input
from pixeltier.models.training.loop import load_checkpoint
from pixeltier.models.training.photos import load_photo, shrink
from pixeltier.models.training.spread import choose_spread

LARGEST_LR = 512
"""Calibration crops low-resolution photos to this side, so that a few huge ones do not dominate."""

LICENCES = {
    "classify": "Apache-2.0 AND BSD-3-Clause",
    "super-resolve": "LicenseRef-Non-Commercial-Weights",
}
BASE_LICENCES = {"classify": "Apache-2.0", "super-resolve": "MIT"}
ORIGINS = {
    "classify": "base: EfficientNet-Lite0 (Apache-2.0); refinement: ResNet-18 from freely licensed parts (torchvision, "
    "BSD-3-Clause, and an 8-bit export, Apache-2.0), distilled from EfficientNet-Lite1 and Lite2 (Apache-2.0) on "
    "photos of public collections, most of which say nothing of their terms",
    "super-resolve": "base: ESPAN (MIT); refinement: trained on BSDS500 (non-commercial research), freely licensed "
    "wallpapers and Wikipedia photos, distilled from IMDN",
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
    if task == "classify":
        state["ema"]["importance.spread"] = torch.tensor(choose_spread(_classification(state), photos))
    knots = calibration_knots(task, state, photos)
    int8 = Int8(ranges=base_ranges(_classification(state), photos)) if task == "classify" else None
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
        base=BASE_FILE_NAMES[task],
        base_licence=BASE_LICENCES[task],
        origin="" if licence else ORIGINS[task],
        int8=int8,
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


def base_ranges(model: ClassificationNetwork, photos: Sequence[Path]) -> FeatureRanges:
    """What the base's features span on photos, for its int8."""
    bar = tqdm(photos, desc="int8 ranges", unit="photo")
    return feature_ranges(model.base, (base_input(as_input(read_classify_input(path)[None])) for path in bar))


def _training_record(task: str, state: dict[str, Any], note: str) -> dict[str, Any]:
    places = {"photos", "out", "seed_weights", "start_weights", "base_weights", "teacher", "teachers"}
    places |= {"labels", "images"}
    settings = {name: value for name, value in state["config"].items() if name not in places}
    return {
        "command": f"pixeltier train {task} CONFIG.toml, with the settings below and paths of one's own",
        "steps": state["step"],
        "hours": round(state["spent_seconds"] / 3600, 2),
        "note": note,
        "settings": settings,
    }


def _classification(state: dict[str, Any]) -> ClassificationNetwork:
    model = ClassificationNetwork(ClassificationShape(**state["shape"])).eval()
    model.load_state_dict(state["ema"])
    return model


@torch.inference_mode()
def _classify_logits(state: dict[str, Any], photos: Sequence[Path]) -> Iterator[Tensor]:
    model = _classification(state)
    for path in tqdm(photos, desc="calibrate", unit="photo"):
        x = as_input(read_classify_input(path)[None])
        _, features, logits = model.base.all_features(base_input(x))
        yield model.window_logits(logits, features, window_grid(x.shape[2], x.shape[3], model.shape.window))


@torch.inference_mode()
def _super_resolve_logits(state: dict[str, Any], photos: Sequence[Path]) -> Iterator[Tensor]:
    model = SuperResolutionNetwork(SuperResolutionShape(**state["shape"])).eval()
    model.load_state_dict(state["ema"])
    qualities = _spread_qualities(state["config"].get("jpeg_quality"), len(photos))
    for path, quality in zip(tqdm(photos, desc="calibrate", unit="photo"), qualities, strict=True):
        lr = shrink(load_photo(path))[:LARGEST_LR, :LARGEST_LR].copy()
        if quality is not None:
            lr = compressed(lr, quality)
        x = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255
        yield model.window_logits(model.base.features(x))


def _spread_qualities(jpeg_quality: Sequence[int] | None, count: int) -> list[int | None]:
    """A quality for each photo, over the range that the weights were trained on; None for clean ones."""
    if not jpeg_quality:
        return [None] * count
    least, most = jpeg_quality
    return [least + index * 7 % (most - least + 1) for index in range(count)]

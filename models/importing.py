"""Somebody's ResNet-18 made servable: folded, refining a base that is fitted to it, calibrated, with a card."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from pixeltier.models.atomic_files import replacing
from pixeltier.models.calibration import KNOTS
from pixeltier.models.cards import (
    COMPRESSED,
    LABELS_FILE,
    WEIGHTS,
    Int8,
    ModelCard,
    base_weights_path,
    card_path,
    compressed_directory,
    labels_path,
    load_card,
    weights_path,
    write_card,
)
from pixeltier.models.checkpoints import load_classification, save_weights
from pixeltier.models.networks.classification import ClassificationNetwork, ClassificationShape
from pixeltier.models.networks.resnet18 import fold_batch_norm
from pixeltier.models.text_files import TextError, read_text
from pixeltier.models.training.export import MACS_RULES, calibration_knots
from pixeltier.models.training.fitting import fit_base, held_back, measure_agreement
from pixeltier.models.training.start import REFINEMENT, fill, read_tensors

FITTED = (
    "Imported, not trained here. The base's last layer was fitted to this network's answers on the photos given at "
    "import; `pixeltier train classify`, with this directory as start_weights, goes on from there."
)
MAP_ONLY = (
    "Imported without photos: the base draws the map only, its answer is not used, and the faster tiers save less than "
    "they could. Import again with photos of the kind that will be served."
)


def import_resnet18(
    source: Path, out: Path, photos: Sequence[Path], version: str, licence: str, labels: Path | None = None
) -> ModelCard:
    """Write weights, card and labels to `out`, and the packaged super-resolver where it has none: it can be served.

    Args:
        source: a torchvision or timm ResNet-18 state dict, .pth or .safetensors, of any number of classes.
        photos: what the base is fitted to and calibration is measured on, without labels; those that will be served are
            best, hundreds to thousands. Without any the base draws the map only.
        labels: names of the classes, one a line; those already in `out`, or ImageNet's, if None.

    Raises:
        FileNotFoundError, ValueError: something is missing or does not fit; nothing has been written then.
    """
    state = read_tensors(source)
    if any(name.startswith(REFINEMENT) for name in state):
        raise ValueError(f"{source} has a base already: serve its directory, or calibrate it")
    folded = fold_batch_norm(state)
    packaged, packaged_card = load_classification()
    classes = len(folded["fc.bias"])
    names = _labels(labels or labels_path(out), classes)
    model = _refining(packaged, folded, classes, source, base_answers=bool(photos))
    _check_range(model.state_dict(), source)
    if photos:
        fit_base(model, photos)
    shape = _fields(model)
    weights = model.state_dict()
    _check_range(weights, source)
    held = held_back(photos)  # of the others the base is surer than of those that will be served
    knots = (
        calibration_knots("classify", {"shape": shape, "ema": weights}, held) if photos else _normal_knots()
    )
    card = _imported_card(packaged_card, source, version, licence, shape, knots, len(held))
    if photos:
        found = measure_agreement(model, card, photos)
        update = {
            "expectations": found,
            "expectations_data": "photos given at import and kept from the fit, against the exact tier",
        }
        card = card.model_copy(update=update)

    save_weights("classify", weights, out)
    if labels is not None:
        with replacing(out / LABELS_FILE) as partial:
            partial.write_text("\n".join(names) + "\n", encoding="utf-8")
    write_card(card, out)
    _complete(out)
    return card


def _imported_card(
    packaged: ModelCard,
    source: Path,
    version: str,
    licence: str,
    shape: dict[str, int],
    knots: list[float],
    photos: int,
) -> ModelCard:
    """A card without a curve; `photos`: how many calibration saw."""
    return packaged.model_copy(
        update={
            "version": version,
            "architecture": shape,
            "macs_dense_rule": MACS_RULES["classify"],
            "calibration": knots,
            "calibration_data": f"{photos} photos given at import" if photos else "none",
            "expectations": [],
            "expectations_data": "",
            "training": {
                "command": "pixeltier import-weights",
                "source": source.name,
                "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
                "base": f"{packaged.name} {packaged.version}",
                "note": FITTED if photos else MAP_ONLY,
            },
            "licence": licence,
            "int8": _int8_of(packaged),
            "origin": f"{source.name}, refining the base of {packaged.name} {packaged.version}",
        }
    )


def _refining(
    packaged: ClassificationNetwork, folded: dict[str, Tensor], classes: int, source: Path, base_answers: bool
) -> ClassificationNetwork:
    """The packaged base before somebody's network; only what has nothing to do with its classes is taken over."""
    own = 0 if base_answers else packaged.base.shape.classes
    shape = ClassificationShape(
        classes, base_classes=own, window=packaged.shape.window, context=0, base_answers=int(base_answers)
    )
    model = ClassificationNetwork(shape)
    state = {REFINEMENT + name: value for name, value in folded.items()}
    kept = {name: value for name, value in packaged.state_dict().items() if not name.startswith(REFINEMENT)}
    if base_answers:
        kept |= {name: model.state_dict()[name] for name in ("base.fc.weight", "base.fc.bias")}
    fill(model, {**kept, **state}, source)
    if not base_answers:  # every image is refined: places alone matter
        for parameter in model.importance.out.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.ones_(model.importance.spread)
    return model.eval()


def _check_range(weights: Mapping[str, Tensor], source: Path) -> None:
    """Weights are stored in float16."""
    overflowing = [name for name, value in weights.items() if not bool(torch.isfinite(value.half()).all())]
    if overflowing:
        raise ValueError(f"{source}: {overflowing[0]} has values that are not finite in float16")


def _fields(model: ClassificationNetwork) -> dict[str, Any]:
    return {name: getattr(model.shape, name) for name in ClassificationShape.__dataclass_fields__}


def _normal_knots() -> list[float]:
    """The calibration of standardised evidence, taken for normal."""
    return [NormalDist().inv_cdf((index + 0.5) / KNOTS) for index in range(KNOTS)]


def _int8_of(packaged: ModelCard) -> Int8 | None:
    """The base's ranges are those of the packaged one; what int8 loses with these classes nobody measured."""
    return None if packaged.int8 is None else Int8(ranges=packaged.int8.ranges)


def _labels(path: Path, classes: int) -> list[str]:
    try:
        names = read_text(path).splitlines()
    except TextError as error:
        raise TextError(f"{path}: {error}") from error
    if len(names) != classes:
        raise ValueError(
            f"{path} names {len(names)} classes, the network has {classes}: give --labels, one name a line"
        )
    if not all(name.strip() for name in names):
        raise ValueError(f"{path} has an empty line: every class needs a name")
    return names


def _complete(out: Path) -> None:
    """A service needs both models: the packaged super-resolvers, each card last, where there is none."""
    task = "super-resolve"
    if out.resolve() == WEIGHTS.resolve() or card_path(task, out).is_file():
        return
    compressed = compressed_directory(task)
    for source, target in ((WEIGHTS, out), (compressed, out / COMPRESSED)):
        if source is None:
            continue
        target.mkdir(exist_ok=True)
        for path in (base_weights_path, weights_path):
            with replacing(path(task, target)) as partial:
                shutil.copyfile(path(task, source), partial)
        write_card(load_card(task, source), target)

"""Model cards: everything about shipped weights that is not a weight. Torch-free.

A model is three files side by side: the weights of the base, `BASE.safetensors`, all others, `NAME.safetensors`, and
the card, `NAME.json`. Below them may lie a second super-resolver, for compressed images.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pixeltier.models.atomic_files import replacing
from pixeltier.models.text_files import TextError, read_text

Task = Literal["classify", "super-resolve"]
FILE_NAMES: dict[str, str] = {"classify": "resnet18", "super-resolve": "srresnet_x4"}
BASE_FILE_NAMES: dict[str, str] = {"classify": "efficientnet_lite0", "super-resolve": "espan_x4"}
WEIGHTS = Path(__file__).parent / "weights"
LABELS_FILE = "labels.txt"
COMPRESSED = "compressed"
"""Below a directory of weights: a super-resolver for images that were compressed with loss, with a card of its own."""


class Difference(BaseModel):
    """How far a metric is from the exact tier's on the same images, with a 95 % interval (paired bootstrap)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class Expectation(BaseModel):
    """One point of the measured curve: what a threshold saves and how good the result still is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(ge=0, le=1)
    macs_saved: float
    metrics: dict[str, float]
    to_exact: dict[str, Difference] = Field(default_factory=dict)


class FeatureRanges(BaseModel):
    """Of each block of an EfficientNet-Lite what its two hidden features and its output span on photos; of the mean
    features their maximum.

    `missed`: what rounding takes from each channel of a block's output on average; its bias makes it good.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    expanded: tuple[float, ...]
    filtered: tuple[float, ...]
    output: tuple[tuple[float, float], ...]
    pooled: float
    missed: tuple[tuple[float, ...], ...] = ()


class Int8(BaseModel):
    """What the base needs to compute in int8, and the top-1 that this loses at worst among the measured thresholds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranges: FeatureRanges
    top1_loss: float | None = None
    loss_data: str = ""

    def allowed(self, most: float) -> bool:
        """Whether the loss was measured and is within a limit."""
        return self.top1_loss is not None and self.top1_loss <= most


class ModelCard(BaseModel):
    """A model's card. `calibration` holds the quantiles that turn importance logits into importance.

    `licence` is the SPDX expression of the weights (LicenseRef-NAME where the SPDX list has none; the packaged ones'
    stand in the distribution's metadata), `origin` what they were made from, with its terms; `base` names the file of
    the base's weights, whose licence is `base_licence`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    name: str
    version: str
    architecture: dict[str, int]
    window: int
    macs_dense_rule: str
    calibration: list[float]
    calibration_data: str
    expectations: list[Expectation]
    expectations_data: str
    training: dict[str, Any]
    licence: str
    base: str = ""
    base_licence: str = ""
    origin: str = ""
    int8: Int8 | None = None


def card_path(task: str, directory: Path | None = None) -> Path:
    """Where the card of a task lies; in the packaged weights unless a directory is given."""
    return (directory or WEIGHTS) / f"{FILE_NAMES[task]}.json"


def weights_path(task: str, directory: Path | None = None) -> Path:
    """Where the weights of a task lie, the base's apart."""
    return card_path(task, directory).with_suffix(".safetensors")


def base_weights_path(task: str, directory: Path | None = None) -> Path:
    """Where the weights of a task's base lie."""
    return (directory or WEIGHTS) / f"{BASE_FILE_NAMES[task]}.safetensors"


def compressed_directory(task: str, directory: Path | None = None) -> Path | None:
    """Where a task's weights for compressed images lie, None where there are none."""
    found = (directory or WEIGHTS) / COMPRESSED
    return found if card_path(task, found).is_file() else None


def load_card(task: str, directory: Path | None = None) -> ModelCard:
    """Read and check a card.

    Raises:
        FileNotFoundError: there is no card; the message says where it was looked for.
        pydantic.ValidationError: the card is malformed.
    """
    path = card_path(task, directory)
    if not path.is_file():
        raise FileNotFoundError(f"no model card at {path}: train one, or point to a directory that has it")
    return ModelCard.model_validate_json(path.read_bytes())


def write_card(card: ModelCard, directory: Path) -> Path:
    """Write a card whole or not at all."""
    path = card_path(card.task, directory)
    with replacing(path) as partial:
        partial.write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
    return path


def labels_path(directory: Path | None = None) -> Path:
    """The names of the classes, one a line: a directory's own where it has them, else those of ImageNet."""
    if directory is not None and (directory / LABELS_FILE).is_file():
        return directory / LABELS_FILE
    return WEIGHTS / "imagenet_classes.txt"


def load_labels(directory: Path | None = None) -> list[str]:
    """The names of the classes by index, as many as the classifier in the directory tells apart.

    Raises:
        ValueError: there are more or fewer names than classes, or none.
        FileNotFoundError: the directory has no card.
    """
    path = labels_path(directory)
    try:
        labels = read_text(path).splitlines()
    except TextError as error:
        raise TextError(f"{path}: {error}") from error
    classes = load_card("classify", directory).architecture.get("classes", 1000)
    if len(labels) != classes:
        raise ValueError(
            f"{path} names {len(labels)} classes, the classifier has {classes}: put one name a line into "
            f"{LABELS_FILE} beside its weights"
        )
    return labels

"""Model cards: everything about shipped weights that is not a weight. Torch-free.

A model is two files side by side, `NAME.safetensors` and `NAME.json`; the card is the latter.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["classify", "super-resolve"]
FILE_NAMES: dict[str, str] = {"classify": "resnet18", "super-resolve": "srresnet_x4"}
WEIGHTS = Path(__file__).parent / "weights"
LABELS_FILE = "labels.txt"


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


class ModelCard(BaseModel):
    """A model's card. `calibration` holds the quantiles that turn importance logits into importance."""

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


def card_path(task: str, directory: Path | None = None) -> Path:
    """Where the card of a task lies; in the packaged weights unless a directory is given."""
    return (directory or WEIGHTS) / f"{FILE_NAMES[task]}.json"


def weights_path(task: str, directory: Path | None = None) -> Path:
    """Where the weights of a task lie."""
    return card_path(task, directory).with_suffix(".safetensors")


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
    partial = path.with_suffix(".json.part")
    with partial.open("w") as file:
        file.write(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
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
    labels = path.read_text(encoding="utf-8").splitlines()
    classes = load_card("classify", directory).architecture.get("classes", 1000)
    if len(labels) != classes:
        raise ValueError(
            f"{path} names {len(labels)} classes, the classifier has {classes}: put one name a line into "
            f"{LABELS_FILE} beside its weights"
        )
    return labels

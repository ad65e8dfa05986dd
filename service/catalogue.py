"""What the front process knows of the models: cards and labels, no weights, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pixeltier.service.tasks import Task


class CurvePoint(Protocol):
    """One measured point; `pixeltier.models.cards.Expectation` has this shape."""

    @property
    def threshold(self) -> float: ...  # noqa: D102
    @property
    def macs_saved(self) -> float: ...  # noqa: D102
    @property
    def metrics(self) -> dict[str, float]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Model:
    """One model: the parts of its card that answers carry, and whole cards for `GET /v1/models`.

    `compressed_card`: of its weights for images that were compressed with loss.
    """

    task: Task
    name: str
    version: str
    window: int
    expectations: Sequence[CurvePoint]
    card: Mapping[str, Any]
    compressed_card: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Both models and the names of the classes."""

    models: Mapping[Task, Model]
    labels: Sequence[str]

    def label(self, index: int) -> str:
        """The name of a class, its number where it has none."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)


def load(weights_dir: Path | None = None) -> Catalogue:
    """Read the cards in a directory, or the packaged ones.

    Raises:
        FileNotFoundError, ValueError: no card, a malformed one, or another number of labels than of classes.
    """
    from pixeltier.models.cards import (  # not at the top: the client's half of the CLI needs no models
        compressed_directory,
        load_card,
        load_labels,
    )

    models = {}
    for task in Task:
        card = load_card(task.value, weights_dir)
        compressed = compressed_directory(task.value, weights_dir)
        models[task] = Model(
            task=task,
            name=card.name,
            version=card.version,
            window=card.window,
            expectations=card.expectations,
            card=card.model_dump(mode="json"),
            compressed_card=None
            if compressed is None
            else load_card(task.value, compressed).model_dump(mode="json"),
        )
    return Catalogue(MappingProxyType(models), load_labels(weights_dir))

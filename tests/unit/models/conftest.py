"""Weights for tests of `models`: random and small, so that no test depends on those that are shipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from pixeltier.models import cards, importing
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.evaluation import report
from pixeltier.models.networks import efficientnet_lite
from pixeltier.models.networks.classification import ClassificationShape
from tests.unit.models.networks import classification, photo_like, write_weights
from tests.unit.models.training import CLASSES, State


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with weights and cards of both tasks: a classifier of 1000 classes, a shallow super-resolver."""
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def classifier(weights: Path) -> Classifier:
    """The classifier of `weights`."""
    return Classifier.load(weights, "fp32")


@pytest.fixture(scope="session")
def resolver(weights: Path) -> SuperResolver:
    """The super-resolver of `weights`."""
    return SuperResolver.load(weights, "fp32")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Path]:
    """`weights` in place of the packaged ones, with ImageNet's labels."""
    directory = tmp_path_factory.mktemp("packaged")
    shutil.copytree(weights, directory, dirs_exist_ok=True)
    shutil.copyfile(cards.labels_path(), directory / "imagenet_classes.txt")
    with pytest.MonkeyPatch.context() as patch:
        for module in (cards, importing, report):
            patch.setattr(module, "WEIGHTS", directory)
        yield directory


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        Image.fromarray(photo_like(212, 200, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the classifier with few classes."""
    model = classification(ClassificationShape(classes=CLASSES))
    path = tmp_path_factory.mktemp("start") / "start.pt"
    torch.save({"ema": model.state_dict(), "shape": asdict(model.shape), "model": {}}, path)
    return path


@pytest.fixture(scope="module")
def start_state(start: Path) -> State:
    state: State = torch.load(start, weights_only=True)["ema"]
    return state


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """EfficientNet-Lite with few blocks and channels."""
    stages = ((1, 3, 1, 1, 16), (2, 3, 2, 2, 24), (1, 5, 2, 2, 32), (2, 3, 2, 2, 40), (1, 5, 2, 2, 48))
    monkeypatch.setattr(efficientnet_lite, "_STAGES", stages)
    monkeypatch.setattr(efficientnet_lite, "HEAD_CHANNELS", 64)

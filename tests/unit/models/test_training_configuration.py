"""Bad configurations of trainings are refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from pixeltier.models.networks.classification import ClassificationShape
from pixeltier.models.training import classify, super_resolve
from pixeltier.models.training.classify_config import ClassifyConfig
from pixeltier.models.training.super_resolve_config import SuperResolveConfig
from tests.unit.models.networks import classification
from tests.unit.models.training import (
    CLASSES,
    naming,
    upscaling,
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"dtype": "float33"}, "dtype 'float33' is unknown"),
        ({"shape": {"blockz": 3}}, "shape: .*blockz"),
        ({"min_keep": 0.6, "max_keep": 0.5}, "min_keep <= max_keep"),
        ({"exact_patches": 0}, "exact_patches"),
        ({"hints": ["somewhere"]}, "teacher"),
        ({"jpeg_quality": [90, 30]}, r"jpeg_quality is \[least, most\] between 1 and 100"),
        ({"jpeg_quality": [75]}, r"jpeg_quality is \[least, most\] between 1 and 100"),
        ({"loss": "l3"}, "loss 'l3' is unknown; known are l1, l2"),
        ({"photos": ["/nowhere"]}, "no JPEG"),
        ({"patch": 1000}, "larger photos"),
    ],
)
def test_a_bad_configuration_of_the_super_resolver_is_refused(
    tmp_path: Path, photos: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        super_resolve.train(upscaling(tmp_path, photos, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"dtype": "float33"}, "dtype 'float33' is unknown"),
        ({"shape": {"windoww": 3}}, "shape: .*windoww"),
        ({"shape": {"classes": 9}}, r"base\.fc\.bias is \(5,\) instead of \(9,\)|is \(5, .*instead of \(9, "),
        ({"min_keep": 0.0}, "min_keep <= max_keep"),
        ({"trained_layers": ["fc", "layer5"]}, "the refinement has no layer5"),
        ({"photos": []}, "nothing to train on"),
        ({"photos": ["/nowhere"]}, "no JPEG"),
        ({"teachers": "all"}, "teachers"),
        ({"start_weights": "/nowhere.pth"}, "no weights at /nowhere.pth"),
    ],
)
def test_a_bad_configuration_of_the_classifier_is_refused(
    tmp_path: Path, photos: Path, start: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        classify.train(naming(tmp_path, start, photos, **changes))
    assert not (tmp_path / "run").exists()


def test_a_base_that_does_not_answer_is_not_trained_on(tmp_path: Path, photos: Path) -> None:
    shape = ClassificationShape(CLASSES, base_classes=7, context=0, base_answers=0)
    model = classification(shape)
    torch.save({"ema": model.state_dict(), "shape": asdict(shape), "model": {}}, tmp_path / "start.pt")
    with pytest.raises(ValueError, match="import the network with photos"):
        classify.train(naming(tmp_path, tmp_path / "start.pt", photos))


def test_defaults_are_configurations() -> None:
    assert ClassifyConfig("a", "b").teachers == []
    assert SuperResolveConfig([], "b").hints == []

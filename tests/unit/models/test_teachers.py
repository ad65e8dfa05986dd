"""Teachers of the classifier, and the networks that do not learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixeltier.models.networks import efficientnet_lite, resnet18
from pixeltier.models.networks.classification import ClassificationNetwork, base_input
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape
from pixeltier.models.training import classify
from pixeltier.models.training.classify_config import TeacherConfig
from pixeltier.models.training.frozen_base import FrozenEfficientNetLite
from pixeltier.models.training.start import start_classification
from pixeltier.models.training.teachers import Teachers
from tests.unit.models.networks import as_images, lively, photo_like
from tests.unit.models.training import (
    CLASSES,
    naming,
    public_state,
    weights_of,
)


@pytest.mark.usefixtures("narrow")
def test_teachers_say_the_mean_of_what_each_says_at_its_size(tmp_path: Path) -> None:
    x = as_images(np.stack([photo_like(96, 96, seed) for seed in range(2)]))
    configs, said = [], []
    for index, (view, width, depth) in enumerate([(96, 1.0, 1.0), (64, 1.1, 1.2)]):
        shape = EfficientNetLiteShape(CLASSES, width, depth)
        state = public_state(shape, index)
        torch.save(state, tmp_path / f"{index}.pth")
        configs.append(TeacherConfig(str(tmp_path / f"{index}.pth"), view, width, depth))
        network = EfficientNetLite(shape)
        network.load_state_dict(efficientnet_lite.from_public(state, shape))
        seen = x if view == 96 else nn.functional.interpolate(x, (64, 64), mode="bilinear", antialias=True)
        with torch.no_grad():
            said.append(network(base_input(seen)).log_softmax(1))
    found = Teachers(configs, CLASSES)(x)
    torch.testing.assert_close(found, ((said[0] + said[1]) / 2).log_softmax(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2))
    assert not torch.allclose(said[0], said[1], atol=0.05)
    with pytest.raises(ValueError, match=r"0\.pth: .* \(7, 64\), got \(5, 64\)"):
        Teachers(configs, 7)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        Teachers([TeacherConfig(str(tmp_path / "absent.pth"))], CLASSES)


@pytest.mark.usefixtures("narrow")
def test_a_classifier_is_distilled_from_its_teachers(tmp_path: Path, photos: Path) -> None:
    """From a bare ResNet-18 and a public base: a few steps bring the answer nearer to the teacher's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet18, "STAGE_CHANNELS", (16, 32, 64, 128))
        refinement = ResNet18(ResNet18Shape(CLASSES, 0))
        lively(refinement)
        torch.save(refinement.state_dict(), tmp_path / "net.pth")
        for seed, name in enumerate(("base", "teacher")):
            torch.save(public_state(EfficientNetLiteShape(CLASSES), seed), tmp_path / f"{name}.pth")
        steps = 30
        config = naming(
            tmp_path,
            tmp_path / "net.pth",
            photos,
            base_weights=str(tmp_path / "base.pth"),
            steps=steps,
            learning_rate=1e-3,
            fitted_views=12,
            checkpoint_every=steps,
        )
        with config.open("a") as file:
            file.write(f'[[teachers]]\nweights = "{tmp_path / "teacher.pth"}"\n')
        before, fresh = start_classification(tmp_path / "net.pth", tmp_path / "base.pth", {})
        assert {name for name in fresh if name.startswith("refinement.")} == {
            "refinement.fuse.weight",
            "refinement.fuse.bias",
        }
        state = weights_of(classify.train(config))["model"]
        after = ClassificationNetwork(before.shape)
        after.load_state_dict(state)
        teacher = Teachers([TeacherConfig(str(tmp_path / "teacher.pth"))], CLASSES)
        x = as_images(np.stack([photo_like(224, 224, seed) for seed in range(4)]))
        with torch.no_grad():
            wanted = teacher(x)
            missed = [
                float(classify._divergence(wanted, model(x).log_softmax(1)).mean())
                for model in (before.eval(), after.eval())
            ]
    assert missed[1] < 0.5 * missed[0]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("side", [64, 75])
def test_a_frozen_network_says_what_the_network_says(side: int) -> None:
    network = EfficientNetLite(EfficientNetLiteShape(CLASSES))
    lively(network, 3)
    x = base_input(as_images(np.stack([photo_like(side, side, seed) for seed in range(2)])))
    with torch.no_grad():
        expected = network.all_features(x)
    for found, value in zip(FrozenEfficientNetLite(network)(x), expected, strict=True):
        assert value.std() > 0.01
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-3)

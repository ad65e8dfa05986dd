"""ResNet-18 from other libraries: batch norm folded, layers that a start lacks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from pixeltier.models.networks.classification import ClassificationShape
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm
from pixeltier.models.training.start import start_classification
from tests.unit.models.networks import classification
from tests.unit.models.training import (
    CLASSES,
)


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, state = _batch_norm_resnet()
    model = ResNet18(ResNet18Shape(1000, 0)).eval()
    model.load_state_dict(fold_batch_norm(state))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-3, atol=1e-3)
    del state["layer2.0.bn1.bias"]
    with pytest.raises(ValueError, match=r"layer2\.0\.bn1\.bias"):
        fold_batch_norm(state)


def test_what_a_start_lacks_changes_nothing(tmp_path: Path) -> None:
    """A residual branch without weights begins at zero, and the base's features are not taken in yet."""
    whole = classification(ClassificationShape(classes=CLASSES, context=0))
    state = whole.state_dict()
    bare = {name: value for name, value in state.items() if not name.startswith("refinement.layer4.1")}
    torch.save({"ema": bare, "shape": asdict(whole.shape), "model": {}}, tmp_path / "start.pt")
    model, fresh = start_classification(tmp_path / "start.pt", None, {"context": 1})
    assert {name for name in fresh if name.endswith("weight")} == {
        "refinement.layer4.1.conv1.weight",
        "refinement.layer4.1.conv2.weight",
        "refinement.fuse.weight",
    }
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(whole.refinement.layer4[1].conv2, name).zero_()
        x = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(model.eval()(x), whole(x))


def _batch_norm_resnet() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A ResNet-18 with batch norm and torchvision's names, as such checkpoints are."""

    class Block(torch.nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(outputs)
            self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride != 1:
                conv = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(outputs))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            identity = x if self.downsample is None else self.downsample(x)
            return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + identity).relu()

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(64)
            widths = [64, 64, 128, 256, 512]
            for stage in range(1, 5):
                first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
                setattr(
                    self, f"layer{stage}", torch.nn.Sequential(first, Block(widths[stage], widths[stage], 1))
                )
            self.fc = torch.nn.Linear(512, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    model = Plain()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval(), model.state_dict()

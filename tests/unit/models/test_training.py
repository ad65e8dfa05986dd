"""Training: the packed step equals the masked network, runs resume, a checkpoint becomes servable weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints import load_resnet18, load_srresnet
from models.engine import Classifier, SuperResolver
from models.networks.masks import expand_from_windows
from models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm
from models.networks.srresnet import SRResNet, SRResNetShape, deepen_from_seed
from models.training import classify, super_resolve
from models.training.export import calibrate
from models.training.loop import load_checkpoint
from models.training.packed import heavy_path_packed, unpack_pixels

SMALL = SRResNetShape(blocks=2, base_layers=2)


def test_packed_step_equals_the_masked_network() -> None:
    torch.manual_seed(0)
    model = SRResNet(SMALL).double()
    x = torch.rand(2, 3, 13, 18, dtype=torch.float64)
    mask = expand_from_windows(torch.rand(2, 1, 4, 5) > 0.5, 4, 13, 18)
    features, context, _ = model.light_path(x)
    masked = model.heavy_path(features, context, mask.double())
    pixels = heavy_path_packed(model, features, context, mask[:, 0], torch.float64)
    packed = unpack_pixels(pixels, mask[:, 0])
    torch.testing.assert_close(packed, masked)

    weights = torch.randn_like(masked)
    parameters = [p for n, p in model.named_parameters() if not n.startswith(("importance", "base_out"))]
    for a, b in zip(
        torch.autograd.grad((packed * weights).sum(), parameters, retain_graph=True),
        torch.autograd.grad((masked * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_deeper_base_starts_as_its_seed() -> None:
    torch.manual_seed(0)
    shallow = SRResNet(SMALL)
    seed = {
        name: value
        for name, value in shallow.state_dict().items()
        if not name.startswith(("importance", "fuse"))
    }
    deep = SRResNet(SRResNetShape(blocks=2, base_layers=5))
    deepen_from_seed(deep, seed)
    x = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(deep.light_path(x)[2], shallow.light_path(x)[2])
    with pytest.raises(ValueError, match="does not"):
        deepen_from_seed(SRResNet(SMALL), {**seed, "extra.weight": torch.zeros(1)})


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, state = _batch_norm_resnet()
    model = ResNet18(ResNet18Shape(classes=1000)).eval()
    model.load_state_dict(fold_batch_norm(state), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-3, atol=1e-3)
    del state["layer2.0.bn1.bias"]
    with pytest.raises(ValueError, match=r"layer2\.0\.bn1\.bias"):
        fold_batch_norm(state)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        small = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        small.resize((200, 212), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def test_training_resumes_and_its_checkpoint_can_be_served(tmp_path: Path, photos: Path) -> None:
    config = tmp_path / "config.toml"
    settings = (
        f'photos = ["{photos}"]\nout = "{tmp_path / "run"}"\npatch = 16\nexact_patches = 2\nsparse_patches = 2\n'
        "checkpoint_every = 2\nshape = {blocks = 1, base_layers = 1}\ndtype = 'float32'\n"
    )
    config.write_text(settings + "steps = 3\n")
    checkpoint = super_resolve.train(config)
    config.write_text(settings + "steps = 5\n")
    assert super_resolve.train(config) == checkpoint
    state = load_checkpoint(checkpoint)
    assert state is not None
    assert state["step"] == 5

    out = tmp_path / "weights"
    card = calibrate("super-resolve", checkpoint, sorted(photos.iterdir()), out, "0.0.1", "three photos")
    assert load_srresnet(out)[1] == card
    resolver = SuperResolver.load(out)
    assert resolver.upscale(np.zeros((5, 6, 3), np.uint8), 0.5).image.shape == (20, 24, 3)


def test_the_classifier_resumes_and_can_be_served(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    start, out = tmp_path / "start.pth", tmp_path / "run"
    torch.save(ResNet18(ResNet18Shape(classes=5, importance_channels=16)).state_dict(), start)
    config = tmp_path / "config.toml"
    settings = (
        f'start_weights = "{start}"\nphotos = ["{photos}"]\nout = "{out}"\nbatch = 3\nlearning_rate = 1e-3\n'
        "importance_only = 0.4\ndtype = 'float32'\nshape = {importance_channels = 16}\n"
    )
    config.write_text(settings + "steps = 2\n")
    checkpoint = classify.train(config)
    config.write_text(settings + "steps = 4\n")
    assert classify.train(config) == checkpoint
    state = load_checkpoint(checkpoint)
    assert state is not None
    assert state["step"] == 4
    before = torch.load(start, weights_only=True)
    moved = {name for name, value in state["model"].items() if not torch.equal(value, before[name])}
    assert {"layer1.0.conv1.weight", "layer4.1.conv2.weight", "importance.logit.weight"} <= moved

    out = tmp_path / "weights"
    card = calibrate("classify", checkpoint, sorted(photos.iterdir()), out, "0.0.1", "three photos")
    assert load_resnet18(out)[1] == card
    (found,) = Classifier.load(out).classify([np.zeros((224, 224, 3), np.uint8)], [0.5])
    assert found.probabilities.shape == (5,)


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('photos = []\nout = "x"\nstepz = 3\n')
    with pytest.raises(ValueError, match="stepz"):
        super_resolve.train(config)


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

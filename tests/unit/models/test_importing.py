"""`pixeltier import-weights`: what it writes can be served and trained on; what does not fit is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models.cards import load_card, load_labels
from models.checkpoints import load_resnet18, load_srresnet
from models.engine import Classifier
from models.images import classify_input
from models.networks.resnet18 import ResNet18, ResNet18Shape
from models.training.classify_photos import normalise
from models.training.loop import read_state, save_checkpoint
from models.training.start import start_resnet18
from service import catalogue
from service.cli import main
from service.tasks import Task
from service.worker import engine
from service.worker.self_check import self_check
from tests.images import photo

State = dict[str, Tensor]
CLASSES = 7


def batch_norm_state(classes: int) -> State:
    """A state dict with torchvision's names: random, but a network whose features stay in range."""
    random = torch.Generator().manual_seed(0)
    state: State = {}

    def layer(conv: str, norm: str, outputs: int, inputs: int, kernel: int, gain: float = 1.0) -> None:
        deviation = (2 / (inputs * kernel**2)) ** 0.5
        state[f"{conv}.weight"] = deviation * torch.randn(outputs, inputs, kernel, kernel, generator=random)
        state[f"{norm}.weight"] = gain * (0.5 + torch.rand(outputs, generator=random))
        state[f"{norm}.bias"] = 0.1 * torch.randn(outputs, generator=random)
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(outputs, generator=random)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=random)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    layer("conv1", "bn1", 64, 3, 7)
    inputs = 64
    for stage in range(1, 5):
        outputs = 32 << stage
        for block in range(2):
            name = f"layer{stage}.{block}"
            layer(f"{name}.conv1", f"{name}.bn1", outputs, inputs, 3)
            layer(f"{name}.conv2", f"{name}.bn2", outputs, outputs, 3, gain=0.3)
            if inputs != outputs:
                layer(f"{name}.downsample.0", f"{name}.downsample.1", outputs, inputs, 1)
            inputs = outputs
    state["fc.weight"] = 0.05 * torch.randn(classes, 512, generator=random)
    state["fc.bias"] = torch.zeros(classes)
    return state


def plain_resnet18(state: State, x: Tensor) -> Tensor:
    """The published network on such a state dict, batch norm and all."""

    def step(x: Tensor, conv: str, norm: str, stride: int, padding: int) -> Tensor:
        parts = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(F.conv2d(x, state[f"{conv}.weight"], None, stride, padding), *parts)

    x = F.max_pool2d(F.relu(step(x, "conv1", "bn1", 2, 3)), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = F.relu(step(x, f"{name}.conv1", f"{name}.bn1", stride, 1))
            inner = step(inner, f"{name}.conv2", f"{name}.bn2", 1, 1)
            if stride == 2:
                x = step(x, f"{name}.downsample.0", f"{name}.downsample.1", 2, 0)
            x = F.relu(x + inner)
    return F.linear(x.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.fixture(scope="module")
def state() -> State:
    return batch_norm_state(CLASSES)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for colour in range(2):
        photo(120, 90, colour).save(folder / f"{colour}.png")
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("".join(f"thing {index}\n" for index in range(CLASSES)))
    return path


def command(source: Path, out: Path, photos: Path, *more: str) -> list[str]:
    fixed = ["--model-version", "2026.12.1", "--licence", "BSD-3-Clause"]
    return ["import-weights", str(source), "--out", str(out), "--photos", str(photos), *fixed, *more]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, state: State, photos: Path, names: Path) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "net.pth")
    out = folder / "weights"
    assert main(command(folder / "net.pth", out, photos, "--labels", str(names))) == 0
    return out


def test_imported_weights_are_the_network_they_came_from(imported: Path, state: State) -> None:
    image = classify_input(photo(300, 260, 2))
    (result,) = Classifier.load(imported, "fp32").classify([image], [0.0])
    wanted = plain_resnet18(state, normalise(image[None])).softmax(1)[0].numpy()
    np.testing.assert_allclose(result.probabilities, wanted, atol=5e-3)  # the weights are stored in float16
    assert result.probabilities.argmax() == wanted.argmax()
    model, _ = load_resnet18(imported)
    packaged, _ = load_resnet18()
    for name, value in packaged.importance.state_dict().items():
        torch.testing.assert_close(model.importance.state_dict()[name], value)


def test_imported_weights_can_be_served(imported: Path) -> None:
    found = catalogue.load(imported)
    assert list(found.labels) == [f"thing {index}" for index in range(CLASSES)]
    assert found.models[Task.CLASSIFY].version == "2026.12.1"
    loaded = engine.load(str(imported), "fp32")
    self_check(loaded)
    assert load_srresnet(imported)[1] == load_card("super-resolve")


def test_the_card_says_what_it_is(imported: Path) -> None:
    card = load_card("classify", imported)
    assert card.architecture["classes"] == CLASSES
    assert card.licence == "BSD-3-Clause"
    assert card.expectations == []
    assert "trained on another backbone" in card.training["note"]
    assert "pixeltier train classify" in card.training["note"]
    assert card.calibration == sorted(card.calibration)
    assert card.calibration != load_card("classify").calibration


def test_labels_must_be_as_many_as_classes(
    tmp_path: Path, state: State, photos: Path, capsys: pytest.CaptureFixture[str], imported: Path
) -> None:
    source = tmp_path / "net.safetensors"
    save_file(state, source)
    assert main(command(source, tmp_path / "out", photos)) == 2
    assert "names 1000 classes, the network has 7: give --labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    assert main(command(source, tmp_path / "out", photos, "--labels", str(tmp_path / "few.txt"))) == 2
    assert "names 2 classes" in capsys.readouterr().err
    assert len(load_labels()) == 1000
    labels = imported / "labels.txt"
    kept = labels.read_text()
    try:
        labels.write_text("one\n")
        with pytest.raises(ValueError, match="names 1 classes, the classifier has 7"):
            catalogue.load(imported)
    finally:
        labels.write_text(kept)


def changed(state: State, name: str) -> State:
    other = dict(state)
    if name == "missing":
        del other["layer3.1.bn2.bias"]
    elif name == "deeper":
        other["layer2.2.conv1.weight"] = torch.zeros(128, 128, 3, 3)
    elif name == "wider":
        other["layer1.0.conv1.weight"] = torch.zeros(128, 64, 3, 3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            other[f"layer1.0.bn1.{part}"] = torch.ones(128)
    elif name == "infinite":
        other["fc.bias"] = torch.full((CLASSES,), 1e6)
    elif name == "ours":
        other["importance.near.weight"] = torch.zeros(1)
    return other


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "layer3.1.bn2.bias is missing"),
        ("deeper", "it has layer2.2.conv1.weight besides"),
        ("wider", "layer1.0.conv1.weight is (128, 64, 3, 3) instead of (64, 64, 3, 3)"),
        ("infinite", "fc.bias has values that are not finite"),
        ("ours", "has an importance network already"),
    ],
)
def test_what_is_no_resnet18_is_refused_by_name(
    tmp_path: Path,
    state: State,
    photos: Path,
    names: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: str,
) -> None:
    torch.save(changed(state, name), tmp_path / "net.pth")
    assert main(command(tmp_path / "net.pth", tmp_path / "out", photos, "--labels", str(names))) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unreadable_files_are_refused(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.pth").write_bytes(b"noise" * 100)
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 100)
    torch.save([1, 2], tmp_path / "list.pth")
    for name, words in {
        "noise.pth": "no state dict that can be read safely",
        "noise.safetensors": "no safetensors file",
        "list.pth": "holds no state dict",
        "absent.pth": "there are no weights",
    }.items():
        assert main(command(tmp_path / name, tmp_path / "out", photos)) == 2
        assert words in capsys.readouterr().err


def test_a_training_starts_from_each_form(imported: Path, state: State, tmp_path: Path) -> None:
    packaged, _ = load_resnet18()
    torch.save(state, tmp_path / "net.pth")
    whole = start_resnet18(imported, {})
    assert whole.shape == ResNet18Shape(**load_card("classify", imported).architecture)
    torch.testing.assert_close(whole.importance.near.weight, packaged.importance.near.weight)
    bare = start_resnet18(tmp_path / "net.pth", {"importance_channels": 16})
    assert (bare.shape.classes, bare.shape.importance_channels) == (CLASSES, 16)
    torch.testing.assert_close(
        bare.layer4[1].conv2.weight, whole.layer4[1].conv2.weight, rtol=1e-3, atol=1e-3
    )

    shape = {"classes": CLASSES, "importance_channels": 64, "window": 2}
    trained = ResNet18(ResNet18Shape(**shape))
    save_checkpoint(tmp_path / "checkpoint.pt", {"ema": trained.state_dict(), "shape": shape, "model": {}})
    again = start_resnet18(tmp_path / "checkpoint.pt", {})
    assert again.shape.window == 2
    torch.testing.assert_close(again.importance.logit.weight, trained.importance.logit.weight)
    with pytest.raises(ValueError, match=r"fc\.bias is \(7,\)"):
        start_resnet18(imported, {"classes": 10})
    assert set(read_state(imported, "super-resolve")) == set(load_srresnet()[0].state_dict())

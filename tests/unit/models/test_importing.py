"""`pixeltier import-weights`: what it writes can be served and trained on; what does not fit is refused by name."""

from __future__ import annotations

import colorsys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pixeltier.models.cards import load_card, load_labels
from pixeltier.models.checkpoints import load_classification, load_super_resolution
from pixeltier.models.engine import Classifier
from pixeltier.models.images import classify_input
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    ClassificationShape,
    refinement_input,
)
from pixeltier.models.training import fitting
from pixeltier.models.training.fitting import THRESHOLDS, fit_base, held_back, measure_agreement
from pixeltier.models.training.loop import read_state, save_checkpoint
from pixeltier.models.training.start import start_classification
from pixeltier.service import catalogue
from pixeltier.service.command_line.main import main
from pixeltier.service.tasks import Task
from pixeltier.service.worker import engine
from pixeltier.service.worker.runners import self_check
from tests.images import photo
from tests.unit.models.networks import as_images, card_of, classification

pytestmark = pytest.mark.usefixtures("packaged")
State = dict[str, Tensor]
CLASSES = 10
PHOTOS = 48


def picture(kind: int, seed: int) -> Image.Image:
    """Stripes of one of ten colours, of any width and direction, on a ground of any brightness."""
    random = np.random.default_rng((kind, seed))
    y, x = np.mgrid[0:96, 0:128]
    angle, period = random.uniform(0, np.pi), random.uniform(6, 20)
    stripes = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period) > random.uniform(-0.5, 0.2)
    hue = (kind + random.uniform(-0.2, 0.2)) / CLASSES
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 1, random.uniform(0.8, 1)))
    pixels = np.where(stripes[..., None], colour, random.uniform(60, 200))
    noisy = pixels + random.normal(0, 10, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def seen(kinds: list[int], first: int) -> list[np.ndarray]:
    """Pictures as the classifier sees them."""
    return [classify_input(picture(kind, first + index)) for index, kind in enumerate(kinds)]


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


def plain_features(state: State, x: Tensor) -> Tensor:
    """What the last layer of the published network reads, on such a state dict, batch norm and all."""

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
    return x.mean(dim=(2, 3))


@torch.inference_mode()
def plain_resnet18(state: State, images: list[np.ndarray]) -> Tensor:
    """The published network's logits of images as the classifier sees them."""
    features = plain_features(state, refinement_input(as_images(np.stack(images))))
    return F.linear(features, state["fc.weight"], state["fc.bias"])


@pytest.fixture(scope="module")
def state() -> State:
    """A network of ten classes that knows the colours: its last layer is fitted to them."""
    state = batch_norm_state(CLASSES)
    kinds = [index % CLASSES for index in range(80)]
    with torch.inference_mode():
        features = plain_features(state, refinement_input(as_images(np.stack(seen(kinds, 1000))))).double()
    wanted = 10 * F.one_hot(torch.tensor(kinds), CLASSES).double()
    mean = features.mean(0)
    centred = features - mean
    ridge = 1e-3 * centred.square().mean() * torch.eye(512, dtype=torch.float64)
    weight = torch.linalg.solve(centred.t() @ centred / 80 + ridge, centred.t() @ wanted / 80).t()
    state["fc.weight"], state["fc.bias"] = weight.float(), (wanted.mean(0) - weight @ mean).float()
    return state


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    kinds = np.random.default_rng(5).permutation([index % CLASSES for index in range(PHOTOS)]).tolist()
    for index, kind in enumerate(kinds):
        picture(kind, index).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("".join(f"thing {index}\n" for index in range(CLASSES)))
    return path


def command(source: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--model-version", "2026.12.1", "--licence", "BSD-3-Clause"]
    return ["import-weights", str(source), "--out", str(out), *fixed, *more]


def given(photos: Path, names: Path) -> list[str]:
    return ["--photos", str(photos), "--labels", str(names)]


@pytest.fixture(scope="module")
def fitted(
    packaged: Path, tmp_path_factory: pytest.TempPathFactory, state: State, photos: Path, names: Path
) -> Path:
    """Imported with photos."""
    folder = tmp_path_factory.mktemp("fitted")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "net.pth")
    out = folder / "weights"
    assert main(command(folder / "net.pth", out, *given(photos, names))) == 0
    return out


@pytest.fixture(scope="module")
def mapped(packaged: Path, tmp_path_factory: pytest.TempPathFactory, state: State, names: Path) -> Path:
    """Imported without photos."""
    folder = tmp_path_factory.mktemp("mapped")
    save_file(state, folder / "net.safetensors")
    out = folder / "weights"
    assert main(command(folder / "net.safetensors", out, "--labels", str(names))) == 0
    return out


@pytest.fixture(params=["fitted", "mapped"])
def imported(request: pytest.FixtureRequest) -> Path:
    """Either."""
    path: Path = request.getfixturevalue(request.param)
    return path


NEW = [index % CLASSES for index in range(40)]
"""Kinds of pictures that no import has seen."""


def test_the_exact_tier_is_the_network_it_came_from(imported: Path, state: State) -> None:
    images = seen(NEW[:6], 2000)
    results = Classifier.load(imported, "fp32").classify(images, [0.0] * 6)
    wanted = plain_resnet18(state, images).softmax(1).numpy()
    for result, expected in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result.probabilities, expected, atol=5e-3)  # stored in float16
        assert result.probabilities.argmax() == expected.argmax()
        assert result.active_share == 1.0


def test_the_fitted_base_agrees_with_the_network_on_new_photos(fitted: Path, state: State) -> None:
    images = seen(NEW, 3000)
    wanted = plain_resnet18(state, images).argmax(1).numpy()
    alone = Classifier.load(fitted, "fp32").base_alone(images)
    agreement = float(np.mean([one.probabilities.argmax() for one in alone] == wanted))
    commonest = np.bincount(wanted).max() / len(wanted)
    assert commonest < 0.3
    assert agreement > 0.7
    assert all(one.active_share == 0 for one in alone)


def test_a_fitted_base_comes_with_its_curve(fitted: Path) -> None:
    card = load_card("classify", fitted)
    assert [point.threshold for point in card.expectations] == list(THRESHOLDS)
    agreement = [point.metrics["agreement"] for point in card.expectations]
    saved = [point.macs_saved for point in card.expectations]
    assert agreement[0] == 1.0
    assert agreement[-1] > 0.5
    assert max(agreement) == agreement[0]
    assert saved == sorted(saved)
    model, _ = load_classification(fitted)
    base = model.base.shape.macs(224, 224) + 1280 * (CLASSES + 49) + 16 * 9
    dense = Classifier.load(fitted).classify([np.zeros((224, 224, 3), np.uint8)], [1.0])[0].macs_dense
    assert saved[0] == pytest.approx(-base / dense, abs=1e-4)
    assert saved[-1] == pytest.approx(1 - base / dense, abs=1e-4)
    assert "kept from the fit" in card.expectations_data


def test_the_curve_is_measured_on_photos_of_its_own(photos: Path) -> None:
    """Neither those that the base is fitted to nor those that its doubt is."""
    paths = sorted(photos.iterdir())
    read: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        original = fitting.read_classify_input

        def reading(path: Path) -> np.ndarray:
            read.append(path)
            return original(path)[::4, ::4]

        patch.setattr(fitting, "read_classify_input", reading)
        patch.setattr(fitting, "augmented", lambda path, _: reading(path))
        model = classification(ClassificationShape(CLASSES, context=0)).requires_grad_(True)
        fit_base(model, paths)
        used, read[:] = set(read), []
        found = measure_agreement(model.requires_grad_(False), card_of(model, [-3.0, 3.0]), paths)
    assert set(read) == set(held_back(paths)[1::2])
    assert not used & set(read)
    assert found[0].metrics == {"agreement": 1.0}


def test_a_curve_shows_a_base_that_knows_nothing(photos: Path) -> None:
    model = classification(ClassificationShape(CLASSES, context=0))
    with torch.no_grad():
        model.combination.base_weights.copy_(torch.linspace(1, 0, 5))
        model.combination.refinement_weights.copy_(torch.linspace(0, 1, 5))
        model.base.fc.bias.copy_(torch.arange(CLASSES) * 5.0)
        model.refinement.fc.bias.copy_(torch.arange(CLASSES) * -5.0)
    found = measure_agreement(model, card_of(model, [-3.0, 3.0]), sorted(photos.iterdir())[:10])
    agreement = [point.metrics["agreement"] for point in found]
    assert (agreement[0], agreement[-1]) == (1.0, 0.0)


def test_doubt_is_what_refining_gains() -> None:
    """Where the refinement says otherwise whenever the base is unsure, an unsure base doubts."""
    model = classification(ClassificationShape(CLASSES, context=0)).requires_grad_(True)
    generator = torch.Generator().manual_seed(3)

    def kept(count: int) -> tuple[fitting._Kept, Tensor]:
        pooled = torch.rand(count, 1280, generator=generator) * 8 * torch.rand(count, 1, generator=generator)
        with torch.no_grad():
            said = model.base.fc(pooled)
        sure = said.log_softmax(1).amax(1, keepdim=True).exp()
        other = torch.randn(count, CLASSES, generator=generator)
        wanted = torch.where(sure > 0.7, said, said + 2 * other).log_softmax(1)
        gain = F.kl_div(said.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)
        return fitting._Kept(pooled, wanted), gain

    fitting._fit_doubt(model, kept(300)[0])
    new, gain = kept(300)
    with torch.no_grad():
        doubt = model.importance.doubt(model.base.fc(new.pooled))
    assert 0.2 < float((gain > 0.1).float().mean()) < 0.8
    assert float(doubt[gain > 0.1].mean()) > float(doubt[gain <= 0.1].mean()) + 0.3
    order = torch.stack([gain, doubt]).argsort(1).argsort(1).double()
    assert float(torch.corrcoef(order)[0, 1]) > 0.6


def test_without_photos_the_base_draws_the_map_only(mapped: Path, state: State) -> None:
    card = load_card("classify", mapped)
    assert card.architecture["base_answers"] == 0
    assert card.architecture["base_classes"] == 1000
    assert card.expectations == []
    assert card.calibration_data == "none"
    assert "its answer is not used" in card.training["note"]
    assert "Import again with photos" in card.training["note"]
    classifier = Classifier.load(mapped, "fp32")
    images = seen(NEW[:4], 5000)
    half = classifier.classify(images, [0.5] * 4)
    assert 0.2 < np.mean([one.active_share for one in half]) < 0.8
    least = classifier.classify(images, [1.0] * 4)
    assert all(one.active_share > 0 for one in least)  # the best cell of each stage
    (alone,) = classifier.base_alone(images[:1])  # there is nothing else to answer with
    assert alone.active_share == least[0].active_share
    assert alone.probabilities.shape == (CLASSES,)


def test_imported_weights_can_be_served(imported: Path) -> None:
    found = catalogue.load(imported)
    assert list(found.labels) == [f"thing {index}" for index in range(CLASSES)]
    assert found.models[Task.CLASSIFY].version == "2026.12.1"
    loaded = engine.load(str(imported), "fp32")
    self_check(loaded)
    assert load_super_resolution(imported)[1] == load_card("super-resolve")


def test_the_card_says_what_it_is(fitted: Path) -> None:
    card = load_card("classify", fitted)
    assert card.architecture == asdict(ClassificationShape(CLASSES, context=0))
    assert card.licence == "BSD-3-Clause"
    assert "pixeltier train classify" in card.training["note"]
    assert card.training["source"] == "net.pth"
    assert card.calibration == sorted(card.calibration)
    assert card.calibration != load_card("classify").calibration
    assert card.calibration_data == f"{PHOTOS // 4} photos given at import"


def test_labels_must_be_as_many_as_classes(
    tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str], fitted: Path
) -> None:
    source = tmp_path / "net.safetensors"
    save_file(state, source)
    assert main(command(source, tmp_path / "out")) == 2
    assert "names 1000 classes, the network has 10: give --labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    assert main(command(source, tmp_path / "out", "--labels", str(tmp_path / "few.txt"))) == 2
    assert "names 2 classes" in capsys.readouterr().err
    assert len(load_labels()) == 1000
    labels = fitted / "labels.txt"
    kept = labels.read_text()
    try:
        labels.write_text("one\n")
        with pytest.raises(ValueError, match="names 1 classes, the classifier has 10"):
            catalogue.load(fitted)
    finally:
        labels.write_text(kept)


def test_too_few_photos_are_refused(
    tmp_path: Path, state: State, names: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(state, tmp_path / "net.safetensors")
    (tmp_path / "few").mkdir()
    photo(120, 90).save(tmp_path / "few" / "one.png")
    out = tmp_path / "out"
    assert main(command(tmp_path / "net.safetensors", out, *given(tmp_path / "few", names))) == 2
    assert "a base cannot be fitted on 1 photos: give hundreds" in capsys.readouterr().err
    assert not out.exists()


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
        other = {f"refinement.{part}": value for part, value in state.items()}
    return other


@pytest.mark.parametrize("with_photos", [True, False])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "layer3.1.bn2.bias is missing"),
        ("deeper", "it has layer2.2.conv1.weight besides"),
        ("wider", "layer1.0.conv1.weight is (128, 64, 3, 3) instead of (64, 64, 3, 3)"),
        ("infinite", "fc.bias has values that are not finite"),
        ("ours", "has a base already"),
    ],
)
def test_what_is_no_resnet18_is_refused_by_name(
    tmp_path: Path,
    state: State,
    photos: Path,
    names: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: str,
    with_photos: bool,
) -> None:
    def too_early(*_: object) -> None:
        raise AssertionError("nothing is fitted to what will be refused")

    monkeypatch.setattr("pixeltier.models.importing.fit_base", too_early)
    torch.save(changed(state, name), tmp_path / "net.pth")
    more = given(photos, names) if with_photos else ["--labels", str(names)]
    assert main(command(tmp_path / "net.pth", tmp_path / "out", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unreadable_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noise.pth").write_bytes(b"noise" * 100)
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 100)
    torch.save([1, 2], tmp_path / "list.pth")
    for name, words in {
        "noise.pth": "not a state dict that can be read safely",
        "noise.safetensors": "not a safetensors file",
        "list.pth": "does not hold a state dict",
        "absent.pth": "there are no weights",
    }.items():
        assert main(command(tmp_path / name, tmp_path / "out")) == 2
        assert words in capsys.readouterr().err


def test_a_training_starts_from_each_form(fitted: Path, state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "net.pth")
    whole, fresh = start_classification(fitted, None, {})
    assert whole.shape == ClassificationShape(**load_card("classify", fitted).architecture)
    assert fresh == frozenset()
    stored, _ = load_classification(fitted)
    torch.testing.assert_close(whole.state_dict(), stored.state_dict())
    wider, fresh = start_classification(
        fitted, None, {"context": 1}
    )  # it takes the base's features in from now on
    assert fresh == {"refinement.fuse.weight", "refinement.fuse.bias"}
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(wider.eval()(x), whole.eval()(x))
    with pytest.raises(
        ValueError, match=r"net\.pth does not fit the classifier: base\.stem\.weight is missing"
    ):
        start_classification(tmp_path / "net.pth", None, {})

    shape = ClassificationShape(classes=CLASSES, window=2)
    trained = ClassificationNetwork(shape)
    save_checkpoint(
        tmp_path / "checkpoint.pt", {"ema": trained.state_dict(), "shape": asdict(shape), "model": {}}
    )
    again, fresh = start_classification(tmp_path / "checkpoint.pt", None, {})
    assert again.shape == shape
    assert fresh == frozenset()
    torch.testing.assert_close(again.state_dict(), trained.state_dict())
    with pytest.raises(ValueError, match=r"is \(10,.* instead of \(12,"):
        start_classification(fitted, None, {"classes": 12})
    assert set(read_state(fitted, "super-resolve")) == set(load_super_resolution(fitted)[0].state_dict())

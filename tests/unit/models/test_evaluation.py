"""The arithmetic of an evaluation: intervals, oracles, counts from an ONNX graph, thresholds from shares."""

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from pixeltier.models import counting
from pixeltier.models.budgets import ImageCost
from pixeltier.models.calibration import KNOTS
from pixeltier.models.cards import Expectation, ModelCard
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.evaluation import classify, super_resolve
from pixeltier.models.evaluation.onnx_macs import OnnxGraph
from pixeltier.models.evaluation.plot import draw, point_style
from pixeltier.models.evaluation.points import Evaluation, Point, paired_bootstrap, rows
from pixeltier.models.evaluation.ranking import ranks
from pixeltier.models.evaluation.rivals import published
from pixeltier.models.evaluation.suggestion import as_toml, suggest
from pixeltier.models.images import read_classify_input
from pixeltier.models.networks.classification import ClassificationShape
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.results import Classification
from pixeltier.native import ops
from tests.unit.models.networks import (
    as_images,
    card_of,
    classification,
    classify_logits,
    knots_of,
    photo_like,
    super_resolution,
)


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    """A small network whose logits are spread over its calibration."""
    model = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1))
    with torch.inference_mode():
        logits = model.window_logits(model.base.features(as_images(picture(40, 56)[None])))
    knots = np.linspace(float(logits.min()), float(logits.max()), KNOTS).tolist()
    return SuperResolver(model, card_of(model, knots), "fp32")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    intervals = [paired_bootstrap(random.normal(0.5, 1.0, 60)) for _ in range(200)]
    covered = sum(one.low <= 0.5 <= one.high for one in intervals)
    assert 178 <= covered <= 199  # 95 % of 200, less what the percentile bootstrap is known to miss at 60
    assert paired_bootstrap(np.full(5, -0.25)).model_dump() == {"value": -0.25, "low": -0.25, "high": -0.25}
    one = random.normal(size=30)
    assert paired_bootstrap(one) == paired_bootstrap(one)


def test_differences_are_paired() -> None:
    hard = np.array([10.0, 40.0, 25.0, 60.0])
    macs = np.array([5, 5, 5, 5]), np.array([10, 10, 10, 10])
    exact = Point("exact", 0.0, *macs, {"psnr_y": hard})
    other = Point("fast", 0.5, *macs, {"psnr_y": hard - 0.1, "agreement": np.ones(4)})
    first, second = rows([exact, other], exact)
    assert first.to_exact == {}
    assert set(second.to_exact) == {"psnr_y"}
    assert second.to_exact["psnr_y"].low == pytest.approx(-0.1)
    assert second.to_exact["psnr_y"].high == pytest.approx(-0.1)
    assert second.macs_saved == 0.5


def test_ranks_order_windows_and_reach_neither_end() -> None:
    found = ranks(np.array([[3.0, -1.0], [0.5, 9.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.2], [0.4, 0.8]], rtol=1e-6)


def test_gain_is_where_the_refinement_helps() -> None:
    hr = picture(32, 40)
    base = hr.copy()
    base[16:32, 0:16] //= 2  # wrong in one window of 4 cells, right in all others
    gains = super_resolve.window_gains(hr, base, hr, window=4)
    assert gains.shape == (2, 3)
    assert gains[1, 0] > 0
    assert np.count_nonzero(gains) == 1
    assert np.all(super_resolve.window_gains(hr, hr, base, window=4) <= 0)
    border = hr.copy()
    border[:4] = 0
    assert not super_resolve.window_gains(hr, border, hr, window=4).any()


def test_a_map_of_ones_own_decides_what_is_computed(resolver: SuperResolver) -> None:
    image = picture(40, 56)
    nothing, everything = np.zeros((10, 14), np.float32), np.ones((10, 14), np.float32)
    exact = resolver.upscale(image, 0.0)
    assert np.array_equal(resolver.upscale(image, 1.0, everything).image, exact.image)
    base = resolver.upscale(image, 1.0, nothing)
    assert base.active_share == 0
    half = nothing.copy()
    half[:, :7] = 1
    result = resolver.upscale(image, 1.0, half)
    assert result.active_share == 0.5
    untouched = slice(112 + 4 * ops.COMPOSE_REACH, None)
    assert np.array_equal(result.image[:, untouched], base.image[:, untouched])
    assert not np.array_equal(result.image[:, :112], base.image[:, :112])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_oracle_spends_no_more(resolver: SuperResolver, threshold: float) -> None:
    image = picture(40, 56)
    learned = resolver.upscale(image, threshold).macs_executed
    windows = ranks(np.random.default_rng(1).normal(size=(10, 14)))
    spent = super_resolve._at_equal_macs(resolver, image, windows, learned).macs_executed
    assert spent <= learned
    one_window = resolver.cost(image, windows).macs.at(np.array([0.0, 1 / 141 + 1e-6], np.float32))
    assert learned - spent < one_window[0] - one_window[1]


def test_costs_are_what_runs(resolver: SuperResolver) -> None:
    image = picture(23, 31)
    count = resolver.cost(image).macs.at(np.array([0.0, 0.4, 1.0], np.float32))
    assert count.tolist() == [resolver.upscale(image, t).macs_executed for t in (0.0, 0.4, 1.0)]


class Falling:
    """A count that falls by ten at each tenth."""

    values = np.arange(0, 10, dtype=np.float32) / 10

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        return np.array([10 * int((self.values >= t).sum()) for t in thresholds], dtype=np.int64)


def test_suggested_thresholds_save_what_was_asked() -> None:
    costs = [ImageCost(Falling(), 100, Falling, 10) for _ in range(3)]
    found = suggest(costs, [0.3, 0.55, 0.0])
    assert [one.macs_saved for one in found] == pytest.approx([0.3, 0.6, 0.0])
    assert found[0].threshold == pytest.approx(
        0.2001
    )  # just above the third value: three windows are skipped
    assert suggest([ImageCost(Falling(), 100, Falling, 10)], [0.99])[0].macs_saved == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at most 50"):
        suggest([ImageCost(Falling(), 20, Falling, 10), *[ImageCost(Always(), 80, Falling, 10)]], [0.9])
    with pytest.raises(ValueError, match="no images"):
        suggest([], [0.5])


class Always:
    """A count that no threshold lowers: fifty."""

    values = np.array([0.5], dtype=np.float32)

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        return np.full(len(thresholds), 50, dtype=np.int64)


def test_suggestions_are_the_tier_tables_toml() -> None:
    found = suggest([ImageCost(Falling(), 100, Falling, 10)], [0.7, 0.3])
    table = tomllib.loads(as_toml("super-resolve", found, ["high", "fast"], "Set5"))
    assert [tier["name"] for tier in table["tiers"]] == ["high", "fast"]
    assert table["tiers"][0]["thresholds"]["super-resolve"] < table["tiers"][1]["thresholds"]["super-resolve"]
    unnamed = tomllib.loads(as_toml("classify", found, ["high"], "photos"))
    assert [tier["name"] for tier in unnamed["tiers"]] == ["saves-30", "saves-70"]


def test_published_figures_know_their_sets() -> None:
    assert {one.name: one.psnr_y for one in published("Set5")}["SRResNet (published)"] == 32.05
    assert published("B100") == published("BSD100")
    assert published("holiday") == []
    fsrcnn = next(one for one in published("Set14") if one.name.startswith("FSRCNN"))
    assert fsrcnn.macs_saved == pytest.approx(1 - 12_464 / counting.srresnet_dense())


def onnx_model(path: Path, middle: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]]) -> Path:
    image = helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["n", 3, "h", "w"])
    output = helper.make_tensor_value_info("hr", TensorProto.FLOAT, None)
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape, np.float32).ravel())
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(middle, "network", [image], [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_macs_of_an_onnx_graph(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["lr", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "b"], ["y"], group=4),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("ConvTranspose", ["z", "c"], ["hr"], strides=[4, 4], kernel_shape=[9, 9]),
    ]
    weights = {"a": (8, 3, 3, 3), "b": (8, 2, 1, 1), "c": (8, 1, 9, 9)}
    graph = OnnxGraph(onnx_model(tmp_path / "net.onnx", nodes, weights))
    assert graph.macs(5, 7) == 35 * (8 * 27 + 8 * 2 + 8 * 81)
    assert graph.macs(10, 7) == 2 * graph.macs(5, 7)


def test_onnx_graphs_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Einsum", ["lr"], ["hr"], equation="nchw->nhwc")
    with pytest.raises(ValueError, match="Einsum"):
        OnnxGraph(onnx_model(tmp_path / "net.onnx", [node], {})).macs(4, 4)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="not an ONNX model"):
        OnnxGraph(broken)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of photos, of which one split counts."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = ["path,class_index,split"]
    for seed in range(7):
        Image.fromarray(photo_like(96, 96, seed)).save(folder / f"{seed}.png")
        rows.append(f"{seed}.png,{seed % 5},{'train' if seed == 6 else 'val'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module", params=[1, 0], ids=["answering", "mapping"])
def tiny(request: pytest.FixtureRequest, labelled: Path) -> Classifier:
    """A classifier of five classes, calibrated on the photos; its base answers or draws the map only."""
    answers = request.param
    model = classification(ClassificationShape(5, 0 if answers else 7, context=answers, base_answers=answers))
    seen = np.stack([read_classify_input(labelled / f"{seed}.png") for seed in range(6)])
    return Classifier(model, card_of(model, knots_of(classify_logits(model, seen))), "fp32")


def answers_of(results: list[Classification], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities = np.stack([one.probabilities for one in results])
    return probabilities.argmax(1), probabilities[np.arange(len(labels)), labels]


def test_the_classifier_is_measured_as_defined(tiny: Classifier, labelled: Path) -> None:
    photos, labels = classify.labelled_photos(labelled / "labels.csv", labelled, "val")
    assert labels.tolist() == [0, 1, 2, 3, 4, 0]
    found = classify.evaluate(tiny, photos, labels, [("half", 0.5), (None, 1.0)], oracle=True)
    assert found.images == 6
    images = [read_classify_input(photo) for photo in photos]
    exact, _ = answers_of(tiny.classify(images, [0.0] * 6), labels)
    answering = tiny.card.architecture["base_answers"]
    for row, threshold in zip(found.learned, (0.5, 1.0), strict=True):
        results = tiny.classify(images, [threshold] * 6)
        first, _ = answers_of(results, labels)
        assert row.metrics["top1"] == pytest.approx(np.mean(first == labels))
        assert row.metrics["agreement"] == pytest.approx(np.mean(first == exact))
        assert row.metrics["top5"] == 1.0  # there are five classes
        executed, dense = (
            sum(getattr(one, name) for one in results) for name in ("macs_executed", "macs_dense")
        )
        assert row.macs_saved == pytest.approx(1 - executed / dense)
        assert row.to_exact["top1"].value == pytest.approx(
            np.mean(first == labels) - np.mean(exact == labels)
        )
    names = [row.name for row in found.rivals]
    assert names == (["base alone", "exact tier"] if answering else ["exact tier"])
    assert found.rivals[-1].metrics["agreement"] == 1.0
    if answering:
        base = found.rivals[0]
        first, _ = answers_of(tiny.base_alone(images), labels)
        assert base.metrics["top1"] == pytest.approx(np.mean(first == labels))
        assert base.macs_saved == pytest.approx(found.learned[1].macs_saved)
        assert base.metrics == found.learned[1].metrics  # a threshold of one leaves the base
    else:
        assert found.oracle == []


def test_the_oracle_refines_the_images_that_gain_most(labelled: Path) -> None:
    model = classification(ClassificationShape(5))
    photos, labels = classify.labelled_photos(labelled / "labels.csv", labelled, "val")
    images = [read_classify_input(photo) for photo in photos]
    knots = knots_of(classify_logits(model, np.stack(images)))
    tiny = Classifier(model, card_of(model, knots), "fp32")
    thresholds = (0.0, 0.4, 0.8, 1.0)
    found = classify.evaluate(tiny, photos, labels, [(None, one) for one in thresholds], oracle=True)
    _, by_base = answers_of(tiny.base_alone(images), labels)
    exact = tiny.classify(images, [0.0] * 6)
    _, by_exact = answers_of(exact, labels)
    gain = by_exact - by_base
    base_macs = tiny.base_alone(images[:1])[0].macs_executed
    extra = exact[0].macs_executed - base_macs
    for threshold, row, learned in zip(thresholds, found.oracle, found.learned, strict=True):
        spent = sum(one.macs_executed for one in tiny.classify(images, [threshold] * 6)) - 6 * base_macs
        count = min(spent // extra, int((gain > 0).sum()))
        best = set(np.argsort(-gain)[:count].tolist())
        refined, alone = (answers_of(results, labels)[0] for results in (exact, tiny.base_alone(images)))
        first = np.array([refined[i] if i in best else alone[i] for i in range(6)])
        assert row.metrics["top1"] == pytest.approx(np.mean(first == labels))
        assert learned.macs_saved is not None
        assert row.macs_saved is not None
        assert row.macs_saved >= learned.macs_saved
        assert row.macs_saved == pytest.approx(
            1 - (6 * base_macs + count * extra) / (6 * exact[0].macs_dense)
        )
    assert 0 < int((gain > 0).sum()) < 6


def test_costs_of_a_batch_are_what_runs(tiny: Classifier) -> None:
    images = [photo_like(224, 224, seed) for seed in range(2)]
    at = np.array([0.0, 0.5, 1.0], np.float32)
    counts = [cost.macs.at(at).tolist() for cost in tiny.costs(images)]
    runs = [tiny.classify(images, [float(threshold)] * 2) for threshold in at]
    assert counts == [[run[index].macs_executed for run in runs] for index in range(2)]


def test_tables_that_do_not_fit_are_refused(tmp_path: Path, tiny: Classifier, labelled: Path) -> None:
    photos = [labelled / "0.png"]
    with pytest.raises(ValueError, match="classes lie between 0 and 4, the table has 5 to 5"):
        classify.evaluate(tiny, photos, np.array([5]), [("exact", 0.0)])
    with pytest.raises(ValueError, match="no rows with split 'test'"):
        classify.labelled_photos(labelled / "labels.csv", labelled, "test")
    (tmp_path / "nameless.csv").write_text("file,class_index\na.png,1\n")
    with pytest.raises(ValueError, match="no column 'path'"):
        classify.labelled_photos(tmp_path / "nameless.csv", tmp_path, "val")
    (tmp_path / "classless.csv").write_text("path,kind\na.png,1\n")
    with pytest.raises(ValueError, match="no column 'class_index'"):
        classify.labelled_photos(tmp_path / "classless.csv", tmp_path, "val")
    assert len(classify.labelled_photos(labelled / "labels.csv", labelled, "all")[0]) == 7


def test_the_super_resolver_is_measured_beside_its_base(tmp_path: Path, resolver: SuperResolver) -> None:
    for name in ("HR", "LR_x4"):
        (tmp_path / "set5" / name).mkdir(parents=True)
    for seed in range(2):
        hr = Image.fromarray(photo_like(96, 130, seed))
        hr.save(tmp_path / "set5" / "HR" / f"{seed}.png")
        hr.resize((32, 24), Image.Resampling.BICUBIC).save(tmp_path / "set5" / "LR_x4" / f"{seed}x4.png")
    found = super_resolve.evaluate(resolver, tmp_path / "set5", [("half", 0.5), ("base", 1.0)], oracle=True)
    images = list(super_resolve.low_resolution_images(tmp_path / "set5"))
    always = resolver._network.base_macs + resolver._network.importance_macs
    dense = counting.srresnet_dense()
    rivals = {row.name: row for row in found.rivals}
    assert list(rivals)[:3] == ["bicubic", "base alone", "exact tier"]
    assert rivals["base alone"].macs_saved == pytest.approx(1 - always / dense)
    assert rivals["bicubic"].macs_saved == 1.0
    assert rivals["SRResNet (published)"].metrics == {"psnr_y": 32.05}
    half, base = found.learned
    assert base.macs_saved == rivals["base alone"].macs_saved
    assert base.metrics == rivals["base alone"].metrics
    executed = sum(resolver.upscale(image, 0.5).macs_executed for image in images)
    assert half.macs_saved == pytest.approx(1 - executed / (2 * 24 * 32 * dense))
    assert rivals["exact tier"].to_exact == {}
    for ours, best in zip(found.learned, found.oracle, strict=True):
        assert ours.macs_saved is not None
        assert best.macs_saved is not None
        assert best.macs_saved >= ours.macs_saved
    assert found.oracle[0].metrics["psnr_y"] > half.metrics["psnr_y"]
    (tmp_path / "set5" / "LR_x4" / "1x4.png").unlink()
    with pytest.raises(FileNotFoundError, match="2 HR and 1 LR_x4"):
        super_resolve.image_pairs(tmp_path / "set5")


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    macs = np.array([5, 5]), np.array([10, 10])
    exact = Point("exact", 0.0, np.array([10, 10]), macs[1], {"top1": np.ones(2), "top5": np.ones(2)})
    fast = Point("fast", 0.5, *macs, {"top1": np.array([0.0, 1.0]), "top5": np.ones(2)})
    found = Evaluation(2, rows([exact, fast], exact), rows([fast], exact), [])
    draw("classify", found, "two photos", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    with pytest.raises(ValueError, match="--plot writes"):
        draw("classify", found, "two photos", tmp_path / "curve.xls")


def test_no_two_rivals_look_alike() -> None:
    assert len({point_style(index) for index in range(56)}) == 56


def test_cards_without_intervals_still_load() -> None:
    point = Expectation(threshold=0.5, macs_saved=0.6, metrics={"top1": 0.7})
    card = card_of(classification(ClassificationShape(5)), [-1.0, 1.0], expectations=[point])
    stored = json.loads(card.model_dump_json())
    for one in stored["expectations"]:
        one.pop("to_exact")
    assert ModelCard.model_validate(stored).expectations[0].to_exact == {}

"""The arithmetic of an evaluation: intervals, oracles, counts from an ONNX graph, thresholds from shares."""

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from models import counting
from models.budgets import Budget, Cost
from models.calibration import KNOTS
from models.cards import ModelCard, load_card
from models.engine import Classification, Classifier, SuperResolver
from models.evaluation import super_resolve
from models.evaluation.classify import TrueClassEvidence
from models.evaluation.onnx_macs import OnnxGraph
from models.evaluation.plot import draw
from models.evaluation.points import Evaluation, Point, paired_bootstrap, rows
from models.evaluation.ranking import ranks
from models.evaluation.rivals import published
from models.evaluation.suggestion import as_toml, suggest
from models.networks.srresnet import SRResNet, SRResNetShape


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    """A tiny network whose heavy path does something, with logits spread over its calibration."""
    torch.manual_seed(0)
    shape = SRResNetShape(channels=64, blocks=1, base_channels=32, base_layers=1)
    model = SRResNet(shape).eval()
    architecture = {name: getattr(shape, name) for name in SRResNetShape.__dataclass_fields__}
    with torch.inference_mode():
        x = torch.from_numpy(picture(40, 56)).permute(2, 0, 1)[None].float() / 255
        logits = model.window_logits(model.light_path(x)[1])
    knots = np.linspace(float(logits.min()), float(logits.max()), KNOTS).tolist()
    card = load_card("super-resolve").model_copy(update={"architecture": architecture, "calibration": knots})
    return SuperResolver(model, card, "fp32")


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


def test_gain_is_where_the_heavy_path_helps() -> None:
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
    assert np.array_equal(result.image[:, 112:], base.image[:, 112:])
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
    costs = [Cost(Falling(), 100, Falling, 10) for _ in range(3)]
    found = suggest(costs, [0.3, 0.55, 0.0])
    assert [one.macs_saved for one in found] == pytest.approx([0.3, 0.6, 0.0])
    assert found[0].threshold == pytest.approx(
        0.2001
    )  # just above the third value: three windows are skipped
    assert suggest([Cost(Falling(), 100, Falling, 10)], [0.99])[0].macs_saved == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at most 50"):
        suggest([Cost(Falling(), 20, Falling, 10), *[Cost(Always(), 80, Falling, 10)]], [0.9])
    with pytest.raises(ValueError, match="no images"):
        suggest([], [0.5])


class Always:
    """A count that no threshold lowers: fifty."""

    values = np.array([0.5], dtype=np.float32)

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        return np.full(len(thresholds), 50, dtype=np.int64)


def test_suggestions_are_the_tier_tables_toml() -> None:
    found = suggest([Cost(Falling(), 100, Falling, 10)], [0.7, 0.3])
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
    with pytest.raises(ValueError, match="no ONNX model"):
        OnnxGraph(broken)


def test_the_classifiers_oracle_finds_evidence_and_keeps_to_the_macs() -> None:
    classifier = Classifier.load(precision="fp32")
    images = [picture(224, 224, seed) // 2 for seed in range(2)]
    maps = TrueClassEvidence(None)(images, np.array([3, 700]))
    assert [one.shape for one in maps] == [(14, 14), (14, 14)]
    assert not np.array_equal(maps[0], TrueClassEvidence(None)(images, np.array([4, 700]))[0])
    learned = classifier.classify(images, [0.5, 0.5])
    limits = [Budget(target_macs=one.macs_executed) for one in learned]
    for one, same in zip(classifier.classify_within(images, [0.0, 0.0], limits, maps), learned, strict=True):
        assert isinstance(one, Classification)
        assert 0.8 * same.macs_executed < one.macs_executed <= same.macs_executed
    counts = [cost.macs.at(np.array([0.5], np.float32))[0] for cost in classifier.costs(images)]
    assert counts == [one.macs_executed for one in learned]


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


def test_cards_without_intervals_still_load() -> None:
    stored = json.loads(load_card("classify").model_dump_json())
    for point in stored["expectations"]:
        point.pop("to_exact")
    assert ModelCard.model_validate(stored).expectations[0].to_exact == {}

"""MACs counted from a map are those the kernels report; a budget is met exactly, by the lowest threshold."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import budgets, counting
from models.budgets import Budget, CellMacs, ClassifyCount, Cost, Infeasible, SumOfCounts, TileMacs
from models.engine import Classifier, SuperResolver
from models.inference import tiles
from models.inference.resnet18 import SparseResNet18
from models.inference.srresnet import SparseSRResNet
from models.networks.masks import expand_from_windows
from models.networks.resnet18 import ResNet18, ResNet18Shape, stage_scores
from models.networks.srresnet import SRResNet, SRResNetShape
from native import ops
from tests.unit.models.test_engine import photo_like

THRESHOLDS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))


def a_map(seed: int, *size: int) -> torch.Tensor:
    """Random values of which many are equal, some 0 and some 1."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(1, 1, *size, generator=generator) * 12).round() / 12


@functools.cache
def small_classifier(window: int) -> SparseResNet18:
    torch.manual_seed(0)
    return SparseResNet18(ResNet18(ResNet18Shape(classes=5, window=window)).eval(), torch.float32)


@pytest.fixture(scope="module")
def heavy() -> SparseSRResNet:
    torch.manual_seed(0)
    return SparseSRResNet(SRResNet(SRResNetShape(blocks=1, base_layers=1)).eval(), torch.float32)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 30),
    window=st.sampled_from([1, 2, 4, 8]),
    threshold=THRESHOLDS,
    tail_cells=st.sampled_from([40, 200, 65_536]),
    seed=st.integers(0, 2**31),
)
def test_super_resolution_costs_what_its_map_says(
    heavy: SparseSRResNet, height: int, width: int, window: int, threshold: float, tail_cells: int, seed: int
) -> None:
    windows = a_map(seed, -(-height // window), -(-width // window))
    cells = expand_from_windows(windows, window, height, width)[:, 0].contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.inference.bands.TAIL_CELLS", tail_cells)
        light = heavy.light_path(torch.rand(1, 3, height, width))
        executed = heavy.heavy_path(light, ops.plan(cells, torch.tensor([threshold])), height, width)
        macs = CellMacs(7, heavy.body_macs, heavy.tail_macs)
        count = TileMacs(windows[0, 0].numpy(), height, width, window, macs)
        counted = count.at(np.array([threshold, 1.0, 0.0], np.float32))
    assert counted[0] == executed + 7 * height * width
    assert counted[1] <= counted[0] <= counted[2]


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    window=st.sampled_from([1, 2, 4, 8]),
    threshold=THRESHOLDS,
    seed=st.integers(0, 2**31),
)
def test_classification_costs_what_its_map_says(
    height: int, width: int, window: int, threshold: float, seed: int
) -> None:
    network = small_classifier(window)
    stem = network.stem(torch.randint(256, (1, height, width, 3), dtype=torch.uint8))
    rows, columns = stem.shape[-2:]
    windows = a_map(seed, -(-rows // window), -(-columns // window))
    run = network.run(stem, windows, torch.tensor([threshold]), (height, width))
    scores = [score[0, 0].numpy() for score in stage_scores(windows, window, rows, columns)]
    coarser = [score for stage, score in enumerate(scores) if 2**stage > window]
    fixed = network.fixed_macs(height, width)
    macs = tuple(counting.resnet18_cell(stage) for stage in range(4))
    parts = windows[0, 0].numpy(), coarser, rows, columns, window
    at = np.array([threshold], np.float32)
    assert ClassifyCount(*parts, macs, fixed).at(at).tolist() == run.macs
    active = ClassifyCount(*parts, (1, 1, 1, 1), 0).at(at).item() / sum(score.size for score in scores)
    assert active == pytest.approx(run.active_share[0])


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    floor=THRESHOLDS,
    share=st.floats(0, 1.2),
)
def test_the_lowest_threshold_that_fits_is_found(
    seed: int, size: tuple[int, int], floor: float, share: float
) -> None:
    parts = [TileMacs(a_map(seed + n, *size)[0, 0].numpy(), *size, 1, CellMacs(3, 11, 29)) for n in range(2)]
    count = SumOfCounts(parts, besides=5)
    dense = int(count.at(np.zeros(1, np.float32))[0])
    limit = int(share * dense)
    found = budgets.threshold_within(count, floor, limit)
    if found is None:
        assert int(count.at(np.ones(1, np.float32))[0]) > limit
        return
    assert floor <= found <= 1
    assert int(count.at(np.array([found], np.float32))[0]) <= limit
    below = np.nextafter(np.float32(found), np.float32(0))
    if found > floor and below >= np.float32(floor):
        assert int(count.at(np.array([below]))[0]) > limit


def test_nan_is_never_active() -> None:
    values = np.array([[np.nan, 0.5], [1.0, 0.2]], np.float32)
    count = TileMacs(values, 2, 2, 1, CellMacs(0, 1, 0))
    assert count.at(np.array([0.0, 0.5, 1.0], np.float32)).tolist() == [3, 2, 1]


def test_the_tightest_limit_holds() -> None:
    cells = np.linspace(0, 0.99, 100, dtype=np.float32).reshape(10, 10)
    macs = TileMacs(cells, 10, 10, 1, CellMacs(1, 9, 0))
    cost = Cost(macs, 1000, lambda: budgets.active_cells(cells, 1, (0, 10), (0, 10)), 100)

    def executed(budget: Budget, floor: float = 0.0) -> int:
        threshold = budget.threshold(cost, floor)
        assert threshold is not None
        return int(macs.at(np.array([threshold], np.float32))[0])

    assert executed(Budget()) == 1000
    assert executed(Budget(), 0.5) == 550
    assert executed(Budget(macs_ratio=0.46)) == 460
    assert executed(Budget(macs_ratio=0.9), 0.5) == 550
    assert executed(Budget(macs_ratio=0.9, target_macs=500)) == 496
    assert executed(Budget(macs_ratio=0.9, target_macs=500, active_share=0.2)) == 280
    assert executed(Budget(target_macs=1)) == 100  # a target, as near as it comes
    assert Budget(macs_ratio=0.05).threshold(cost, 0.0) is None
    assert cost.infeasible() == Infeasible(100, 1000)
    assert not Budget()
    assert Budget(active_share=0.1)


def test_a_histogram_counts_every_window() -> None:
    counts = budgets.histogram(np.array([[0.0, 0.049, 0.05], [0.999, 1.0, 0.5]], np.float32))
    assert len(counts) == 20
    assert (counts[0], counts[1], counts[10], counts[19]) == (2, 1, 1, 2)
    assert sum(counts) == 6


# ---- on the shipped weights ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    return SuperResolver.load()


@settings(max_examples=15, deadline=None)
@given(
    ratios=st.lists(st.one_of(st.none(), st.floats(0.02, 1.05)), min_size=1, max_size=3),
    floor=THRESHOLDS,
    seed=st.integers(0, 1000),
)
def test_a_batch_keeps_each_image_to_its_own_budget(
    classifier: Classifier, ratios: list[float | None], floor: float, seed: int
) -> None:
    images = [photo_like(224, 224, seed + n) for n in range(len(ratios))]
    limits = [Budget(macs_ratio=ratio) for ratio in ratios]
    results = classifier.classify_within(images, [floor] * len(images), limits)
    for ratio, result in zip(ratios, results, strict=True):
        if isinstance(result, Infeasible):
            assert ratio is not None
            assert result.macs_least > ratio * result.macs_dense
            continue
        assert result.threshold >= floor
        if ratio is None:
            assert result.threshold == floor
        else:
            assert result.macs_executed <= ratio * result.macs_dense
        lowest, highest = result.macs_curve[-1], result.macs_curve[0]
        assert lowest <= result.macs_executed <= highest


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    ratio=st.floats(0.02, 1.05),
    floor=THRESHOLDS,
    tile=st.sampled_from([24, 40, 1024]),
    seed=st.integers(0, 1000),
)
def test_super_resolution_never_exceeds_its_budget(
    resolver: SuperResolver, size: tuple[int, int], ratio: float, floor: float, tile: int, seed: int
) -> None:
    image = photo_like(*size, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=tile))
        result = resolver.upscale_within(image, floor, Budget(macs_ratio=ratio))
        if isinstance(result, Infeasible):
            assert result.macs_least > ratio * result.macs_dense
            return
        assert result.macs_executed <= ratio * result.macs_dense
        plain = resolver.upscale(image, result.threshold)
    np.testing.assert_array_equal(result.image, plain.image)
    assert plain.macs_curve == result.macs_curve
    assert plain.macs_executed <= result.macs_executed  # several tiles' maps are made twice


def test_a_curve_holds_the_cost_of_every_twentieth(resolver: SuperResolver, classifier: Classifier) -> None:
    image = photo_like(40, 33, 5)
    runs = [resolver.upscale(image, threshold) for threshold in budgets.CURVE_THRESHOLDS]
    assert runs[0].macs_curve == tuple(run.macs_executed for run in runs)
    seen = photo_like(224, 224, 6)
    named = [classifier.classify([seen], [threshold])[0] for threshold in budgets.CURVE_THRESHOLDS]
    assert named[0].macs_curve == tuple(run.macs_executed for run in named)


def test_infeasible_images_leave_the_batch(classifier: Classifier) -> None:
    images = [photo_like(224, 224, n) for n in range(3)]
    impossible = Budget(macs_ratio=0.001)
    results = classifier.classify_within(images, [0.5] * 3, [Budget(), impossible, Budget()])
    assert isinstance(results[1], Infeasible)
    for place in (0, 2):
        (alone,) = classifier.classify([images[place]], [0.5])
        kept = results[place]
        assert not isinstance(kept, Infeasible)
        assert kept.macs_executed == alone.macs_executed
        np.testing.assert_allclose(kept.probabilities, alone.probabilities, atol=2e-2)
    assert all(
        isinstance(one, Infeasible) for one in classifier.classify_within(images, [0.0] * 3, [impossible] * 3)
    )


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.01, 1.0), tile=st.sampled_from([24, 1024]), seed=st.integers(0, 1000))
def test_a_cap_on_the_active_share_holds(
    resolver: SuperResolver, classifier: Classifier, share: float, tile: int, seed: int
) -> None:
    budget = Budget(active_share=share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=tile))
        enlarged = resolver.upscale_within(photo_like(50, 41, seed), 0.0, budget)
    (named,) = classifier.classify_within([photo_like(224, 224, seed)], [0.0], [budget])
    for result in (enlarged, named):
        assert not isinstance(result, Infeasible)
        assert result.active_share <= share or result.threshold == 1.0

"""MACs counted from a map are those the kernels report; a budget is met exactly, by the lowest threshold."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixeltier.models import budgets
from pixeltier.models.budgets import CellMacs, ClassifyCount, ImageCost, SumOfCounts, TileMacs
from pixeltier.models.calibration import KNOTS
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.inference import tiles
from pixeltier.models.inference.backend import CpuBackend
from pixeltier.models.inference.super_resolution import SparseSuperResolution
from pixeltier.models.networks.classification import ClassificationShape, window_grid
from pixeltier.models.networks.masks import expand_from_windows
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.outcome import CURVE_THRESHOLDS, CostLimits, Infeasible
from pixeltier.models.results import Classification
from pixeltier.native import ops
from tests.unit.models.networks import card_of, classification, photo_like, super_resolution

THRESHOLDS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
SHAPES = [(1, 1), (2, 1), (4, 1), (8, 1), (4, 0)]
"""Windows of importance, and whether the base answers."""


def a_map(seed: int, *size: int) -> torch.Tensor:
    """Random values of which many are equal, some 0 and some 1; sometimes all are equal."""
    generator = torch.Generator().manual_seed(seed)
    if seed % 4 == 0:
        return torch.rand((), generator=generator).expand(1, 1, *size).clone()
    return (torch.rand(1, 1, *size, generator=generator) * 12).round() / 12


@pytest.fixture(scope="module")
def shallow() -> SparseSuperResolution:
    model = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1))
    return SparseSuperResolution(model, CpuBackend(torch.float32))


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
    shallow: SparseSuperResolution,
    height: int,
    width: int,
    window: int,
    threshold: float,
    tail_cells: int,
    seed: int,
) -> None:
    windows = a_map(seed, -(-height // window), -(-width // window))
    cells = expand_from_windows(windows, window, height, width)[:, 0].contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixeltier.models.inference.bands.TAIL_CELLS", tail_cells)
        answer = shallow.base(torch.rand(1, 3, height, width))
        executed = shallow.refine(answer, ops.plan(cells, torch.tensor([threshold])))
        macs = CellMacs(7, shallow.body_macs, shallow.tail_macs)
        count = TileMacs(windows[0, 0].numpy(), height, width, window, macs)
        counted = count.at(np.array([threshold, 1.0, 0.0], np.float32))
    assert counted[0] == executed + 7 * height * width
    assert counted[1] <= counted[0] <= counted[2]


@functools.cache
def small_classifier(window: int, answers: int) -> Classifier:
    """Of any size of images; its own maps are not used."""
    shape = ClassificationShape(classes=5, window=window, context=answers, base_answers=answers)
    model = classification(shape)
    return Classifier(model, card_of(model, np.linspace(-9, 9, KNOTS).tolist()), "fp32")


def with_map(
    classifier: Classifier, pixels: np.ndarray, windows: torch.Tensor, threshold: float
) -> Classification:
    (found,) = classifier.classify_within([pixels], [threshold], [CostLimits()], [windows[0, 0].numpy()])
    assert isinstance(found, Classification)
    return found


def cost_of(classifier: Classifier, pixels: np.ndarray, windows: torch.Tensor) -> ImageCost:
    (cost,) = classifier._costs(windows, torch.from_numpy(pixels)[None])
    return cost


@pytest.mark.parametrize(("window", "answers"), SHAPES)
@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    threshold=st.one_of(THRESHOLDS, st.none()),
    seed=st.integers(0, 2**31),
)
def test_classification_costs_what_its_map_says(
    window: int, answers: int, height: int, width: int, threshold: float | None, seed: int
) -> None:
    classifier = small_classifier(window, answers)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    windows = a_map(seed, *window_grid(height, width, window))
    cost = cost_of(classifier, pixels, windows)
    if threshold is None:  # just above a value, where the count falls
        values = cost.macs.values
        threshold = float(np.nextafter(values[seed % len(values)], np.float32(2)))
    found = with_map(classifier, pixels, windows, threshold)
    at = np.array([threshold], np.float32)
    assert cost.macs.at(at).tolist() == [found.macs_executed]
    assert cost.count_cells().at(at).item() / cost.cells == pytest.approx(found.active_share)


@pytest.mark.parametrize(("window", "answers"), SHAPES)
@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    pair=st.tuples(THRESHOLDS, THRESHOLDS),
    seed=st.integers(0, 2**31),
)
def test_counts_fall_with_the_threshold_and_end_at_the_base(
    window: int, answers: int, size: tuple[int, int], pair: tuple[float, float], seed: int
) -> None:
    classifier = small_classifier(window, answers)
    windows = a_map(seed, *window_grid(*size, window)).clamp(max=0.99)
    cost = cost_of(classifier, np.zeros((*size, 3), np.uint8), windows)
    low, high = sorted(pair)
    few, many, least, most = cost.macs.at(np.array([high, low, 1.0, 0.0], np.float32)).tolist()
    assert least <= few <= many <= most
    network = classifier._network
    base = network.base_macs(*size)
    if answers:
        assert least == base
    else:  # a cell of each stage
        assert least > base + network.image_macs(*size)
    context = 112 * 256 * -(-size[0] // 16) * -(-size[1] // 16) if answers else 0
    assert most == base + cost.macs_dense + context


def test_equal_windows_of_a_flat_image_are_skipped_together() -> None:
    """Averages of equal values may round to just above them; the last stage's cells alone are never refined."""
    classifier = small_classifier(1, 1)
    seen = 0
    for seed in range(200):
        windows = torch.rand(1, generator=torch.Generator().manual_seed(seed)).expand(1, 1, 7, 7).clone()
        cost = cost_of(classifier, np.zeros((28, 28, 3), np.uint8), windows)
        above = np.nextafter(windows.numpy().max(), np.float32(2))
        seen += int(cost.macs.values.max() > windows.max())
        assert cost.macs.at(np.array([above], np.float32)).item() == classifier._network.base_macs(28, 28)
    assert seen > 0


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
    classifier = small_classifier(4, 1)
    pixels = np.zeros((32, 32, 3), np.uint8)
    windows = torch.from_numpy(values)[None, None]
    for threshold in (0.0, 0.5, 1.0):
        found = with_map(classifier, pixels, windows, threshold)
        counted = cost_of(classifier, pixels, windows).macs.at(np.array([threshold], np.float32))
        assert counted.tolist() == [found.macs_executed]
        assert found.active_share > 0


def test_the_refinement_is_paid_for_once() -> None:
    windows = np.array([[0.1, 0.4]], np.float32)
    coarse = [np.array([[0.25]], np.float32)]
    count = ClassifyCount(windows, coarse, 4, 8, 4, (1, 10, 100, 1000), always=7, once=50_000)
    thresholds = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], np.float32)
    whole, half = 32 + 80 + 200, 16 + 40 + 100
    expected = [whole + 1000, whole + 1000, half + 1000, half, half]
    assert count.at(thresholds).tolist() == [7 + 50_000 + cells for cells in expected] + [7]
    kept = ClassifyCount(windows, coarse, 4, 8, 4, (1, 10, 100, 1000), 7, 50_000, keep_best=True)
    assert kept.at(thresholds).tolist() == [
        *(
            7 + 50_000 + cells
            for cells in [whole + 1000, whole + 1000, half + 1000, half + 1000, half + 1000]
        ),
        7 + 50_000 + 1111,
    ]


def test_the_tightest_limit_holds() -> None:
    cells = np.linspace(0, 0.99, 100, dtype=np.float32).reshape(10, 10)
    macs = TileMacs(cells, 10, 10, 1, CellMacs(1, 9, 0))
    cost = ImageCost(macs, 1000, lambda: budgets.active_cells(cells, 1, (0, 10), (0, 10)), 100)

    def executed(limits: CostLimits, floor: float = 0.0) -> int:
        threshold = cost.threshold(limits, floor)
        assert threshold is not None
        return int(macs.at(np.array([threshold], np.float32))[0])

    assert executed(CostLimits()) == 1000
    assert executed(CostLimits(), 0.5) == 550
    assert executed(CostLimits(macs_ratio=0.46)) == 460
    assert executed(CostLimits(macs_ratio=0.9), 0.5) == 550
    assert executed(CostLimits(macs_ratio=0.9, target_macs=500)) == 496
    assert executed(CostLimits(macs_ratio=0.9, target_macs=500, active_share=0.2)) == 280
    assert executed(CostLimits(target_macs=1)) == 100  # a target, as near as it comes
    assert cost.threshold(CostLimits(macs_ratio=0.05), 0.0) is None
    assert cost.infeasible() == Infeasible(100, 1000)
    assert not CostLimits()
    assert CostLimits(active_share=0.1)


def test_active_windows_are_those_that_reach_each_threshold() -> None:
    counts = budgets.active_windows(np.array([[0.0, 0.049, 0.05], [0.999, 1.0, np.nan]], np.float32))
    at = dict(zip(CURVE_THRESHOLDS, counts, strict=True))
    assert (at[0.0], at[0.05], at[0.1], at[0.9975], at[1.0]) == (5, 3, 2, 2, 1)


# ---- with maps of the networks' own --------------------------------------------------------------------


def base_ratio(classifier: Classifier) -> float:
    """What no threshold saves of a 224 x 224 image."""
    network = classifier._network
    return network.base_macs(224, 224) / network.dense_macs(224, 224)


@settings(max_examples=15, deadline=None)
@given(
    ratios=st.lists(st.one_of(st.none(), st.floats(0.02, 1.3)), min_size=1, max_size=3),
    floor=THRESHOLDS,
    seed=st.integers(0, 1000),
)
def test_a_batch_keeps_each_image_to_its_own_budget(
    classifier: Classifier, ratios: Sequence[float | None], floor: float, seed: int
) -> None:
    images = [photo_like(224, 224, seed + n) for n in range(len(ratios))]
    limits = [CostLimits(macs_ratio=ratio) for ratio in ratios]
    results = classifier.classify_within(images, [floor] * len(images), limits)
    least = classifier._network.base_macs(224, 224)
    for ratio, result in zip(ratios, results, strict=True):
        assert isinstance(result, Infeasible) == (
            ratio is not None and int(ratio * result.macs_dense) < least
        )
        if isinstance(result, Infeasible):
            assert result.macs_least == least
            continue
        assert result.threshold >= floor
        if ratio is None:
            assert result.threshold == floor
        else:
            assert result.macs_executed <= ratio * result.macs_dense
        lowest, highest = result.macs_curve[-1], result.macs_curve[0]
        assert least == lowest <= result.macs_executed <= highest


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    ratio=st.floats(0.02, 1.3),
    floor=THRESHOLDS,
    tile=st.sampled_from([24, 40, 1024]),
    seed=st.integers(0, 1000),
)
def test_super_resolution_never_exceeds_its_budget(
    resolver: SuperResolver, size: tuple[int, int], ratio: float, floor: float, tile: int, seed: int
) -> None:
    image = photo_like(*size, seed)
    network = resolver._network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixeltier.models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=tile))
        crops = list(tiles.split(*size, network.halo + ops.COMPOSE_REACH, 8, tile))
        cells = sum(crop.cells for crop in crops)
        least = cells * (network.base_macs * (2 if len(crops) > 1 else 1) + network.importance_macs)
        result = resolver.upscale_within(image, floor, CostLimits(macs_ratio=ratio))
        assert isinstance(result, Infeasible) == (int(ratio * result.macs_dense) < least)
        if isinstance(result, Infeasible):
            assert result.macs_least == least
            return
        assert least <= result.macs_executed <= ratio * result.macs_dense
        plain = resolver.upscale(image, result.threshold)
    np.testing.assert_array_equal(result.image, plain.image)
    assert plain.macs_curve == result.macs_curve
    again = network.base_macs * cells if len(crops) > 1 else 0
    assert plain.macs_executed == result.macs_executed - again  # several tiles' maps are made twice


@settings(max_examples=10, deadline=None)
@given(pair=st.tuples(THRESHOLDS, THRESHOLDS), seed=st.integers(0, 1000))
def test_raising_a_threshold_never_activates(
    resolver: SuperResolver, classifier: Classifier, pair: tuple[float, float], seed: int
) -> None:
    low, high = sorted(pair)
    for few, many in (
        [resolver.upscale(photo_like(44, 37, seed), threshold) for threshold in (high, low)],
        [classifier.classify([photo_like(224, 224, seed)], [threshold])[0] for threshold in (high, low)],
    ):
        assert few.macs_executed <= many.macs_executed
        assert few.active_share <= many.active_share
        np.testing.assert_array_equal(few.importance, many.importance)


def test_the_highest_threshold_is_the_base_alone(resolver: SuperResolver, classifier: Classifier) -> None:
    """Even of images beyond all that calibration has seen."""
    seen = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    enlarged = resolver.upscale(seen[:40, :40], 1.0)
    (named,) = classifier.classify([seen], [1.0])
    assert enlarged.active_share == named.active_share == 0
    (base,) = classifier.base_alone([seen])
    np.testing.assert_array_equal(named.probabilities, base.probabilities)
    assert named.macs_executed / named.macs_dense == pytest.approx(base_ratio(classifier))


def test_a_curve_holds_the_cost_of_every_twentieth(resolver: SuperResolver, classifier: Classifier) -> None:
    image = photo_like(40, 33, 5)
    runs = [resolver.upscale(image, threshold) for threshold in CURVE_THRESHOLDS]
    assert runs[0].macs_curve == tuple(run.macs_executed for run in runs)
    assert len(set(runs[0].macs_curve)) > 5
    seen = photo_like(224, 224, 1)
    named = [classifier.classify([seen], [threshold])[0] for threshold in CURVE_THRESHOLDS]
    assert named[0].macs_curve == tuple(run.macs_executed for run in named)
    assert len(set(named[0].macs_curve)) > 5


def test_infeasible_images_leave_the_batch(classifier: Classifier) -> None:
    images = [photo_like(224, 224, n) for n in range(3)]
    impossible = CostLimits(macs_ratio=0.001)
    results = classifier.classify_within(images, [0.5] * 3, [CostLimits(), impossible, CostLimits()])
    assert isinstance(results[1], Infeasible)
    for place in (0, 2):
        (alone,) = classifier.classify([images[place]], [0.5])
        kept = results[place]
        assert not isinstance(kept, Infeasible)
        assert kept.macs_executed == alone.macs_executed
        np.testing.assert_allclose(kept.probabilities, alone.probabilities, atol=1e-4)
    assert all(
        isinstance(one, Infeasible) for one in classifier.classify_within(images, [0.0] * 3, [impossible] * 3)
    )


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.01, 1.0), tile=st.sampled_from([24, 1024]), seed=st.integers(0, 1000))
def test_a_cap_on_the_active_share_holds(
    resolver: SuperResolver, classifier: Classifier, share: float, tile: int, seed: int
) -> None:
    budget = CostLimits(active_share=share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixeltier.models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=tile))
        enlarged = resolver.upscale_within(photo_like(50, 41, seed), 0.0, budget)
    (named,) = classifier.classify_within([photo_like(224, 224, seed)], [0.0], [budget])
    for result in (enlarged, named):
        assert not isinstance(result, Infeasible)
        assert result.active_share <= share

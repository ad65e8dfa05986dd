"""The inference path on native kernels gives what the plain torch networks give, at every threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixeltier.models import counting
from pixeltier.models.calibration import Calibration
from pixeltier.models.engine import Classifier
from pixeltier.models.inference.backend import CpuBackend
from pixeltier.models.inference.classification import RefinementPlan, SparseClassification
from pixeltier.models.inference.super_resolution import BaseImage, SparseSuperResolution
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    ClassificationShape,
    base_input,
    refinement_input,
    stage_masks,
    window_grid,
)
from pixeltier.models.networks.masks import expand_from_windows, threshold_mask
from pixeltier.models.networks.resnet18 import stage_scores
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.native import ops
from tests.unit.models.networks import (
    as_images,
    card_of,
    classification,
    classify_logits,
    composed,
    knots_of,
    super_resolution,
)

THRESHOLDS = [0.0, 0.3, 0.7, 0.95, 1.0]
ABOVE_ALL = 1.5


@pytest.fixture(scope="module")
def resolver() -> SuperResolutionNetwork:
    return super_resolution(SuperResolutionShape(base_blocks=2, blocks=3))


@pytest.fixture(scope="module")
def sparse_resolver(resolver: SuperResolutionNetwork) -> SparseSuperResolution:
    return SparseSuperResolution(resolver, CpuBackend(torch.float32))


def as_picture(answer: BaseImage) -> Tensor:
    """The pixels [H * W, 48] as [3, 4H, 4W]."""
    height, width = answer.x.shape[2:]
    cells = answer.base.pixels.view(height, width, 4, 4, 3)
    return cells.permute(4, 0, 2, 1, 3).reshape(3, 4 * height, 4 * width)


def random_windows(generator: torch.Generator, *size: int) -> Tensor:
    """Importance of which some values are equal, some 0 and some 1."""
    return (torch.rand(*size, generator=generator) * 12).round() / 12


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    threshold=st.one_of(st.sampled_from([*THRESHOLDS, ABOVE_ALL]), st.floats(0, 1, width=32)),
    seed=st.integers(0, 2**31),
)
def test_super_resolution_equals_masked_network(
    resolver: SuperResolutionNetwork,
    sparse_resolver: SparseSuperResolution,
    height: int,
    width: int,
    threshold: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 3, height, width, generator=generator)
    windows = random_windows(generator, 1, 1, -(-height // 4), -(-width // 4))
    limit = torch.tensor([threshold])
    mask = threshold_mask(windows, limit, keep_best=False)
    with torch.inference_mode():
        expected = resolver(x, mask)[0]

    answer = sparse_resolver.base(x)
    active = ops.plan(expand_from_windows(windows, 4, height, width)[:, 0].contiguous(), limit)
    macs = sparse_resolver.refine(answer, active)
    torch.testing.assert_close(as_picture(answer), expected, rtol=1e-4, atol=3e-5)
    wanted = composed(x, expected[None])[0]
    assert (sparse_resolver.image(answer).int() - wanted.int()).abs().max() <= 1
    cells = int(expand_from_windows(mask, 4, height, width).sum())
    assert macs == cells * (sparse_resolver.body_macs + sparse_resolver.tail_macs)


@pytest.mark.parametrize("window", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 13), (16, 9)])
def test_windows_are_as_important_as_the_network_says(size: tuple[int, int], window: int) -> None:
    model = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1, window=window))
    x = torch.rand(1, 3, *size)
    sparse = SparseSuperResolution(model, CpuBackend(torch.float32))
    with torch.inference_mode():
        expected = model.window_logits(model.base.features(x))
    assert expected.shape[2:] == (-(-size[0] // window), -(-size[1] // window))
    torch.testing.assert_close(sparse.window_logits(sparse.base(x)), expected, rtol=1e-4, atol=1e-5)


def test_nothing_active_is_the_base_alone(
    resolver: SuperResolutionNetwork, sparse_resolver: SparseSuperResolution
) -> None:
    x = torch.rand(1, 3, 12, 7)
    answer = sparse_resolver.base(x)
    assert sparse_resolver.refine(answer, torch.empty(0, dtype=torch.int32)) == 0
    with torch.inference_mode():
        base = resolver.base(x)[1][0]
        refined = resolver(x)[0]
    torch.testing.assert_close(as_picture(answer), base, rtol=1e-4, atol=3e-5)
    assert (refined - base).abs().mean() > 0.03  # else none of these tests sees the refinement


def test_super_resolution_counts_what_the_rule_says(
    resolver: SuperResolutionNetwork, sparse_resolver: SparseSuperResolution
) -> None:
    everything = ops.plan(torch.ones(1, 9, 10), torch.zeros(1))
    refined = sparse_resolver.refine(sparse_resolver.base(torch.rand(1, 3, 9, 10)), everything)
    assert refined == 90 * (counting.srresnet_dense(blocks=3) + counting.conv_macs(32, 64, 1))
    at_four, at_two = ("up2_act", "tail"), ("up2",)
    per_cell = 0
    for name, parameter in resolver.refinement.named_parameters():
        if parameter.ndim == 4:
            layer = name.split(".")[0]
            per_cell += parameter.numel() * (16 if layer in at_four else 4 if layer in at_two else 1)
    assert refined == 90 * per_cell
    base = sum(p.numel() for p in resolver.base.parameters() if p.ndim == 4)
    importance = sum(p.numel() for p in resolver.importance.parameters() if p.ndim == 4)
    assert (sparse_resolver.base_macs, sparse_resolver.importance_macs) == (base, importance)


def test_bands_of_a_large_image_change_nothing(
    sparse_resolver: SparseSuperResolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    x = torch.rand(1, 3, 61, 19)
    cells = expand_from_windows(torch.rand(1, 1, 16, 5), 4, 61, 19)[:, 0].contiguous()
    active = ops.plan(cells, torch.tensor([0.5]))
    whole, banded = sparse_resolver.base(x), sparse_resolver.base(x)
    macs = sparse_resolver.refine(whole, active)
    monkeypatch.setattr("pixeltier.models.inference.bands.TAIL_CELLS", 60)
    more = sparse_resolver.refine(banded, active)
    torch.testing.assert_close(whole.base.pixels, banded.base.pixels, rtol=0, atol=0)
    assert more > macs  # the halo's rows run twice


# ---- classification ------------------------------------------------------------------------------------

ANSWERING = [(1, 1), (2, 1), (4, 1), (8, 1), (4, 0)]


@pytest.fixture(scope="module", params=ANSWERING, ids=lambda pair: f"window{pair[0]}-context{pair[1]}")
def answering(request: pytest.FixtureRequest) -> tuple[ClassificationNetwork, SparseClassification]:
    """Networks whose base answers."""
    window, context = request.param
    model = classification(ClassificationShape(classes=11, window=window, context=context), seed=window)
    return model, SparseClassification(model, CpuBackend(torch.float32))


@pytest.fixture(scope="module", params=[0, 1], ids=["context0", "context1"])
def mapping(request: pytest.FixtureRequest) -> tuple[ClassificationNetwork, SparseClassification]:
    """Networks whose base draws the map only and knows other classes."""
    shape = ClassificationShape(classes=11, base_classes=17, context=request.param, base_answers=0)
    model = classification(shape)
    return model, SparseClassification(model, CpuBackend(torch.float32))


def spread_thresholds(kind: str, importance: Tensor, generator: torch.Generator) -> Tensor:
    """Of each image: a random one, one that nothing reaches, or one that everything does."""
    count = len(importance)
    if kind == "mixed":
        values = torch.rand(count, generator=generator)
        return torch.where(torch.arange(count) % 2 == 0, values, ABOVE_ALL)
    if kind == "at a value":  # the best window is just active
        return importance.flatten(1).amax(1)
    return {"random": torch.rand(count, generator=generator), "all": torch.zeros(count)}.get(
        kind, torch.full((count,), ABOVE_ALL)
    )


KINDS = ["random", "all", "none", "mixed", "at a value"]


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
)
def test_classification_equals_masked_network(
    answering: tuple[ClassificationNetwork, SparseClassification],
    count: int,
    height: int,
    width: int,
    kind: str,
    seed: int,
) -> None:
    model, sparse = answering
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    x = as_images(pixels.numpy())
    window = model.shape.window
    importance = random_windows(generator, count, 1, *window_grid(height, width, window))
    thresholds = spread_thresholds(kind, importance, generator)
    with torch.inference_mode():
        expected = model(x, importance, thresholds)

    answer = sparse.base(pixels)
    plan = RefinementPlan.of(importance, thresholds, refine_all=False)
    run = sparse.refine(pixels, answer, plan) if plan.places else None
    logits = sparse.combine(answer, plan, run)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)

    needed = [i for i in range(count) if bool((importance[i] >= thresholds[i]).any())]
    assert plan.places == needed
    assert (run is None) == (not needed)
    rows, columns = counting.resnet18_stage_sizes(height, width)[0]
    masks = stage_masks(importance, thresholds, window, rows, columns)
    of_image = counting.resnet18_image(height, width, 11, 112 if model.shape.context else 0)
    for place, index in enumerate(needed):
        assert run is not None
        counts = [int(mask[index].sum()) for mask in masks]
        cells = sum(number * counting.resnet18_cell(stage) for stage, number in enumerate(counts))
        assert run.macs[place] == of_image + cells
        assert run.active_share[place] == pytest.approx(sum(counts) / sum(mask[0].numel() for mask in masks))
    with torch.inference_mode():
        alone = model.base(base_input(x)).log_softmax(1)
    for index in set(range(count)) - set(needed):
        torch.testing.assert_close(logits[index], alone[index], rtol=1e-3, atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
)
def test_a_base_that_draws_the_map_only_has_no_say(
    mapping: tuple[ClassificationNetwork, SparseClassification],
    count: int,
    height: int,
    width: int,
    kind: str,
    seed: int,
) -> None:
    model, sparse = mapping
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    x = as_images(pixels.numpy())
    importance = random_windows(generator, count, 1, *window_grid(height, width, 4))
    thresholds = spread_thresholds(kind, importance, generator)
    rows, columns = counting.resnet18_stage_sizes(height, width)[0]
    scores = stage_scores(importance, 4, rows, columns)
    masks = [threshold_mask(score, thresholds, keep_best=True).float() for score in scores]
    with torch.inference_mode():
        context = model.base.all_features(base_input(x))[0] if model.shape.context else None
        expected = model.refinement(refinement_input(x), context, masks)

    answer = sparse.base(pixels)
    plan = RefinementPlan.of(importance, thresholds, refine_all=True)
    assert plan.places == list(range(count))
    run = sparse.refine(pixels, answer, plan)
    torch.testing.assert_close(sparse.combine(answer, plan, run), expected, rtol=1e-3, atol=1e-3)
    of_image = counting.resnet18_image(height, width, 11, 112 if model.shape.context else 0)
    for index in range(count):
        counts = [int(mask[index].sum()) for mask in masks]
        assert min(counts) >= 1
        cells = sum(number * counting.resnet18_cell(stage) for stage, number in enumerate(counts))
        assert run.macs[index] == of_image + cells


def test_a_map_of_other_classes_costs_what_those_take(
    mapping: tuple[ClassificationNetwork, SparseClassification],
) -> None:
    """The base's last layer, and the product of the answer with its weights, have the base's classes."""
    model, sparse = mapping
    cells = 2 * 3
    evidence = 1280 * (17 + cells) + 16 * 9
    assert sparse.base_macs(64, 96) == model.base.shape.macs(64, 96) + evidence
    assert model.base.shape.macs(64, 96) - replace(model.base.shape, classes=16).macs(64, 96) == 1280


def test_window_logits_are_the_networks(
    answering: tuple[ClassificationNetwork, SparseClassification],
) -> None:
    model, sparse = answering
    pixels = torch.randint(256, (3, 45, 70, 3), dtype=torch.uint8)
    expected = classify_logits(model, pixels.numpy())
    assert expected.shape == (3, 1, *window_grid(45, 70, model.shape.window))
    logits = sparse.window_logits(sparse.base(pixels), 45, 70)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.01


def test_exact_threshold_is_both_dense_networks(
    answering: tuple[ClassificationNetwork, SparseClassification],
) -> None:
    model, sparse = answering
    pixels = torch.randint(256, (2, 224, 224, 3), dtype=torch.uint8)
    importance = torch.rand(2, 1, *window_grid(224, 224, model.shape.window))
    answer = sparse.base(pixels)
    plan = RefinementPlan.of(importance, torch.zeros(2), refine_all=False)
    run = sparse.refine(pixels, answer, plan)
    with torch.inference_mode():
        expected = model(as_images(pixels.numpy()))
    torch.testing.assert_close(sparse.combine(answer, plan, run), expected, rtol=1e-3, atol=1e-3)
    dense = counting.resnet18_dense(224, 224, 11)
    fuse = 14 * 14 * 112 * 256 if model.shape.context else 0
    assert run.macs == [dense + fuse] * 2
    assert run.active_share == [1.0, 1.0]


@pytest.fixture
def engine_of(
    answering: tuple[ClassificationNetwork, SparseClassification],
) -> tuple[ClassificationNetwork, Classifier]:
    model, _ = answering
    seen = torch.randint(256, (4, 60, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return model, Classifier(model, card_of(model, knots_of(classify_logits(model, seen.numpy()))), "fp32")


def test_the_engine_refines_a_batch_as_the_network_does(
    engine_of: tuple[ClassificationNetwork, Classifier],
) -> None:
    model, engine = engine_of
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (4, 60, 52, 3), dtype=torch.uint8, generator=generator).numpy()
    importance = Calibration(engine.card.calibration)(classify_logits(model, pixels))
    # In the widest gap of each map, so that rounding decides nothing; the third image has no active window.
    values = importance.flatten(1).sort(1).values
    gap = values.diff(dim=1).argmax(dim=1, keepdim=True)
    thresholds = ((values.gather(1, gap) + values.gather(1, gap + 1)) / 2)[:, 0]
    thresholds[0], thresholds[2] = 0.0, 1.0
    results = engine.classify(list(pixels), thresholds.tolist())
    with torch.inference_mode():
        expected = model(as_images(pixels), importance, thresholds.where(thresholds < 1, 2.0)).softmax(1)
    for index, result in enumerate(results):
        torch.testing.assert_close(
            torch.from_numpy(result.probabilities), expected[index], rtol=1e-2, atol=1e-4
        )
        assert result.importance.shape == window_grid(60, 52, model.shape.window)
    assert results[0].active_share == 1.0
    assert results[2].active_share == 0.0
    assert results[2].macs_executed == min(result.macs_executed for result in results)
    assert 0 < results[1].active_share < 1


def test_dense_references_are_the_published_counts() -> None:
    assert counting.srresnet_dense() == 2_218_176
    assert round(counting.resnet18_dense(224, 224) / 1e9, 3) == 1.814

"""The networks' CUDA path gives what the plain torch networks give: on a GPU where there is one, else emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pixeltier.models import counting
from pixeltier.models.calibration import Calibration
from pixeltier.models.inference import bands
from pixeltier.models.inference.backend import CudaBackend
from pixeltier.models.inference.classification import RefinementPlan, SparseClassification
from pixeltier.models.inference.device import Graph, expand_windows
from pixeltier.models.inference.super_resolution import SparseSuperResolution
from pixeltier.models.networks import efficientnet_lite
from pixeltier.models.networks import resnet18 as resnet18_network
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    ClassificationShape,
    base_input,
    refinement_input,
    window_grid,
)
from pixeltier.models.networks.masks import expand_from_windows, threshold_mask
from pixeltier.models.networks.resnet18 import stage_scores
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.native import ops
from tests.unit.models import networks
from tests.unit.native.simt.fixtures import cuda, emulated, needs_compiler

__all__ = ["cuda", "emulated"]
HAS_GPU = torch.cuda.is_available() and ops.has_cuda()
on_a_gpu = pytest.mark.skipif(not HAS_GPU, reason="no CUDA device here, or a build without CUDA")
KNOTS = [float(v) for v in torch.linspace(-3, 3, 65)]
DTYPES = [pytest.param(torch.float32, marks=on_a_gpu), torch.bfloat16]
CONTEXT = 48
"""Channels of the base's features here, 16 pixels a cell."""


@pytest.fixture(
    params=[pytest.param("cpu", marks=needs_compiler, id="emulated"), pytest.param("cuda", marks=on_a_gpu)]
)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cpu":
        request.getfixturevalue("cuda").configure(multiprocessors=2)
    return torch.device(request.param)


@pytest.fixture(scope="module")
def resolver() -> SuperResolutionNetwork:
    shape = SuperResolutionShape(base_channels=8, base_blocks=1, importance_channels=8, channels=16, blocks=1)
    return networks.super_resolution(shape)


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    """A quarter of the channels and fewer blocks: emulation is slow."""
    stages = ((1, 3, 1, 1, 16), (1, 3, 2, 2, 24), (1, 5, 2, 2, 32), (1, 3, 2, 2, CONTEXT), (1, 5, 2, 2, 40))
    channels = (16, 32, 64, 128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite, "_STAGES", stages)
        patch.setattr(efficientnet_lite, "HEAD_CHANNELS", 64)
        patch.setattr(resnet18_network, "STAGE_CHANNELS", channels)
        yield


def model_of(context: int, answers: int) -> ClassificationNetwork:
    shape = ClassificationShape(
        classes=11, base_classes=0 if answers else 13, context=context, base_answers=answers
    )
    assert shape.base.context_channels == CONTEXT
    return networks.classification(shape)


def as_picture(pixels: torch.Tensor, count: int, height: int, width: int) -> torch.Tensor:
    cells = pixels.cpu().view(count, height, width, 4, 4, 3).permute(0, 5, 1, 3, 2, 4)
    return cells.reshape(count, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.1])
def test_super_resolution_equals_masked_network(device, resolver, threshold):
    height, width = 11, 9
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, height, width, generator=generator)
    windows = torch.rand(1, 1, 3, 3, generator=generator)
    mask = threshold_mask(windows, torch.tensor([threshold]), keep_best=False)
    expected = resolver(x, mask)

    network = SparseSuperResolution(resolver, CudaBackend(torch.float32, device, isa="cuda"))
    answer = network.base(x)
    logits = resolver.window_logits(resolver.base.features(x))
    torch.testing.assert_close(network.window_logits(answer).cpu(), logits, rtol=1e-4, atol=2e-5)
    cells = expand_from_windows(windows, 4, height, width)[:, 0].contiguous()
    active = ops.plan(cells.to(device), torch.tensor([threshold], device=device)).cpu()
    macs = network.refine(answer, active)
    torch.testing.assert_close(
        as_picture(answer.base.pixels, 1, height, width), expected, rtol=1e-4, atol=5e-5
    )
    wanted = networks.composed(x, expected)[0]
    assert (network.image(answer).int() - wanted.int()).abs().max() <= 1
    assert macs == int(mask.sum() > 0) * active.numel() * (network.body_macs + network.tail_macs)


def test_bands_of_a_large_image_change_nothing(device, resolver, monkeypatch):
    height, width = 40, 3
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    network = SparseSuperResolution(resolver, CudaBackend(torch.float32, device, isa="cuda"))
    active = torch.arange(4, height * width - 5, dtype=torch.int32)
    whole, banded, base = network.base(x), network.base(x), network.base(x)
    network.refine(whole, active)
    monkeypatch.setattr(bands, "TAIL_CELLS", 50)
    macs = network.refine(banded, active)
    torch.testing.assert_close(banded.base.pixels, whole.base.pixels, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(whole.base.pixels, base.base.pixels, atol=1e-2)
    assert macs > active.numel() * (network.body_macs + network.tail_macs)


def test_enlarging_a_batch_on_the_device_equals_one_by_one(device, resolver):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 10, 7, generator=generator)
    network = SparseSuperResolution(resolver, CudaBackend(torch.float32, device, isa="cuda"))
    calibrate = Calibration(KNOTS, device)
    maps = calibrate(network.window_logits(network.base(x))).cpu()
    thresholds = torch.stack([maps[0].min(), maps[1].median()])
    result = network.enlarge(x.to(device), thresholds.to(device), calibrate)
    for image in range(2):
        answer = network.base(x[image : image + 1])
        windows = calibrate(network.window_logits(answer))
        cells = expand_windows(windows, 4, 10, 7)
        active = ops.plan(cells, thresholds[image : image + 1].to(device)).cpu()
        network.refine(answer, active)
        alone = network.image(answer).int()
        assert int(result.counts[image]) == len(active)
        assert int((result.image[image].cpu().int() - alone).abs().max()) <= 1
    assert 0 < int(result.counts[1]) < int(result.counts[0]) == 70
    assert network.macs(140, int(result.counts.sum())) == 140 * (
        network.base_macs + network.importance_macs
    ) + int(result.counts.sum()) * (network.body_macs + network.tail_macs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("context", [1, 0])
@pytest.mark.parametrize("kind", ["mixed", "all", "none"])
def test_classification_equals_masked_network(device, dtype, context, kind):
    model = model_of(context, answers=1)
    pixels, importance, thresholds = some_images(kind)
    expected = model(networks.as_images(pixels.numpy()), importance, thresholds)
    network = SparseClassification(model, CudaBackend(dtype, device, isa="cuda"))
    answer = network.base(pixels)
    plan = RefinementPlan.of(importance, thresholds, refine_all=False)
    run = network.refine(pixels, answer, plan) if plan.places else None
    assert plan.places == {"mixed": [0, 2], "all": [0, 1, 2], "none": []}[kind]
    assert_near(network.combine(answer, plan, run), expected, dtype)
    if run is not None:
        masks = masks_of(importance, thresholds, keep_best=False)
        assert_costs(network, run, [masks_of_image(masks, place) for place in plan.places])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("context", [1, 0])
def test_a_base_that_draws_the_map_only_has_no_say(device, dtype, context):
    model = model_of(context, answers=0)
    pixels, importance, thresholds = some_images("mixed")
    x = networks.as_images(pixels.numpy())
    masks = masks_of(importance, thresholds, keep_best=True)
    taken = model.base.all_features(base_input(x))[0] if context else None
    expected = model.refinement(refinement_input(x), taken, [mask.float() for mask in masks])
    network = SparseClassification(model, CudaBackend(dtype, device, isa="cuda"))
    answer = network.base(pixels)
    plan = RefinementPlan.of(importance, thresholds, refine_all=True)
    run = network.refine(pixels, answer, plan)
    assert_near(network.combine(answer, plan, run), expected, dtype)
    assert_costs(network, run, [masks_of_image(masks, place) for place in range(3)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("answers", [1, 0])
def test_the_whole_way_on_the_device_equals_step_by_step(device, dtype, answers):
    model = model_of(context=1, answers=answers)
    pixels, _, _ = some_images("mixed")
    network = SparseClassification(model, CudaBackend(dtype, device, isa="cuda"))
    answer = network.base(pixels)
    importance = Calibration(KNOTS, device)(network.window_logits(answer, 40, 33))
    values = importance.flatten(1).sort(1).values.cpu()
    thresholds = torch.stack([torch.zeros(()), torch.tensor(2.0), (values[2, -2] + values[2, -3]) / 2])
    plan = RefinementPlan.of(importance.cpu(), thresholds, refine_all=not answers)
    run = network.refine(pixels, answer, plan)
    whole = network.classify(pixels.to(device), thresholds.to(device), Calibration(KNOTS, device))
    torch.testing.assert_close(whole.importance.cpu(), importance.cpu())
    torch.testing.assert_close(whole.logits.cpu(), network.combine(answer, plan, run), rtol=1e-3, atol=1e-3)
    masks = masks_of(importance.cpu(), thresholds, keep_best=not answers)
    assert whole.counts.tolist() == [mask.flatten(1).sum(1).tolist() for mask in masks]


def some_images(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three images of 40 x 33, importance of their windows, and thresholds: in the mixed kind the second has none."""
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(256, (3, 40, 33, 3), generator=generator, dtype=torch.uint8)
    importance = torch.rand(3, 1, *window_grid(40, 33, 4), generator=generator)
    thresholds = {"mixed": [0.0, 1.5, 0.6], "all": [0.0] * 3, "none": [1.5] * 3}[kind]
    return pixels, importance, torch.tensor(thresholds)


def masks_of(importance: torch.Tensor, thresholds: torch.Tensor, keep_best: bool) -> list[torch.Tensor]:
    scores = stage_scores(importance, 4, *counting.resnet18_stage_sizes(40, 33)[0])
    return [threshold_mask(score, thresholds, keep_best) for score in scores]


def masks_of_image(masks: list[torch.Tensor], index: int) -> list[torch.Tensor]:
    return [mask[index] for mask in masks]


def assert_near(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Within a share of how much the expected values differ among themselves."""
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    assert float((found.cpu() - expected).abs().max()) <= tolerance * float(expected.std())


def assert_costs(network, run, masks: list[list[torch.Tensor]]) -> None:
    cells = sum(h * w for h, w in counting.resnet18_stage_sizes(40, 33))
    for macs, share, of_image in zip(run.macs, run.active_share, masks, strict=True):
        counts = [int(mask.sum()) for mask in of_image]
        executed = sum(count * counting.resnet18_cell(stage) for stage, count in enumerate(counts))
        assert macs == network.image_macs(40, 33) + executed
        assert share == pytest.approx(sum(counts) / cells)


def test_whole_tables_hold_every_cell(device):
    table = CudaBackend(torch.float32, device).whole_map(2, 3, 4, 1)
    assert torch.equal(table.cpu(), torch.arange(24, dtype=torch.int32).view(-1, 1))
    assert CudaBackend(torch.float32, device).whole_map(2, 3, 4, 1, 2).shape == (8, 1)


@on_a_gpu
def test_a_captured_graph_equals_eager(resolver):
    device = torch.device("cuda")
    network = SparseSuperResolution(resolver, CudaBackend(torch.bfloat16, device))
    calibrate = Calibration(KNOTS, device)

    def enlarge(x: torch.Tensor, thresholds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = network.enlarge(x, thresholds, calibrate)
        return result.image, result.counts

    x = torch.rand(2, 3, 30, 41, device=device)
    graph = Graph(enlarge, x, torch.zeros(2, device=device))
    for threshold in (0.0, 0.5, 2.0):
        other = torch.rand_like(x)
        thresholds = torch.full((2,), threshold, device=device)
        image, counts = graph(other, thresholds)
        expected, expected_counts = enlarge(other, thresholds)
        assert torch.equal(counts, expected_counts)
        assert torch.equal(image, expected)


@on_a_gpu
@pytest.mark.parametrize("answers", [1, 0])
def test_a_captured_classification_equals_eager(answers):
    device = torch.device("cuda")
    network = SparseClassification(model_of(context=1, answers=answers), CudaBackend(torch.bfloat16, device))
    calibrate = Calibration(KNOTS, device)

    def classify(pixels: torch.Tensor, thresholds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = network.classify(pixels, thresholds, calibrate)
        return result.logits, result.counts

    pixels = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8, device=device)
    graph = Graph(classify, pixels, torch.zeros(2, device=device))
    for threshold in (0.0, 0.5, 2.0):
        other = torch.randint_like(pixels, 256)
        thresholds = torch.full((2,), threshold, device=device)
        logits, counts = graph(other, thresholds)
        expected, expected_counts = classify(other, thresholds)
        assert torch.equal(counts, expected_counts)
        torch.testing.assert_close(logits, expected)

"""The networks' CUDA path gives what the plain torch networks give: on a GPU where there is one, else emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models import counting
from models.calibration import Calibration
from models.inference import bands
from models.inference.device import Graph, expand_windows, whole_table
from models.inference.device_resnet18 import DeviceResNet18
from models.inference.device_srresnet import DeviceSRResNet
from models.networks import resnet18
from models.networks.masks import expand_from_windows, threshold_mask
from models.networks.resnet18 import ResNet18, ResNet18Shape, stage_scores
from models.networks.srresnet import SRResNet, SRResNetShape, upsample_bicubic
from models.training.classify_photos import normalise
from native import ops
from tests.unit.native.simt.fixtures import cuda, emulated, needs_compiler

__all__ = ["cuda", "emulated"]
HAS_GPU = torch.cuda.is_available() and ops.has_cuda()
on_a_gpu = pytest.mark.skipif(not HAS_GPU, reason="no CUDA device here, or a build without CUDA")
KNOTS = [float(v) for v in torch.linspace(-3, 3, 65)]


@pytest.fixture(
    params=[pytest.param("cpu", marks=needs_compiler, id="emulated"), pytest.param("cuda", marks=on_a_gpu)]
)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cpu":
        request.getfixturevalue("cuda").configure(multiprocessors=2)
    return torch.device(request.param)


@pytest.fixture(scope="module")
def resolver() -> SRResNet:
    torch.manual_seed(0)
    shape = SRResNetShape(channels=16, blocks=1, base_channels=8, base_layers=1, importance_channels=8)
    return SRResNet(shape).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def classifier() -> ResNet18:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:  # a quarter of the channels: emulation is slow
        patch.setattr(resnet18, "STAGE_CHANNELS", (16, 32, 64, 128))
        return ResNet18(ResNet18Shape(classes=11, importance_channels=16)).eval().requires_grad_(False)


def added_image(pixels: torch.Tensor, count: int, height: int, width: int) -> torch.Tensor:
    cells = pixels.cpu().view(count, height, width, 4, 4, 3).permute(0, 5, 1, 3, 2, 4)
    return cells.reshape(count, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.1])
def test_super_resolution_equals_masked_network(device, resolver, threshold):
    height, width = 11, 9
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, height, width, generator=generator)
    windows = torch.rand(1, 1, 3, 3, generator=generator)
    mask = threshold_mask(windows, torch.tensor([threshold]), keep_best=False)
    expected = resolver(x, mask) - upsample_bicubic(x)

    network = DeviceSRResNet(resolver, torch.float32, device, isa="cuda")
    light = network.light_path(x)
    cells = expand_from_windows(windows, 4, height, width)[:, 0].contiguous()
    active = ops.plan(cells.to(device), torch.tensor([threshold], device=device)).cpu()
    macs = network.heavy_path(light, active, height, width)
    torch.testing.assert_close(added_image(light.pixels, 1, height, width), expected, rtol=1e-4, atol=2e-5)
    assert macs == active.numel() * (network.body_macs + network.tail_macs)


def test_bands_of_a_large_image_change_nothing(device, resolver, monkeypatch):
    height, width = 40, 3
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    network = DeviceSRResNet(resolver, torch.float32, device, isa="cuda")
    active = torch.arange(4, height * width - 5, dtype=torch.int32)
    whole, banded = network.light_path(x), network.light_path(x)
    network.heavy_path(whole, active, height, width)
    monkeypatch.setattr(bands, "TAIL_CELLS", 50)
    macs = network.heavy_path(banded, active, height, width)
    torch.testing.assert_close(banded.pixels, whole.pixels, rtol=1e-6, atol=1e-6)
    assert macs > active.numel() * (network.body_macs + network.tail_macs)


def test_enlarging_a_batch_on_the_device_equals_one_by_one(device, resolver):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 10, 7, generator=generator)
    network = DeviceSRResNet(resolver, torch.float32, device, isa="cuda")
    calibrate = Calibration(KNOTS, device)
    maps = calibrate(network.window_logits(network.light_path(x))).cpu()
    thresholds = torch.stack([maps[0].min(), maps[1].median()])
    result = network.enlarge(x.to(device), thresholds.to(device), calibrate)
    for image in range(2):
        light = network.light_path(x[image : image + 1])
        windows = calibrate(network.window_logits(light))
        cells = expand_windows(windows, 4, 10, 7)
        active = ops.plan(cells, thresholds[image : image + 1].to(device)).cpu()
        network.heavy_path(light, active, 10, 7)
        alone = network.image(x, light).int()
        assert int(result.counts[image]) == len(active)
        assert int((result.image[image].cpu().int() - alone).abs().max()) <= 1
    assert 0 < int(result.counts[1]) < int(result.counts[0]) == 70


@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=on_a_gpu), torch.bfloat16])
def test_classification_equals_masked_network(device, classifier, dtype):
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(256, (2, 40, 33, 3), generator=generator, dtype=torch.uint8)
    thresholds = torch.tensor([0.0, 0.6])
    network = DeviceResNet18(classifier, dtype, device, isa="cuda")
    stem = network.stem(pixels)
    importance = Calibration(KNOTS)(network.window_logits(stem))
    run = network.run(stem, importance, thresholds, (40, 33))
    scores = stage_scores(importance, classifier.shape.window, *stem.shape[-2:])
    masks = [threshold_mask(score, thresholds, keep_best=True) for score in scores]
    expected = classifier(normalise(pixels.numpy()), [mask.float() for mask in masks])
    tolerance = 1e-4 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(
        run.logits, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )
    for image in range(2):
        counts = [int(mask[image].sum()) for mask in masks]
        executed = sum(count * counting.resnet18_cell(stage) for stage, count in enumerate(counts))
        assert run.macs[image] == network.fixed_macs(40, 33) + executed

    whole = network.classify(pixels.to(device), thresholds.to(device), Calibration(KNOTS, device))
    torch.testing.assert_close(whole.logits.cpu(), run.logits)


def test_whole_tables_hold_every_cell(device):
    table = whole_table(2, 3, 4, 1, device=device)
    assert torch.equal(table.cpu(), torch.arange(24, dtype=torch.int32).view(-1, 1))
    assert whole_table(2, 3, 4, 1, 2, device=device).shape == (8, 1)


@on_a_gpu
def test_a_captured_graph_equals_eager(resolver):
    device = torch.device("cuda")
    network = DeviceSRResNet(resolver, torch.bfloat16, device)
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

"""The inference path on native kernels gives what the plain torch networks give, at every threshold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import counting
from models.inference.resnet18 import SparseResNet18
from models.inference.srresnet import SparseSRResNet
from models.networks.masks import expand_from_windows, threshold_mask
from models.networks.resnet18 import ResNet18, ResNet18Shape, stage_scores
from models.networks.srresnet import SRResNet, SRResNetShape, upsample_bicubic
from models.training.classify_photos import normalise
from native import ops

THRESHOLDS = [0.0, 0.3, 0.7, 0.95, 1.0]


@pytest.fixture(scope="module")
def resolver() -> SRResNet:
    torch.manual_seed(0)
    model = SRResNet(SRResNetShape(blocks=3, base_layers=2)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def classifier() -> ResNet18:
    torch.manual_seed(0)
    model = ResNet18(ResNet18Shape(classes=11)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    threshold=st.sampled_from(THRESHOLDS),
    seed=st.integers(0, 2**31),
)
def test_super_resolution_equals_masked_network(
    resolver: SRResNet, height: int, width: int, threshold: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 3, height, width, generator=generator)
    windows = torch.rand(1, 1, -(-height // 4), -(-width // 4), generator=generator)
    mask = threshold_mask(windows, torch.tensor([threshold]), keep_best=False)
    with torch.inference_mode():
        expected = resolver(x, mask)

    sparse = SparseSRResNet(resolver, torch.float32)
    light = sparse.light_path(x)
    cells = expand_from_windows(windows, 4, height, width)[:, 0].contiguous()
    active = ops.plan(cells, torch.tensor([threshold]))
    sparse.heavy_path(light, active, height, width)
    added = light.pixels.view(height, width, 4, 4, 3).permute(4, 0, 2, 1, 3).reshape(3, 4 * height, 4 * width)
    torch.testing.assert_close(added, (expected - upsample_bicubic(x))[0], rtol=1e-4, atol=2e-5)
    composed = sparse.image(x, light)
    assert composed.shape == (4 * height, 4 * width, 3)
    wanted = (255 * expected[0].permute(1, 2, 0)).round().clamp(0, 255)
    assert (composed.float() - wanted).abs().max() <= 1


def test_super_resolution_counts_what_the_rule_says(resolver: SRResNet) -> None:
    sparse = SparseSRResNet(resolver, torch.float32)
    light = sparse.light_path(torch.rand(1, 3, 9, 10))
    everything = ops.plan(torch.ones(1, 9, 10), torch.zeros(1))
    heavy = sparse.heavy_path(light, everything, 9, 10)
    head = counting.conv_macs(3, 64, 9)
    fuse = counting.conv_macs(32, 64, 1)
    assert heavy == 90 * (counting.srresnet_dense(blocks=3) - head + fuse)


def test_bands_of_a_large_image_change_nothing(resolver: SRResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    x = torch.rand(1, 3, 61, 19)
    cells = expand_from_windows(torch.rand(1, 1, 16, 5), 4, 61, 19)[:, 0].contiguous()
    active = ops.plan(cells, torch.tensor([0.5]))
    sparse = SparseSRResNet(resolver, torch.float32)
    whole, banded = sparse.light_path(x), sparse.light_path(x)
    sparse.heavy_path(whole, active, 61, 19)
    monkeypatch.setattr("models.inference.bands.TAIL_CELLS", 60)
    sparse.heavy_path(banded, active, 61, 19)
    torch.testing.assert_close(whole.pixels, banded.pixels, rtol=0, atol=0)


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    window=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 2**31),
)
def test_classification_equals_masked_network(
    count: int, height: int, width: int, window: int, seed: int
) -> None:
    torch.manual_seed(seed % 1000)
    model = ResNet18(ResNet18Shape(classes=11, window=window)).eval().requires_grad_(False)
    pixels = torch.randint(256, (count, height, width, 3), dtype=torch.uint8)
    x = normalise(pixels.numpy())
    thresholds = torch.rand(count) * torch.tensor(1.2).clamp(max=1)
    sparse = SparseResNet18(model, torch.float32)
    stem = sparse.stem(pixels)
    rows, columns = stem.shape[2:]
    importance = torch.rand(count, 1, -(-rows // window), -(-columns // window))
    run = sparse.run(stem, importance, thresholds, (height, width))

    scores = stage_scores(importance, window, rows, columns)
    masks = [threshold_mask(score, thresholds, keep_best=True).float() for score in scores]
    with torch.inference_mode():
        expected = model(x, masks)
    torch.testing.assert_close(run.logits, expected, rtol=1e-3, atol=1e-4)
    for index in range(count):
        cells = sum(
            int(mask[index].sum()) * counting.resnet18_cell(stage) for stage, mask in enumerate(masks)
        )
        fixed = counting.resnet18_always(height, width, 11)
        fixed += counting.resnet18_importance(height, width, 64, window)
        assert run.macs[index] == cells + fixed


def test_exact_threshold_is_the_dense_network(classifier: ResNet18) -> None:
    torch.manual_seed(5)
    pixels = torch.randint(256, (2, 224, 224, 3), dtype=torch.uint8)
    x = normalise(pixels.numpy())
    sparse = SparseResNet18(classifier, torch.float32)
    stem = sparse.stem(pixels)
    importance = torch.rand(2, 1, 14, 14)
    run = sparse.run(stem, importance, torch.zeros(2), (224, 224))
    with torch.inference_mode():
        torch.testing.assert_close(run.logits, classifier(x), rtol=1e-3, atol=1e-4)
    dense = counting.resnet18_dense(224, 224, 11)
    assert run.macs == [dense + counting.resnet18_importance(224, 224, 64, 4)] * 2
    assert run.active_share == [1.0, 1.0]


def test_dense_references_are_the_published_counts() -> None:
    assert counting.srresnet_dense() == 2_218_176
    assert round(counting.resnet18_dense(224, 224) / 1e9, 3) == 1.814

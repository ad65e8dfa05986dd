"""EfficientNet-Lite on the native kernels equals the network in torch; in int8 it is near it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pixeltier.models.inference.efficientnet_lite import (
    ByteUnit,
    NativeEfficientNetLite,
    float_layers,
    pixel_levels,
)
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape
from pixeltier.models.quantization import Affine, feature_ranges, quantize
from pixeltier.native import mbconv_reference

SHAPES = [EfficientNetLiteShape(classes=50), EfficientNetLiteShape(classes=50, width=1.1, depth=1.2)]


def trained_like(shape: EfficientNetLiteShape) -> EfficientNetLite:
    """Weights under which features keep their size through the network and errors do not grow."""
    torch.manual_seed(0)
    network = EfficientNetLite(shape).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, module.weight[0].numel() ** -0.5)
            nn.init.uniform_(module.bias, -0.2, 0.8)  # type: ignore[arg-type]
    return network


def photos(count: int, height: int, width: int) -> Tensor:
    """Smooth ones with noise, uint8 [N, H, W, 3]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    noisy = 255 * smooth + 10 * torch.randn(smooth.shape, generator=generator)
    return noisy.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def normalised(pixels: Tensor) -> Tensor:
    return ((pixels.float() - 127) / 128).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("shape", "height", "width"),
    [(SHAPES[0], 224, 224), (SHAPES[0], 65, 47), (SHAPES[1], 96, 130)],
    ids=["lite0", "lite0 small", "lite2"],
)
def test_equals_the_network(shape, height, width):
    network, pixels = trained_like(shape), photos(1, height, width)
    answer = NativeEfficientNetLite(float_layers(network), shape.context_block)(pixels)
    context, features, logits = network.double().all_features(normalised(pixels).double())
    torch.testing.assert_close(answer.logits.double(), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer.features.double(), features, rtol=1e-4, atol=1e-4)
    rows = context.permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(answer.context[:-1].double(), rows, rtol=1e-4, atol=1e-4)
    assert not answer.context[-1].any()
    assert features.std() > 0.3  # neither all zero nor all six


def test_levels_are_the_normalisation():
    pixels = photos(1, 8, 8)
    assert torch.equal(pixel_levels()[0][pixels.long()].permute(0, 3, 1, 2), normalised(pixels))


def test_int8_is_near_the_network_and_exact_to_its_integers():
    network, pixels = trained_like(SHAPES[0]), photos(8, 96, 96)
    ranges = feature_ranges(network, [normalised(pixels[:3]), normalised(pixels[3:6])])
    layers = quantize(network, ranges)
    block = network.shape.context_block
    unit = ByteUnit(0.25, 3)
    answer = NativeEfficientNetLite(layers, block, unit=unit)(pixels[6:])
    logits = answer.logits
    expected_logits, expected_rows, expected_context = mbconv_reference.run(
        pixels[6:], layers, kept_block=block
    )
    assert torch.equal(logits, expected_logits)
    assert torch.equal(answer.features.permute(0, 2, 3, 1).flatten(0, 2), expected_rows[:-1])
    assert torch.equal(answer.context[:-1], 0.25 * (expected_context.float() - 3))
    exact = network(normalised(pixels[6:]))
    assert (logits - exact).norm() < 0.1 * (exact - exact.mean(dim=1, keepdim=True)).norm()


def test_what_rounding_misses_on_average_is_made_good() -> None:
    network, pixels = trained_like(SHAPES[0]), photos(12, 96, 96)
    ranges = feature_ranges(network, [normalised(pixels[:4]), normalised(pixels[4:8])])
    assert [len(channels) for channels in ranges.missed] == [
        block.project.out_channels for block in network.inverted_residuals
    ]
    other = pixels[8:]
    exact = NativeEfficientNetLite(float_layers(network))(other).features.mean(dim=(0, 2, 3))
    errors = []
    for found in (ranges, ranges.model_copy(update={"missed": ()})):
        rounded = NativeEfficientNetLite(quantize(network, found))(other).features.mean(dim=(0, 2, 3))
        errors.append(float((rounded - exact).abs().mean()))
    assert errors[0] < 0.6 * errors[1]


def test_ranges_are_means_of_each_photos_extremes():
    network, pixels = trained_like(SHAPES[0]), photos(3, 64, 64)
    together = feature_ranges(network, [normalised(pixels)])
    apart = [feature_ranges(network, [normalised(pixels[index : index + 1])]) for index in range(3)]
    assert together.pooled == pytest.approx(sum(one.pooled for one in apart) / 3, rel=1e-5)
    assert together.output[5][0] == pytest.approx(sum(one.output[5][0] for one in apart) / 3, rel=1e-4)
    assert len(together.output) == len(together.expanded) == len(together.filtered) == 16
    with pytest.raises(ValueError, match="at least one photo"):
        feature_ranges(network, [])


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_a_span_has_a_byte_for_zero_and_reaches_its_ends(low, high):
    affine = Affine.spanning(low, high)
    assert 0 <= affine.zero <= 255
    for value in (low, high):
        byte = min(255, max(0, round(value / affine.scale) + affine.zero))
        assert affine.scale * (byte - affine.zero) == pytest.approx(value, abs=affine.scale)

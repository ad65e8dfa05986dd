"""ESPAN against a sketch of it in torch.nn.functional, inference against the network, and its multiply-adds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier import native
from pixeltier.models import counting
from pixeltier.models.inference.espan import RowESPAN
from pixeltier.models.inference.image_convolution import LineConvolution
from pixeltier.models.networks.espan import ESPAN, ESPANShape, from_public


def public_state(blocks: int = 5, channels: int = 32) -> dict[str, Tensor]:
    """Random weights under the names of the published file."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def add(name: str, outputs: int, inputs: int, kernel: int) -> None:
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        state[f"{name}.weight"] = weight / (kernel * inputs**0.5)
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) / 4

    add("conv_1.eval_conv", channels, 3, 9)
    for block in range(1, blocks + 1):
        for layer in (1, 2, 3):
            add(f"block_{block}.c{layer}_r.eval_conv", channels, channels, 3)
    for layer in (1, 2):
        add(f"teacher_block_seq.c{layer}_r.eval_conv", channels, channels, 3)
    add("tea_conv_2.eval_conv", channels, channels, 3)
    add("tea_conv_cat", channels, 4 * channels, 1)
    add("tea_upsampler.0.eval_conv", 48, channels, 3)
    return state


def sketch(state: dict[str, Tensor], x: Tensor, blocks: int = 5) -> tuple[Tensor, Tensor]:
    """The network written down straight from its description."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[2] // 2)

    def block(name: str, layers: int, x: Tensor) -> Tensor:
        y = conv(f"{name}.c1_r.eval_conv", x)
        for layer in range(2, layers + 1):
            y = conv(f"{name}.c{layer}_r.eval_conv", y * torch.sigmoid(y))
        return (y + x) * (torch.sigmoid(y) - 0.5)

    head = conv("conv_1.eval_conv", x)
    first = out = block("block_1", 3, head)
    for number in range(2, blocks + 1):
        out = block(f"block_{number}", 3, out)
    last = block("teacher_block_seq", 2, out)
    joined = torch.cat([head, conv("tea_conv_2.eval_conv", last), first, last], dim=1)
    features = conv("tea_conv_cat", joined)
    return features, F.pixel_shuffle(conv("tea_upsampler.0.eval_conv", features), 4)


@pytest.mark.parametrize(("blocks", "channels"), [(5, 32), (2, 8)])
def test_equals_the_published_network(blocks, channels):
    state = public_state(blocks, channels)
    network = from_public(state)
    assert network.shape == ESPANShape(channels=channels, blocks=blocks)
    x = torch.rand(2, 3, 13, 18)
    with torch.no_grad():
        features, image = network(x)
        expected_features, expected_image = sketch(state, x, blocks)
    assert image.shape == (2, 3, 52, 72)
    torch.testing.assert_close(features, expected_features)
    torch.testing.assert_close(image, expected_image)


def test_macs_are_those_of_its_convolutions():
    network = ESPAN()
    weights = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert counting.espan() == weights == 191_584


def test_other_files_are_refused():
    state = public_state()
    with pytest.raises(ValueError, match=r"not a tensor of the published network: 'conv_9\.weight'"):
        from_public(state | {"conv_9.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="first convolution or its blocks are missing"):
        from_public({"conv_1.eval_conv.weight": state["conv_1.eval_conv.weight"]})
    del state["block_3.c2_r.eval_conv.bias"]
    with pytest.raises(RuntimeError, match=r"blocks\.2\.layers\.1\.bias"):
        from_public(state)


ISAS = native.available_isas()
# The way without Winograd's tiles, on AMX, is tested with its tiles in software.
EMULATED = ["amx_emulated"] if "avx512_bf16" in ISAS else []


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (13, 18), (32, 21)])
def test_inference_equals_the_network(isa, dtype, tolerance, height, width, monkeypatch):
    monkeypatch.setenv("PIXELTIER_ISA", isa)
    network = from_public(public_state())
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8)
    x = pixels.permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        features, image = network(x)
    base = RowESPAN(network, dtype)
    for result in (base(x), base(pixels)):
        assert result.macs == height * width * base.macs_per_cell == height * width * counting.espan()
        assert result.features.dtype == dtype
        assert not result.features[-1].any()
        rows = features[0].flatten(1).t()
        assert (result.features[:-1].float() - rows).norm() < tolerance * rows.norm()
        assert result.pixels.dtype == torch.float32
        cells = result.pixels.view(height, width, 4, 4, 3).permute(4, 0, 2, 1, 3)
        actual = cells.reshape(1, 3, 4 * height, 4 * width)
        assert (actual - image).norm() < tolerance * image.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_inference_is_the_same_on_any_number_of_threads(dtype):
    base, x = RowESPAN(from_public(public_state()), dtype), torch.rand(1, 3, 29, 34)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(base(x))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert torch.equal(result.features, results[0].features)
        assert torch.equal(result.pixels, results[0].pixels)


def test_the_refinement_reads_the_same_lines():
    torch.manual_seed(0)
    base, x = RowESPAN(from_public(public_state()), torch.float32), torch.rand(1, 3, 9, 12)
    head, slope = nn.Conv2d(3, 64, 9, padding=4), torch.rand(64)
    active = torch.tensor([0, 5, 50, 107], dtype=torch.int32)
    rows, macs = LineConvolution(head, slope, torch.float32).over(base(x).image, active)
    with torch.no_grad():
        expected = F.prelu(head(x), slope)[0].flatten(1).t()[active.long()]
    torch.testing.assert_close(rows[:-1], expected)
    assert macs == 4 * 15_552

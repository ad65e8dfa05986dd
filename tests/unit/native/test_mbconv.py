"""Networks of inverted residuals against plain torch: shapes, instruction sets, precisions, threads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier import native
from pixeltier.native import mbconv, mbconv_reference
from pixeltier.native.mbconv import Block, Layer, Network

ISAS = native.available_isas()
DTYPES = [torch.float32, torch.int8]
HEAD_SPREAD = 40  # of features in the head, as bytes would have it: most of 0 to 6 is reached
Draw = st.DataObject


def random_layer(generator: torch.Generator, dtype: torch.dtype, *size: int, extra: float = 0.0) -> Layer:
    """A layer of which inputs of 0 to 6, or bytes, make much the same."""
    terms = torch.Size(size[1:]).numel()
    if dtype == torch.float32:
        weight = torch.randn(size, generator=generator) / terms**0.5
        return Layer(weight, torch.rand(size[0], generator=generator))
    weight = torch.randint(-127, 128, size, generator=generator, dtype=torch.int8)
    scale = (0.5 + torch.rand(size[0], generator=generator)) / (60 * terms**0.5)
    return Layer(weight, 100 * torch.rand(size[0], generator=generator), scale, extra)


def random_network(
    generator: torch.Generator,
    dtype: torch.dtype,
    blocks: list[tuple[int, int, int, int]],
    head: int,
    classes: int,
) -> Network:
    """Blocks as hidden, outputs, kernel, stride."""
    made: list[Block] = []
    inputs = 3
    for hidden, outputs, kernel, stride in blocks:
        expansion = (hidden, 3, 3, 3) if not made else (hidden, inputs, 1, 1)
        made.append(
            Block(
                random_layer(generator, dtype, *expansion, extra=127.0),
                random_layer(generator, dtype, hidden, 1, kernel, kernel),
                random_layer(generator, dtype, outputs, hidden, 1, 1, extra=0.7),
                stride,
            )
        )
        inputs = outputs
    last = random_layer(generator, dtype, head, inputs, 1, 1)
    if last.scale is not None:
        last = replace(last, bias=last.bias / HEAD_SPREAD, scale=last.scale / HEAD_SPREAD)
    return Network(tuple(made), last, random_layer(generator, dtype, classes, head, extra=float(HEAD_SPREAD)))


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Of one to four blocks; in some the residual is added."""
    blocks: list[tuple[int, int, int, int]] = []
    kernels, strides, channels = st.sampled_from([3, 5]), st.sampled_from([1, 2]), st.integers(1, 40)
    for index in range(draw(st.integers(1, 4))):
        keep = index > 0 and draw(st.booleans())
        hidden = draw(channels)
        outputs = blocks[-1][1] if keep else draw(channels)
        if index == 0 and outputs == hidden:
            outputs += 1
        blocks.append((hidden, outputs, draw(kernels), 1 if keep else draw(strides)))
    return blocks


def random_pixels(generator: torch.Generator, images: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(256, (images, height, width, 3), generator=generator, dtype=torch.uint8)


def levels_for(network: Network) -> torch.Tensor | None:
    if network.dtype == torch.int8:
        return None
    return ((torch.arange(256.0) - 127) / 64).expand(3, 256).contiguous()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
@given(
    blocks=shapes(),
    grid=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 90)),
    head=st.integers(1, 40),
    classes=st.integers(1, 40),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_equals_its_definition(isa, dtype, blocks, grid, head, classes, threads, seed):
    generator = torch.Generator().manual_seed(seed)
    network = random_network(generator, dtype, blocks, head, classes)
    pixels, levels = random_pixels(generator, *grid), levels_for(network)
    torch.set_num_threads(threads)
    kept_block = seed % len(network.blocks)
    logits, features, kept = mbconv.run(pixels, mbconv.prepack(network, isa), levels, kept_block)
    expected_logits, expected_features, expected_kept = mbconv_reference.run(
        pixels, network, levels, kept_block
    )
    assert logits.dtype == features.dtype == torch.float32
    if dtype == torch.int8:
        assert torch.equal(features, expected_features)
        assert torch.equal(logits, expected_logits)
        assert torch.equal(kept, expected_kept.to(torch.uint8))
    else:
        torch.testing.assert_close(kept.double(), expected_kept, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(features.double(), expected_features, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits.double(), expected_logits, rtol=1e-5, atol=1e-5)


def middling(dtype: torch.dtype) -> tuple[torch.Generator, Network]:
    """A network with both of the ways to compute a block, and a stride in each."""
    generator = torch.Generator().manual_seed(3)
    blocks = [
        (32, 16, 3, 1),
        (96, 24, 3, 2),
        (144, 24, 5, 1),
        (144, 40, 5, 2),
        (240, 40, 3, 1),
        (240, 72, 3, 2),
    ]
    return generator, random_network(generator, dtype, blocks, 96, 20)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("images", [1, 3])
def test_is_the_same_on_any_number_of_threads(dtype, images):
    generator, network = middling(dtype)
    packed = mbconv.prepack(network)
    pixels = random_pixels(generator, images, 117, 126)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(mbconv.run(pixels, packed, levels_for(network), 2))
    for found in results[1:]:
        assert all(torch.equal(one, first) for one, first in zip(found, results[0], strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_image_does_not_depend_on_its_batch(dtype):
    generator, network = middling(dtype)
    packed, levels = mbconv.prepack(network), levels_for(network)
    pixels = random_pixels(generator, 5, 64, 80)
    together = mbconv.run(pixels, packed, levels)[0]
    for image, logits in zip(pixels, together, strict=True):
        assert torch.equal(mbconv.run(image[None], packed, levels)[0][0], logits)


def test_values_are_taken_in_place_of_bytes():
    generator, network = middling(torch.float32)
    packed, levels = mbconv.prepack(network), levels_for(network)
    pixels = random_pixels(generator, 2, 33, 47)
    assert levels is not None
    values = levels[0][pixels.long()]
    from_bytes, from_values = mbconv.run(pixels, packed, levels), mbconv.run(values, packed)
    assert torch.equal(from_bytes[0], from_values[0])
    assert torch.equal(from_bytes[1], from_values[1])


def test_a_nan_is_not_hidden_by_the_activation():
    generator, network = middling(torch.float32)
    values = torch.rand(1, 33, 47, 3, generator=generator)
    values[0, 16, 20, 1] = torch.nan
    for isa in ISAS:
        assert mbconv.run(values, mbconv.prepack(network, isa))[0].isnan().all()


@pytest.mark.parametrize("isa", ISAS)
def test_bytes_saturate(isa):
    """The largest sums there are, and results far beyond a byte at both ends."""
    generator = torch.Generator().manual_seed(5)
    network = random_network(generator, torch.int8, [(32, 16, 3, 1), (96, 24, 5, 1)], 32, 10)
    extreme = [
        replace(
            block,
            expand=replace(block.expand, weight=torch.full_like(block.expand.weight, 127)),
            depthwise=replace(block.depthwise, weight=torch.full_like(block.depthwise.weight, 127)),
            project=replace(
                block.project,
                weight=torch.where(block.project.weight > 0, 127, -127).to(torch.int8),
                bias=1e6 * torch.randn(len(block.project.bias), generator=generator),
            ),
        )
        for block in network.blocks
    ]
    network = replace(network, blocks=tuple(extreme))
    pixels = torch.full((1, 20, 20, 3), 255, dtype=torch.uint8)
    actual = mbconv.run(pixels, mbconv.prepack(network, isa))
    expected = mbconv_reference.run(pixels, network)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_what_does_not_fit_is_refused():
    generator, network = middling(torch.float32)
    packed, levels = mbconv.prepack(network, "portable"), levels_for(network)
    pixels = random_pixels(generator, 1, 16, 16)
    with pytest.raises(ValueError, match=r"pixels must be \[images, height, width, 3\]"):
        mbconv.run(pixels[..., :2].contiguous(), packed, levels)
    with pytest.raises(ValueError, match="levels go with pixels of uint8"):
        mbconv.run(pixels, packed)
    with pytest.raises(ValueError, match=r"levels must be \[3, 256\]"):
        mbconv.run(pixels, packed, torch.zeros(1, 256))
    with pytest.raises(ValueError, match="bytes of packed weights on portable"):
        mbconv.run(pixels, replace(packed, weights=packed.weights[:-1]), levels)
    with pytest.raises(ValueError, match="shape must be head, classes and five numbers"):
        mbconv.run(pixels, replace(packed, shape=packed.shape[:-1]), levels)
    with pytest.raises(ValueError, match="kept_block must be -1 or one of 6 blocks, got 6"):
        mbconv.run(pixels, packed, levels, 6)
    int8 = mbconv.prepack(middling(torch.int8)[1])
    with pytest.raises(TypeError, match="a network of int8 takes pixels of uint8"):
        mbconv.run(pixels.float(), int8)


def test_networks_that_the_kernels_cannot_compute_are_refused():
    generator = torch.Generator().manual_seed(0)
    for blocks, message in [
        ([(16, 16, 3, 1)], "the first block must change its channels or have a stride of 2"),
        ([(16, 8, 7, 1)], "kernel must be 3 or 5, got 7"),
        ([(16, 8, 3, 3)], "stride must be 1 or 2, got 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            mbconv.prepack(random_network(generator, torch.float32, blocks, 8, 4))
    network = random_network(generator, torch.float32, [(16, 8, 3, 1)], 8, 4)
    with pytest.raises(ValueError, match="bias 3 must have 8 values, got 7"):
        mbconv.prepack(replace(network, head=replace(network.head, bias=torch.zeros(7))))
    int8 = random_network(generator, torch.int8, [(16, 8, 3, 1)], 8, 4)
    with pytest.raises(ValueError, match="needs a scale"):
        mbconv.prepack(replace(int8, head=replace(int8.head, scale=None)))

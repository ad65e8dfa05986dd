"""EfficientNet-Lite in int8: ranges of its features from photos, weights per output channel, features per tensor.

A feature x is the byte x / scale + zero. Behind ReLU6 zero is 0 and the scale at most 6 / 255, so that the byte's own
bounds are the activation (Jacob et al., arXiv 1712.05877).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.cards import FeatureRanges
from pixeltier.models.inference.efficientnet_lite import PIXEL_DEVIATION, PIXEL_MEAN, ByteUnit, float_layers
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.native.mbconv import Block, Layer, Network

_LEVELS = 255
_WEIGHT_LEVELS = 127


@dataclass(frozen=True, slots=True)
class Affine:
    """Feature = scale * (byte - zero)."""

    scale: float
    zero: int = 0

    @classmethod
    def spanning(cls, low: float, high: float) -> "Affine":
        """The finest one that reaches from low to high and has a byte for zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-6) / _LEVELS
        return cls(scale, round(-low / scale))

    @classmethod
    def of_relu6(cls, high: float) -> "Affine":
        """Of what ReLU6 gives, up to `high`: the byte's own bounds are the activation."""
        return cls(min(6.0, high) / _LEVELS)

    def rounded(self, x: Tensor) -> Tensor:
        """What is left of features."""
        return ((x / self.scale + self.zero).round().clamp(0, _LEVELS) - self.zero) * self.scale


@torch.inference_mode()
def feature_ranges(model: EfficientNetLite, batches: Iterable[Tensor]) -> FeatureRanges:
    """Of normalised photos [N, 3, H, W]: the mean over the photos of each photo's extremes; what rounding then misses.

    Rare peaks are cut so that the rest has finer steps.
    """
    kept = list(batches)
    spans = [_extremes(model, x) for x in kept]
    if not spans:
        raise ValueError("calibration needs at least one photo")
    means = [torch.cat(parts).mean(dim=0) for parts in zip(*spans, strict=True)]
    blocks = [
        [(float(low), float(high)) for low, high in means[i : i + 3]] for i in range(0, len(means) - 1, 3)
    ]
    ranges = FeatureRanges(
        expanded=tuple(expanded[1] for expanded, _, _ in blocks),
        filtered=tuple(filtered[1] for _, filtered, _ in blocks),
        output=tuple(output for _, _, output in blocks),
        pooled=float(means[-1][1]),
    )
    missed = tuple(
        tuple(round(float(one), 5) for one in channels) for channels in _missed(model, ranges, kept)
    )
    return ranges.model_copy(update={"missed": missed})


def _extremes(model: EfficientNetLite, x: Tensor) -> list[Tensor]:
    """[N, 2] least and greatest values of each photo: three features a block, then the mean ones."""
    found = []

    def note(features: Tensor) -> Tensor:
        flat = features.flatten(1)
        found.append(torch.stack([flat.amin(dim=1), flat.amax(dim=1)], dim=1))
        return features

    for index, block in enumerate(model.inverted_residuals):
        expand = model.stem if index == 0 else block.expand
        assert expand is not None
        inner = note(F.relu6(block.depthwise(note(F.relu6(expand(x))))))
        out = block.project(inner)
        x = note(x + out if block.shape.residual else out)
    note(F.relu6(model.head(x)).mean(dim=(2, 3)))
    return found


def _missed(model: EfficientNetLite, ranges: FeatureRanges, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """By how much each block's output [channels] is too small on average, its input being rounded as well.

    Bias correction (Nagel et al., arXiv 1906.04721), block by block, each behind those that are corrected.
    """
    inputs = list(batches)
    for index, block in enumerate(model.inverted_residuals):
        expand = model.stem if index == 0 else block.expand
        assert expand is not None
        layers = [_rounded_weights(layer) for layer in (expand, block.depthwise, block.project)]
        expanded, filtered = (Affine.of_relu6(of[index]) for of in (ranges.expanded, ranges.filtered))
        branches, errors = [], []
        for x in inputs:
            exact = block.project(F.relu6(block.depthwise(F.relu6(expand(x)))))
            inner = filtered.rounded(layers[1](expanded.rounded(layers[0](x))))
            branches.append(layers[2](inner))
            errors.append((exact - branches[-1]).mean(dim=(0, 2, 3)))
        missed = torch.stack(errors).mean(dim=0)
        yield missed
        output = Affine.spanning(*ranges.output[index])
        for place, branch in enumerate(branches):
            out = branch + missed.view(1, -1, 1, 1)
            inputs[place] = output.rounded(out + inputs[place] if block.shape.residual else out)


def _rounded_weights(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with the weights that `_quantized` leaves it."""
    rounded = copy.deepcopy(layer)
    flat = layer.weight.flatten(1)
    step = flat.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / _WEIGHT_LEVELS
    rounded.weight.copy_(((flat / step).round() * step).view_as(layer.weight))
    return rounded


def quantize(model: EfficientNetLite, ranges: FeatureRanges) -> Network:
    """The layers for the int8 kernels."""
    layers = float_layers(model)
    before = Affine(1 / PIXEL_DEVIATION, PIXEL_MEAN)
    blocks = []
    for index, block in enumerate(layers.blocks):
        expanded, filtered = (Affine.of_relu6(of[index]) for of in (ranges.expanded, ranges.filtered))
        output = Affine.spanning(*ranges.output[index])
        shape = model.inverted_residuals[index].shape
        residual = before if shape.residual else None
        blocks.append(
            Block(
                _quantized(block.expand, before, expanded, extra=float(before.zero) if index == 0 else 0.0),
                _quantized(block.depthwise, expanded, filtered),
                _projection(_made_good(block.project, ranges.missed, index), filtered, output, residual),
                block.stride,
            )
        )
        before = output
    pooled = Affine(max(ranges.pooled, 1e-6) / _LEVELS)
    as_float = Affine(1.0)
    head = _quantized(layers.head, before, as_float)
    return Network(tuple(blocks), head, _quantized(layers.linear, pooled, as_float, extra=1 / pooled.scale))


def output_unit(ranges: FeatureRanges, block: int) -> ByteUnit:
    """What a byte of a block's output stands for."""
    output = Affine.spanning(*ranges.output[block])
    return ByteUnit(output.scale, output.zero)


def _quantized(layer: Layer, before: Affine, after: Affine, extra: float = 0.0) -> Layer:
    """The integer layer from bytes of `before` to bytes of `after`."""
    weight = layer.weight.double().flatten(1)
    step = weight.abs().amax(dim=1).clamp(min=1e-12) / _WEIGHT_LEVELS
    integers = (weight / step[:, None]).round()
    unit = before.scale * step
    bias = (layer.bias.double() - unit * before.zero * integers.sum(dim=1)) / after.scale + after.zero
    return Layer(
        integers.to(torch.int8).view(layer.weight.shape), bias.float(), (unit / after.scale).float(), extra
    )


def _made_good(layer: Layer, missed: Sequence[Sequence[float]], index: int) -> Layer:
    """A layer whose bias makes good what rounding misses; as it is where that was not measured."""
    return replace(layer, bias=layer.bias + torch.tensor(missed[index])) if missed else layer


def _projection(layer: Layer, before: Affine, after: Affine, residual: Affine | None) -> Layer:
    projection = _quantized(layer, before, after)
    if residual is None:
        return projection
    factor = residual.scale / after.scale
    return Layer(projection.weight, projection.bias - factor * residual.zero, projection.scale, factor)

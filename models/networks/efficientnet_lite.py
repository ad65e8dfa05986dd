"""EfficientNet-Lite (Tan and Le, arXiv 1905.11946; without squeeze-and-excitation, ReLU6), batch norm folded.

A stem, seven stages of inverted residuals (Sandler et al., arXiv 1801.04381), a 1x1 head, the mean over the
cells and a linear layer. Padding is TensorFlow's SAME: where it is odd, the larger part is behind.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.counting import conv_macs, inverted_residual

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BN_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class InvertedResidualShape:
    """One block: 1x1 to inputs * expansion (none where it is 1), depthwise kernel x kernel, 1x1 to outputs."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int

    @property
    def hidden(self) -> int:
        """Channels between the two 1x1 convolutions."""
        return self.inputs * self.expansion

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.stride == 1 and self.inputs == self.outputs


# Of Lite0's stages: blocks, kernel, stride of the first block, expansion, outputs.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class EfficientNetLiteShape:
    """What the network looks like; stored in the model card.

    width and depth scale the stages' channels and blocks: 1 and 1 are Lite0, 1 and 1.1 Lite1, 1.1 and 1.2 Lite2.
    """

    classes: int = 1000
    width: float = 1.0
    depth: float = 1.0

    def blocks(self) -> tuple[InvertedResidualShape, ...]:
        """All blocks in order. The first and the last stage keep their number of blocks."""
        shapes = []
        inputs = STEM_CHANNELS
        for index, (blocks, kernel, stride, expansion, channels) in enumerate(_STAGES):
            outputs = _round_channels(self.width * channels)
            scaled = index not in (0, len(_STAGES) - 1)
            for block in range(math.ceil(self.depth * blocks) if scaled else blocks):
                first = stride if block == 0 else 1
                shapes.append(InvertedResidualShape(inputs, outputs, kernel, first, expansion))
                inputs = outputs
        return tuple(shapes)

    @property
    def context_block(self) -> int:
        """The last block whose cells are 16 pixels wide."""
        strides = [block.stride for block in self.blocks()]
        return max(index for index, stride in enumerate(strides) if stride == 2) - 1

    @property
    def context_channels(self) -> int:
        """Channels of that block's output, the features that a refinement takes in."""
        return self.blocks()[self.context_block].outputs

    def macs(self, height: int, width: int) -> int:
        """MACs of one image of height x width."""
        height, width = -(-height // 2), -(-width // 2)
        macs = height * width * conv_macs(3, STEM_CHANNELS, 3)
        for block in self.blocks():
            sizes = block.inputs, block.hidden, block.outputs, block.kernel, block.stride
            macs += inverted_residual(height, width, *sizes)
            height, width = -(-height // block.stride), -(-width // block.stride)
        head = height * width * conv_macs(self.blocks()[-1].outputs, HEAD_CHANNELS, 1)
        return macs + head + HEAD_CHANNELS * self.classes


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is not below 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind one axis, so that there are ceil(size / stride) outputs."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with SAME padding of whatever size comes in."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] to [N, O, ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        left_right = same_padding(x.shape[3], kernel, stride)
        padding = (*left_right, *same_padding(x.shape[2], kernel, stride))
        return super().forward(F.pad(x, padding) if any(padding) else x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the projection is linear."""

    def __init__(self, shape: InvertedResidualShape) -> None:
        super().__init__()
        self.shape = shape
        hidden = shape.hidden
        self.expand = nn.Conv2d(shape.inputs, hidden, 1) if shape.expansion != 1 else None
        self.depthwise = SameConv2d(hidden, hidden, shape.kernel, shape.stride, groups=hidden)
        self.project = nn.Conv2d(hidden, shape.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, H, W] to [N, O, ceil(H / stride), ceil(W / stride)]."""
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + out if self.shape.residual else out


class EfficientNetLite(nn.Module):
    """The network in plain torch: training, and the definition that native inference must equal."""

    def __init__(self, shape: EfficientNetLiteShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or EfficientNetLiteShape()
        blocks = shape.blocks()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in blocks)
        self.head = nn.Conv2d(blocks[-1].outputs, HEAD_CHANNELS, 1)
        self.fc = nn.Linear(HEAD_CHANNELS, shape.classes)

    @property
    def inverted_residuals(self) -> list[InvertedResidual]:
        """The blocks in order."""
        return cast("list[InvertedResidual]", list(self.blocks))

    def all_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images [N, 3, H, W] to what a refinement reads and to the answer.

        Returns:
            The features after `context_block` [N, c, ceil(H / 16), ceil(W / 16)], the last ones
            [N, 1280, ceil(H / 32), ceil(W / 32)], 0 to 6, and the logits [N, classes].
        """
        context, features = self._features(x)
        return context, features, self.classify(features)

    def features(self, x: Tensor) -> Tensor:
        """The last features alone."""
        return self._features(x)[1]

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu6(self.stem(x))
        context = x
        for index, block in enumerate(self.inverted_residuals):
            x = block(x)
            if index == self.shape.context_block:
                context = x
        return context, F.relu6(self.head(x))

    def classify(self, features: Tensor) -> Tensor:
        """Last features to logits [N, classes]."""
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] to class logits [N, classes]."""
        return self.all_features(x)[2]


def from_public(state: Mapping[str, Tensor], shape: EfficientNetLiteShape | None = None) -> dict[str, Tensor]:
    """A state dict with the names of efficientnet_lite_pytorch as one of `EfficientNetLite`, batch norms folded.

    Raises:
        ValueError: a tensor that such a network has is missing, one that it does not have is there, or a shape is
            another; the message names it.
    """
    shape = shape or EfficientNetLiteShape()
    pairs = _public_names(shape)
    parts = ("weight", "bias", "running_mean", "running_var")
    needed = [f"{conv}.weight" for conv, _ in pairs.values()] + ["_fc.weight", "_fc.bias"]
    needed += [f"{norm}.{part}" for _, norm in pairs.values() for part in parts]
    counted = {f"{norm}.num_batches_tracked" for _, norm in pairs.values()}
    if missing := [name for name in needed if name not in state]:
        raise ValueError(f"not a state dict of this EfficientNet-Lite: {missing[0]} is missing")
    if unexpected := sorted(set(state) - set(needed) - counted):
        raise ValueError(f"not a state dict of this EfficientNet-Lite: it has {unexpected[0]} besides")

    folded = {"fc.weight": state["_fc.weight"].float(), "fc.bias": state["_fc.bias"].float()}
    for name, (conv, norm) in pairs.items():
        variance, mean = state[f"{norm}.running_var"].double(), state[f"{norm}.running_mean"].double()
        scale = state[f"{norm}.weight"].double() / torch.sqrt(variance + BN_EPSILON)
        folded[f"{name}.weight"] = (state[f"{conv}.weight"].double() * scale.view(-1, 1, 1, 1)).float()
        folded[f"{name}.bias"] = (state[f"{norm}.bias"].double() - mean * scale).float()
    with torch.device("meta"):
        expected = EfficientNetLite(shape).state_dict()
    for name, tensor in folded.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"not a state dict of this EfficientNet-Lite: {name} should have shape "
                f"{tuple(expected[name].shape)}, got {tuple(tensor.shape)}"
            )
    return folded


def _public_names(shape: EfficientNetLiteShape) -> dict[str, tuple[str, str]]:
    """Our name of each convolution: the public names of the convolution and of its batch norm."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for index, block in enumerate(shape.blocks()):
        ours, public = f"blocks.{index}", f"_blocks.{index}"
        if block.expansion != 1:
            pairs[f"{ours}.expand"] = (f"{public}._expand_conv", f"{public}._bn0")
        pairs[f"{ours}.depthwise"] = (f"{public}._depthwise_conv", f"{public}._bn1")
        pairs[f"{ours}.project"] = (f"{public}._project_conv", f"{public}._bn2")
    return pairs

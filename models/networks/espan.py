"""ESPAN x4: a compact super-resolver of 3x3 convolutions with parameter-free attention.

Team 36's entry of the NTIRE 2025 challenge on efficient super-resolution (github.com/Amazingren/NTIRE2025_ESR, MIT);
its gate is that of Wan et al., "Swift Parameter-free Attention Network" (arXiv 2311.12770). It predicts the image
itself, without a bicubic part.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.srresnet import SCALE

HEAD_KERNEL = 9


@dataclass(frozen=True, slots=True)
class ESPANShape:
    """What the network looks like.

    `block_layers`: convolutions of a block; `last_block_layers`: those of the block behind them, whose output also goes
    through one more convolution.
    """

    channels: int = 32
    blocks: int = 5
    block_layers: int = 3
    last_block_layers: int = 2


def gate(features: Tensor, residual: Tensor) -> Tensor:
    """(y + x) * (sigmoid(y) - 1/2): the branch y and its input x, weighted by the branch."""
    return (features + residual) * (torch.sigmoid(features) - 0.5)


class GatedBlock(nn.Module):
    """3x3 convolutions with SiLU between them, then `gate` with the block's input."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The block's convolutions in order."""
        return cast("list[nn.Conv2d]", list(self.layers))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        first, *rest = self.convolutions
        features: Tensor = first(x)
        for layer in rest:
            features = layer(F.silu(features))
        return gate(features, x)


class ESPAN(nn.Module):
    """The network in plain torch: training, and the definition that inference must equal."""

    def __init__(self, shape: ESPANShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or ESPANShape()
        channels = shape.channels
        self.head = nn.Conv2d(3, channels, HEAD_KERNEL, padding=HEAD_KERNEL // 2)
        self.blocks = nn.ModuleList(GatedBlock(channels, shape.block_layers) for _ in range(shape.blocks))
        self.last_block = GatedBlock(channels, shape.last_block_layers)
        self.last_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fuse = nn.Conv2d(4 * channels, channels, 1)
        self.to_pixels = nn.Conv2d(channels, 3 * SCALE**2, 3, padding=1)

    @property
    def gated_blocks(self) -> list[GatedBlock]:
        """The blocks in order, the last one included."""
        return [*cast("list[GatedBlock]", list(self.blocks)), self.last_block]

    def features(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W], RGB in [0, 1], to features [N, C, H, W]: what `to_pixels` and any refinement read."""
        head: Tensor = self.head(x)
        outputs = [head]
        for block in self.gated_blocks:
            outputs.append(block(outputs[-1]))
        last = outputs[-1]
        features: Tensor = self.fuse(torch.cat([head, self.last_conv(last), outputs[1], last], dim=1))
        return features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 3, H, W], RGB in [0, 1], to features [N, C, H, W] and the image [N, 3, 4H, 4W], not clamped."""
        features = self.features(x)
        return features, F.pixel_shuffle(self.to_pixels(features), SCALE)


def from_public(state: Mapping[str, Tensor]) -> ESPAN:
    """The network with the weights of the published file, in float32.

    ValueError where a name is not one of that file's; RuntimeError where names or shapes do not make up a network.
    """
    own = {_own_name(name): values.float() for name, values in state.items()}
    block = re.compile(r"blocks\.(\d+)\.")
    numbers = [int(found[1]) for name in own if (found := block.match(name))]
    head = own.get("head.weight")
    if head is None or not numbers:
        raise ValueError("not the published network: its first convolution or its blocks are missing")
    network = ESPAN(ESPANShape(channels=head.shape[0], blocks=max(numbers) + 1))
    network.load_state_dict(own)
    return network


_PUBLIC_NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"conv_1\.", lambda _: "head."),
    (r"block_(\d+)\.c(\d)_r\.", lambda found: f"blocks.{int(found[1]) - 1}.layers.{int(found[2]) - 1}."),
    (r"teacher_block_seq\.c(\d)_r\.", lambda found: f"last_block.layers.{int(found[1]) - 1}."),
    (r"tea_conv_2\.", lambda _: "last_conv."),
    (r"tea_conv_cat\.", lambda _: "fuse."),
    (r"tea_upsampler\.0\.", lambda _: "to_pixels."),
)


def _own_name(public: str) -> str:
    """Our name of a tensor of the published file."""
    name = public.replace("eval_conv.", "")
    for pattern, own in _PUBLIC_NAMES:
        if found := re.fullmatch(rf"{pattern}(weight|bias)", name):
            return own(found) + found[found.re.groups]
    raise ValueError(f"not a tensor of the published network: {public!r}")

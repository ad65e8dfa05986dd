"""SRResNet x4 (Ledig et al., arXiv 1609.04802, without batch norm) as the refinement of a base network's image.

The network yields a residual to that image, zero outside a mask. From the head's output to the tail every feature is
zero outside the mask, so that packed inference needs active rows only.
"""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.masks import expand_from_windows

SCALE = 4


@dataclass(frozen=True, slots=True)
class SRResNetShape:
    """What the network looks like; `context_channels` are those of the base's features."""

    channels: int = 64
    blocks: int = 16
    context_channels: int = 32


class ResidualBlock(nn.Module):
    """x + conv2(prelu(conv1(x))) with both features zero outside the mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[N, C, H, W] to the same; mask [N, 1, H, W] or None for every cell."""
        inner: Tensor = self.act(self.conv1(x))
        branch: Tensor = self.conv2(_masked(inner, mask))
        return x + _masked(branch, mask)


class SRResNet(nn.Module):
    """The network in plain torch: training, and the definition that packed inference must equal."""

    def __init__(self, shape: SRResNetShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or SRResNetShape()
        channels = shape.channels
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.head_act = nn.PReLU(channels)
        self.fuse = nn.Conv2d(shape.context_channels, channels, 1)
        self.body = nn.ModuleList(ResidualBlock(channels) for _ in range(shape.blocks))
        self.mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.up1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.up1_act = nn.PReLU(channels)
        self.up2 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.up2_act = nn.PReLU(channels)
        self.tail = nn.Conv2d(channels, 3, 9, padding=4)

    @property
    def residual_blocks(self) -> list[ResidualBlock]:
        """The body's blocks in order."""
        return cast("list[ResidualBlock]", list(self.body))

    def features(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W], RGB in [0, 1], to the head's features [N, C, H, W]."""
        features: Tensor = self.head_act(self.head(x))
        return features

    def entry(self, x: Tensor, context: Tensor) -> Tensor:
        """What the body reads, [N, C, H, W]: the head's features and the base's [N, c, H, W].

        The base's receptive field is wide, so that a cell whose neighbours are skipped still knows its surroundings.
        """
        return self.features(x) + cast("Tensor", self.fuse(context))

    def through_blocks(self, entry: Tensor, mask: Tensor | None) -> Tensor:
        """What the body's blocks make of features [N, C, H, W]; mask [N, 1, H, W] or None for every cell."""
        trunk = entry
        for block in self.residual_blocks:
            trunk = block(trunk, mask)
        return trunk

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """The residual to the base's image.

        Args:
            x: images [N, 3, H, W], RGB in [0, 1].
            context: the base's features [N, c, H, W].
            mask: [N, 1, H, W], 1 at active cells; None for every cell.

        Returns:
            [N, 3, 4H, 4W], zero outside the mask.
        """
        entry = _masked(self.entry(x, context), mask)
        mask2 = mask4 = None
        if mask is not None:
            mask2 = expand_from_windows(mask, 2, 2 * mask.shape[2], 2 * mask.shape[3])
            mask4 = expand_from_windows(mask, 4, 4 * mask.shape[2], 4 * mask.shape[3])
        trunk = _masked(entry + self.mid(self.through_blocks(entry, mask)), mask)
        twice = _masked(self.up1_act(F.pixel_shuffle(self.up1(trunk), 2)), mask2)
        four = _masked(self.up2_act(F.pixel_shuffle(self.up2(twice), 2)), mask4)
        return _masked(self.tail(four), mask4)


def _masked(features: Tensor, mask: Tensor | None) -> Tensor:
    return features if mask is None else mask * features

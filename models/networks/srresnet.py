"""SRResNet x4 (Ledig et al., arXiv 1609.04802, without batch norm) with a light base and an importance map.

y = bicubic(x) + base(x) + M * R(x): the base runs everywhere, R (body, upsampling, tail) only where the mask
M is 1. Inside R every feature is zero outside the mask, from the head's output to the tail, so that packed
inference needs active rows only.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.masks import expand_from_windows, pool_to_windows

SCALE = 4


@dataclass(frozen=True, slots=True)
class SRResNetShape:
    """What the network looks like; stored in the model card."""

    channels: int = 64
    blocks: int = 16
    base_channels: int = 32
    base_layers: int = 7
    importance_channels: int = 16
    window: int = 4


def upsample_bicubic(x: Tensor) -> Tensor:
    """Bicubic x4 (a = -0.75) of images [N, 3, H, W]: the fixed part that the base corrects."""
    return F.interpolate(x, scale_factor=SCALE, mode="bicubic", align_corners=False)


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
        branch: Tensor = self.conv2(inner if mask is None else mask * inner)
        return x + (branch if mask is None else mask * branch)


class SRResNet(nn.Module):
    """The network in plain torch: training, and the definition that packed inference must equal."""

    def __init__(self, shape: SRResNetShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or SRResNetShape()
        channels, narrow = shape.channels, shape.base_channels
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.head_act = nn.PReLU(channels)

        layers: list[nn.Module] = [nn.Conv2d(channels, narrow, 1), nn.PReLU(narrow)]
        for _ in range(shape.base_layers):
            layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)]
        self.base = nn.Sequential(*layers)
        self.base_out = nn.Conv2d(narrow, 3 * SCALE**2, 3, padding=1)

        self.importance = nn.Sequential(
            nn.Conv2d(narrow, shape.importance_channels, 1),
            nn.ReLU(),
            nn.Conv2d(shape.importance_channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 1),
        )

        self.fuse = nn.Conv2d(narrow, channels, 1)
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

    def light_path(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What runs on every pixel.

        Args:
            x: images [N, 3, H, W], RGB in [0, 1].

        Returns:
            The head's features [N, C, H, W], the base's features [N, c, H, W] and the base's image
            [N, 3, 4H, 4W].
        """
        features = self.head_act(self.head(x))
        context = self.base(features)
        image = upsample_bicubic(x) + F.pixel_shuffle(self.base_out(context), SCALE)
        return features, context, image

    def window_logits(self, context: Tensor) -> Tensor:
        """Importance logits of the windows, [N, 1, ceil(H / window), ceil(W / window)], from the base's features."""
        logits: Tensor = self.importance(context)
        return pool_to_windows(logits, self.shape.window)

    def through_blocks(self, entry: Tensor, mask: Tensor | None) -> Tensor:
        """What the body's blocks make of features [N, C, H, W]; mask [N, 1, H, W] or None for every cell."""
        trunk = entry
        for block in self.residual_blocks:
            trunk = block(trunk, mask)
        return trunk

    def heavy_path(self, features: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """R(x), [N, 3, 4H, 4W], zero outside the mask [N, 1, H, W] (None: every cell).

        The base's features enter beside the head's: their receptive field is wide, so that a cell whose
        neighbours are skipped still knows its surroundings.
        """
        entry = features + self.fuse(context)
        mask2 = mask4 = None
        if mask is not None:
            entry = mask * entry
            mask2 = expand_from_windows(mask, 2, 2 * mask.shape[2], 2 * mask.shape[3])
            mask4 = expand_from_windows(mask, 4, 4 * mask.shape[2], 4 * mask.shape[3])
        trunk = _masked(entry + self.mid(self.through_blocks(entry, mask)), mask)
        twice = _masked(self.up1_act(F.pixel_shuffle(self.up1(trunk), 2)), mask2)
        four = _masked(self.up2_act(F.pixel_shuffle(self.up2(twice), 2)), mask4)
        return _masked(self.tail(four), mask4)

    def forward(self, x: Tensor, window_mask: Tensor | None = None) -> Tensor:
        """Super-resolve.

        Args:
            x: images [N, 3, H, W], RGB in [0, 1].
            window_mask: boolean [N, 1, ceil(H / window), ceil(W / window)], None for every cell.

        Returns:
            [N, 3, 4H, 4W], not clamped.
        """
        features, context, image = self.light_path(x)
        mask = None
        if window_mask is not None:
            mask = expand_from_windows(window_mask.to(x.dtype), self.shape.window, x.shape[2], x.shape[3])
        return image + self.heavy_path(features, context, mask)


def _masked(features: Tensor, mask: Tensor | None) -> Tensor:
    return features if mask is None else mask * features


def deepen_from_seed(model: SRResNet, seed: dict[str, Tensor]) -> None:
    """Start from a training with a shallower base: missing base layers become identities.

    A 3x3 convolution that is a unit impulse, followed by a PReLU of slope 1, passes its input on unchanged
    (Chen et al., Net2Net, arXiv 1511.05641). The new input of the heavy path (`fuse`) starts at zero.
    """
    state = dict(seed)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected:
        raise ValueError(f"the seed has weights that this network does not: {sorted(unexpected)}")
    with torch.no_grad():
        for index, module in enumerate(model.base):
            if f"base.{index}.weight" not in missing:
                continue
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
            else:
                cast("nn.PReLU", module).weight.fill_(1.0)
        if "fuse.weight" in missing:
            model.fuse.weight.zero_()
            if model.fuse.bias is not None:
                model.fuse.bias.zero_()

"""The super-resolver: ESPAN as base, SRResNet as refinement, an importance map between them.

y = base(x) + M * refinement(x): the base runs everywhere, the refinement only where the mask M is 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixeltier.models.networks.espan import ESPAN, ESPANShape
from pixeltier.models.networks.masks import expand_from_windows, pool_to_windows
from pixeltier.models.networks.srresnet import SRResNet, SRResNetShape


@dataclass(frozen=True, slots=True)
class SuperResolutionShape:
    """What the networks look like; stored in the model card."""

    base_channels: int = 32
    base_blocks: int = 5
    importance_channels: int = 16
    channels: int = 64
    blocks: int = 16
    window: int = 4

    @property
    def base(self) -> ESPANShape:
        """Of the base."""
        return ESPANShape(channels=self.base_channels, blocks=self.base_blocks)

    @property
    def refinement(self) -> SRResNetShape:
        """Of the refinement."""
        return SRResNetShape(self.channels, self.blocks, self.base_channels)


class SuperResolutionNetwork(nn.Module):
    """Both networks and the importance of windows, in plain torch."""

    def __init__(self, shape: SuperResolutionShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or SuperResolutionShape()
        self.base = ESPAN(shape.base)
        self.importance = nn.Sequential(
            nn.Conv2d(shape.base_channels, shape.importance_channels, 1),
            nn.ReLU(),
            nn.Conv2d(shape.importance_channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 1),
        )
        self.refinement = SRResNet(shape.refinement)

    def window_logits(self, context: Tensor) -> Tensor:
        """The base's features [N, c, H, W] to importance logits [N, 1, ceil(H / window), ceil(W / window)].

        A logit predicts the signed root of the squared error that refining the window removes: the same unit in every
        image, so that an image without anything to gain is skipped whole.
        """
        logits: Tensor = self.importance(context)
        return pool_to_windows(logits, self.shape.window)

    def forward(self, x: Tensor, window_mask: Tensor | None = None) -> Tensor:
        """Super-resolve.

        Args:
            x: images [N, 3, H, W], RGB in [0, 1].
            window_mask: boolean [N, 1, ceil(H / window), ceil(W / window)], None for every cell.

        Returns:
            [N, 3, 4H, 4W], not clamped.
        """
        context, image = self.base(x)
        mask = None
        if window_mask is not None:
            mask = expand_from_windows(window_mask.to(x.dtype), self.shape.window, x.shape[2], x.shape[3])
        residual: Tensor = self.refinement(x, context, mask)
        return torch.add(image, residual)

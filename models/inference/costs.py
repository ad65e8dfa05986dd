"""What super-resolution costs per cell and how far it sees, wherever it runs."""

from pixeltier.models import counting
from pixeltier.models.inference.bands import TAIL_HALO
from pixeltier.models.networks.super_resolution import SuperResolutionShape

HEAD_HALO = 4
"""Cells that a 9x9 convolution reads around one."""


class SuperResolutionCosts:
    """MACs by the counting rule; the kernels report the same (tested)."""

    shape: SuperResolutionShape

    @property
    def base_macs(self) -> int:
        """MACs of one cell of the base, importance apart."""
        base = self.shape.base
        return counting.espan(base.channels, base.blocks, base.block_layers, base.last_block_layers)

    @property
    def importance_macs(self) -> int:
        """MACs of one cell of the importance network."""
        return counting.window_importance(self.shape.base_channels, self.shape.importance_channels)

    @property
    def body_macs(self) -> int:
        """MACs of one active cell before the tail."""
        return counting.srresnet_body(self.shape.channels, self.shape.base_channels, self.shape.blocks)

    @property
    def tail_macs(self) -> int:
        """MACs of one active cell of the tail."""
        return counting.srresnet_tail(self.shape.channels)

    @property
    def halo(self) -> int:
        """Cells around a crop that its pixels depend on: one per 3x3 layer, four for the head.

        A window that the refinement reads is active or not by the features around all of its cells.
        """
        base = self.shape.base
        context = HEAD_HALO + base.blocks * base.block_layers + base.last_block_layers + 1
        importance = context + 1 + self.shape.window - 1
        return importance + 2 * self.shape.blocks + 1 + TAIL_HALO

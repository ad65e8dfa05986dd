"""What SRResNet costs per cell and how far it sees, wherever it runs."""

from models import counting
from models.inference.bands import TAIL_HALO
from models.networks.srresnet import SRResNetShape


class SRResNetCosts:
    """MACs by the counting rule; the kernels report the same (tested)."""

    shape: SRResNetShape

    @property
    def light_macs(self) -> int:
        """MACs of one cell of what runs everywhere, importance apart."""
        return counting.srresnet_light(self.shape.channels, self.shape.base_channels, self.shape.base_layers)

    @property
    def importance_macs(self) -> int:
        """MACs of one cell of the importance network."""
        return counting.srresnet_importance(self.shape.base_channels, self.shape.importance_channels)

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
        """Cells around a tile that its pixels depend on: one per 3x3 layer, four for the head."""
        light = 4 + self.shape.base_layers + 1
        return light + 2 * self.shape.blocks + 1 + TAIL_HALO

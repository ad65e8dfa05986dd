"""Networks as a dense engine is given them: RGB in [0, 1] in, one output."""

from torch import Tensor, nn

from pixeltier.models.networks.classification import base_input, refinement_input
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.models.networks.espan import ESPAN


class PlainEfficientNetLite(nn.Module):
    """EfficientNet-Lite alone."""

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to logits [N, classes]."""
        logits: Tensor = self.network(base_input(x))
        return logits


class PlainRefinement(nn.Module):
    """ResNet-18 alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to logits [N, classes]."""
        logits: Tensor = self.network(refinement_input(x))
        return logits


class PlainESPAN(nn.Module):
    """ESPAN's image alone, without its features."""

    def __init__(self, network: ESPAN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 3, 4H, 4W]."""
        image: Tensor = self.network(x)[1]
        return image

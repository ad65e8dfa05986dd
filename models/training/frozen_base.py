"""An EfficientNet-Lite that does not learn: a teacher, or the base of a training that leaves it as it is."""

import torch
from torch import Tensor, nn

from pixeltier.models.inference.efficientnet_lite import float_layers
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.native import mbconv


class FrozenEfficientNetLite(nn.Module):
    """The network without gradients; on the processor on the kernels of inference, which take 40 % of torch's time.

    Its weights are copied when it is made.
    """

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self._network = network
        self._context_block = network.shape.context_block
        self._packed = mbconv.prepack(float_layers(network))

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images [N, 3, H, W] to context, last features and logits as of `EfficientNetLite.all_features`."""
        if x.device.type != "cpu":
            return self._network.all_features(x)
        rows = x.permute(0, 2, 3, 1).float().contiguous()
        logits, features, context = mbconv.run(rows, self._packed, kept_block=self._context_block)
        return _grid(context, x, 16), _grid(features[:-1], x, 32), logits


def _grid(rows: Tensor, images: Tensor, stride: int) -> Tensor:
    """Rows [N * h * w, C] as [N, C, h, w]."""
    count, _, height, width = images.shape
    return rows.view(count, -(-height // stride), -(-width // stride), -1).permute(0, 3, 1, 2)

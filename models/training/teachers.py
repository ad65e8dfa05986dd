"""Networks that a classifier is distilled from: what they say of an image, without labels."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.classification import ClassificationNetwork, base_input
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape, from_public
from pixeltier.models.networks.layout import channels_last
from pixeltier.models.training.classify_config import TeacherConfig
from pixeltier.models.training.frozen_base import FrozenEfficientNetLite
from pixeltier.models.training.start import read_tensors


class Teachers(nn.Module):
    """The normalised mean of several networks' log-probabilities, each seeing an image at its own size.

    Raises:
        FileNotFoundError, ValueError: weights are missing, of another network or size, or have other classes.
    """

    def __init__(self, teachers: Sequence[TeacherConfig], classes: int) -> None:
        super().__init__()
        self.views = [teacher.view for teacher in teachers]
        self.networks = nn.ModuleList(FrozenEfficientNetLite(_public(t, classes)) for t in teachers)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W], RGB in [0, 1], to float32 log-probabilities [N, classes]."""
        total: Tensor | float = 0.0
        for view, network in zip(self.views, self.networks, strict=True):
            size = (view, view)
            seen = x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", antialias=True)
            total = total + network(base_input(seen))[2].float().log_softmax(1)
        return torch.as_tensor(total / len(self.views)).log_softmax(1)


class OwnStart(nn.Module):
    """The exact answer of the network as it was at the start."""

    def __init__(self, model: ClassificationNetwork) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """As of `Teachers`."""
        logits: Tensor = self.model(x)
        return logits.float().log_softmax(1)


def _public(teacher: TeacherConfig, classes: int) -> EfficientNetLite:
    state = read_tensors(Path(teacher.weights))
    shape = EfficientNetLiteShape(classes, teacher.width, teacher.depth)
    network = EfficientNetLite(shape)
    try:
        network.load_state_dict(from_public(state, shape))
    except ValueError as error:
        raise ValueError(f"{teacher.weights}: {error}") from error
    return channels_last(network.eval())

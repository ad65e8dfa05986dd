"""The classifier: EfficientNet-Lite as base, ResNet-18 as refinement, an importance map and a learnt combination.

The base answers every image. Its doubt says what refining an image is worth, its evidence where: together they make the
importance of the refinement's windows. An image without an active window is answered by the base alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.images import DEVIATION, MEAN
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape
from pixeltier.models.networks.masks import standard_scores
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape, stage_scores

DOUBT_CLASSES = 8
"""The best classes, whose log-probabilities say how sure the base is."""

DOUBT_HIDDEN = 16

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Active shares at which the combination has weights of its own; between them they are interpolated."""

LEAST_LOG_PROBABILITY = -12.0


@dataclass(frozen=True, slots=True)
class ClassificationShape:
    """What the networks look like; stored in the model card.

    `context`: 1 where the refinement takes the base's features in, 0 for an imported ResNet-18, which has never seen
    them. `base_answers`: 0 where the base draws the map only, because it was not fitted to the refinement's classes; it
    then has `base_classes` of its own.
    """

    classes: int = 1000
    base_classes: int = 0
    window: int = 4
    context: int = 1
    base_answers: int = 1

    @property
    def base(self) -> EfficientNetLiteShape:
        """Of the base."""
        return EfficientNetLiteShape(classes=self.base_classes or self.classes)

    @property
    def refinement(self) -> ResNet18Shape:
        """Of the refinement."""
        return ResNet18Shape(self.classes, self.base.context_channels if self.context else 0)


class EvidenceImportance(nn.Module):
    """Importance logits of windows from the base's answer: what refining the image is worth, spread by evidence."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(DOUBT_CLASSES, DOUBT_HIDDEN)
        self.out = nn.Linear(DOUBT_HIDDEN, 1)
        self.spread = nn.Parameter(torch.tensor(0.1))

    def doubt(self, logits: Tensor) -> Tensor:
        """What refining an image is worth, whatever the classes are: logits [N, classes] to nats [N]."""
        count = min(DOUBT_CLASSES, logits.shape[1])
        best = logits.float().log_softmax(1).topk(count, dim=1).values
        best = F.pad(best, (0, DOUBT_CLASSES - count), value=LEAST_LOG_PROBABILITY)
        inner = F.relu(self.hidden(best.clamp(min=LEAST_LOG_PROBABILITY)))
        gain: Tensor = self.out(inner)
        return gain[:, 0]

    def forward(self, logits: Tensor, features: Tensor, classes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Importance logits of the refinement's windows: `doubt`, and `spread` times `places`.

        Arguments as of `places`. Returns float32 [N, 1, *grid].
        """
        places = self.places(logits, features, classes, grid)
        return self.doubt(logits).view(-1, 1, 1, 1) + self.spread * places

    def places(self, logits: Tensor, features: Tensor, classes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Where in an image its gain lies, in units of its own spread.

        The evidence is the class activation map (Zhou et al., arXiv 1512.04150) of the classes that the base expects,
        standardised within the image, so that it moves gain between places and adds none.

        Args:
            logits: the base's [N, classes].
            features: its last features [N, C, h, w].
            classes: the weights of its last layer [classes, C].
            grid: rows and columns of the windows.

        Returns:
            float32 [N, 1, *grid].
        """
        expected = logits.float().softmax(1) @ classes.float()
        evidence = torch.einsum("nchw,nc->nhw", features.float(), expected)[:, None]
        return standard_scores(F.interpolate(evidence, size=grid, mode="bilinear", align_corners=False))


class Combination(nn.Module):
    """One answer of two: a sum of log-probabilities whose weights depend on how much was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.base_weights = nn.Parameter(torch.ones(len(SHARES)))
        self.refinement_weights = nn.Parameter(torch.full((len(SHARES),), 0.5))

    def forward(self, base: Tensor, refinement: Tensor, share: Tensor) -> Tensor:
        """Combined logits.

        Args:
            base, refinement: logits [N, classes]; the refinement's do not count where the share is 0.
            share: active share of the refinement's cells [N].

        Returns:
            float32 [N, classes].
        """
        own = _at_shares(self.base_weights, share)[:, None] * base.float().log_softmax(1)
        other = _at_shares(self.refinement_weights, share)[:, None] * refinement.float().log_softmax(1)
        return own + torch.where(share[:, None] > 0, other, 0.0)


def _at_shares(weights: Tensor, share: Tensor) -> Tensor:
    """The weights at `SHARES`, interpolated at shares [N]."""
    position = share.clamp(0, 1) * (len(SHARES) - 1)
    low = position.floor().long().clamp(max=len(SHARES) - 2)
    return torch.lerp(weights[low], weights[low + 1], position - low)


class ClassificationNetwork(nn.Module):
    """Both networks, importance and combination, in plain torch."""

    def __init__(self, shape: ClassificationShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or ClassificationShape()
        self.base = EfficientNetLite(shape.base)
        self.importance = EvidenceImportance()
        self.refinement = ResNet18(shape.refinement)
        self.combination = Combination()

    def window_logits(self, logits: Tensor, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Importance logits [N, 1, *grid] from the base's logits [N, classes] and last features [N, 1280, h, w]."""
        found: Tensor = self.importance(logits, features, self.base.fc.weight, grid)
        return found

    def forward(self, x: Tensor, importance: Tensor | None = None, threshold: Tensor | None = None) -> Tensor:
        """Combined logits.

        Args:
            x: images [N, 3, H, W], RGB in [0, 1].
            importance: of the windows [N, 1, h, w]; None computes every cell.
            threshold: [N]; windows whose importance reaches it are active.

        Returns:
            float32 [N, classes]; the base's own where no window is active.
        """
        context, _, base = self.base.all_features(base_input(x))
        stem = self.refinement.stem(refinement_input(x))
        masks = None
        share = x.new_ones(len(x))
        if importance is not None and threshold is not None:
            masks = stage_masks(importance, threshold, self.shape.window, stem.shape[2], stem.shape[3])
            share = active_share(masks)
        taken = context if self.shape.context else None
        refined = self.refinement.classify(self.refinement.trunk(stem, taken, masks))
        if not self.shape.base_answers:
            return refined.float()
        combined: Tensor = self.combination(base, refined, share)
        return combined


def base_input(x: Tensor) -> Tensor:
    """RGB in [0, 1] as EfficientNet-Lite was trained on it."""
    return (255 * x - 127) / 128


def refinement_input(x: Tensor) -> Tensor:
    """RGB in [0, 1] as ResNet-18 was trained on it."""
    mean, deviation = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


def window_grid(height: int, width: int, window: int) -> tuple[int, int]:
    """Rows and columns of the windows of an input of height x width."""
    rows, columns = (-(-size // 4) for size in (height, width))
    return -(-rows // window), -(-columns // window)


def stage_masks(importance: Tensor, threshold: Tensor, window: int, height: int, width: int) -> list[Tensor]:
    """Masks of the four stages on the stem's output grid of height x width: float, [N, 1, rows, columns] each."""
    limit = threshold.view(-1, 1, 1, 1)
    return [
        (scores >= limit).to(importance.dtype) for scores in stage_scores(importance, window, height, width)
    ]


def active_share(masks: list[Tensor]) -> Tensor:
    """Share of all four stages' cells that are active, [N]."""
    cells = sum(mask[0].numel() for mask in masks)
    active = torch.stack([mask.flatten(1).sum(1) for mask in masks]).sum(0)
    return active / cells

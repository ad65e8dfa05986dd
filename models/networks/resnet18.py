"""ResNet-18 (He et al., arXiv 1512.03385), batch norm folded, with masked residual branches: a refinement.

out[p] = relu(identity[p] + M[p] * F(x)[p]): a skipped cell keeps its identity, so every cell always holds a
valid feature. Within F the intermediate feature is zero outside the mask. The stem, the 1x1 downsamples and `fuse`,
which takes the base's features in after the third stage, run everywhere in an image that has an active cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.masks import expand_from_windows, pool_to_windows

STAGE_CHANNELS = (64, 128, 256, 512)
BLOCKS = 2
BN_EPSILON = 1e-5
FUSED_STAGE = 2
"""After this stage, whose cells are 16 pixels wide, the base's features come in."""


@dataclass(frozen=True, slots=True)
class ResNet18Shape:
    """What the network looks like; `context_channels` are those of the base's features, 0 where it takes none in."""

    classes: int = 1000
    context_channels: int = 112


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; the first may stride, then a 1x1 adapts the identity."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride) if stride != 1 else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[N, I, H, W] to [N, O, H', W']; mask [N, 1, H', W'] or None for every cell."""
        identity = x if self.downsample is None else self.downsample(x)
        inner = F.relu(self.conv1(x))
        if mask is None:
            return F.relu(identity + self.conv2(inner))
        return F.relu(identity + mask * self.conv2(mask * inner))


class ResNet18(nn.Module):
    """The network in plain torch: training, and the definition that sparse inference must equal."""

    def __init__(self, shape: ResNet18Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or ResNet18Shape()
        self.conv1 = nn.Conv2d(3, STAGE_CHANNELS[0], 7, 2, 3)
        stages = []
        inputs = STAGE_CHANNELS[0]
        for index, outputs in enumerate(STAGE_CHANNELS):
            first = BasicBlock(inputs, outputs, 1 if index == 0 else 2)
            stages.append(nn.ModuleList([first, BasicBlock(outputs, outputs, 1)]))
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fuse = (
            nn.Conv2d(shape.context_channels, STAGE_CHANNELS[FUSED_STAGE], 1)
            if shape.context_channels
            else None
        )
        self.fc = nn.Linear(inputs, shape.classes)

    @property
    def stages(self) -> list[list[BasicBlock]]:
        """The blocks of the four stages in order."""
        stages = self.layer1, self.layer2, self.layer3, self.layer4
        return [cast("list[BasicBlock]", list(stage)) for stage in stages]

    def stem(self, x: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] to features [N, 64, ceil(H / 4), ceil(W / 4)]."""
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)

    def trunk(self, stem: Tensor, context: Tensor | None, masks: list[Tensor] | None) -> Tensor:
        """The four stages.

        Args:
            stem: from `stem`.
            context: the base's features [N, c, ceil(H / 16), ceil(W / 16)], where the network takes them in.
            masks: as from `stage_masks`, None for every cell.

        Returns:
            [N, 512, h, w].
        """
        x = stem
        for index, stage in enumerate(self.stages):
            for block in stage:
                x = block(x, None if masks is None else masks[index])
            if index == FUSED_STAGE and self.fuse is not None:
                x = F.relu(x + self.fuse(context))
        return x

    def classify(self, features: Tensor) -> Tensor:
        """Last features [N, 512, h, w] to logits [N, classes]."""
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor, context: Tensor | None = None, masks: list[Tensor] | None = None) -> Tensor:
        """Normalised images [N, 3, H, W] to class logits [N, classes]; the other arguments as of `trunk`."""
        return self.classify(self.trunk(self.stem(x), context, masks))


def stage_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Grid of each stage, given the stem's output grid."""
    sizes = [(height, width)]
    for _ in range(3):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def stage_scores(windows: Tensor, window: int, height: int, width: int) -> list[Tensor]:
    """One map of window scores on the grids of the four stages.

    A stage finer than the windows repeats them; a coarser one averages them.

    Args:
        windows: [N, 1, ceil(height / window), ceil(width / window)].
        window: cells of the stem's output grid along a window's side: 1, 2, 4 or 8.
        height, width: the stem's output grid.
    """
    maps = []
    for stage, (rows, columns) in enumerate(stage_sizes(height, width)):
        cells = 2**stage
        if cells <= window:
            maps.append(expand_from_windows(windows, window // cells, rows, columns))
        else:
            maps.append(pool_to_windows(windows, cells // window))
    return maps


def fold_batch_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision or timm ResNet-18 state dict with its batch norms folded into the convolutions.

    Raises:
        ValueError: a tensor that such a network has is missing, or one that it does not have is there; the message
            names it.
    """
    pairs = {"conv1": "bn1"}
    for stage in range(1, 5):
        for block in range(BLOCKS):
            prefix = f"layer{stage}.{block}"
            pairs[f"{prefix}.conv1"] = f"{prefix}.bn1"
            pairs[f"{prefix}.conv2"] = f"{prefix}.bn2"
        if stage > 1:
            pairs[f"layer{stage}.0.downsample.0"] = f"layer{stage}.0.downsample.1"
    needed = [f"{conv}.weight" for conv in pairs] + ["fc.weight", "fc.bias"]
    needed += [
        f"{bn}.{part}" for bn in pairs.values() for part in ("weight", "bias", "running_mean", "running_var")
    ]
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"not a ResNet-18 state dict (torchvision or timm names): {missing[0]} is missing")

    counted = {f"{bn}.num_batches_tracked" for bn in pairs.values()}
    unexpected = sorted(set(state) - set(needed) - counted)
    if unexpected:
        raise ValueError(
            f"not a ResNet-18 state dict (torchvision or timm names): it has {unexpected[0]} besides"
        )

    folded = {"fc.weight": state["fc.weight"].float(), "fc.bias": state["fc.bias"].float()}
    for conv, bn in pairs.items():
        variance, mean = state[f"{bn}.running_var"].double(), state[f"{bn}.running_mean"].double()
        scale = state[f"{bn}.weight"].double() / torch.sqrt(variance + BN_EPSILON)
        name = conv.removesuffix(".0") if "downsample" in conv else conv
        folded[f"{name}.weight"] = (state[f"{conv}.weight"].double() * scale.view(-1, 1, 1, 1)).float()
        folded[f"{name}.bias"] = (state[f"{bn}.bias"].double() - mean * scale).float()
    return folded

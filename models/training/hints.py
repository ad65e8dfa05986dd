"""A body that starts as a copy of a teacher's: hints (Romero et al., FitNets, arXiv 1412.6550), block by block.

From pixels alone sixteen residual blocks learn slowly: each sees its neighbours' errors. A teacher's inner features
give every group of blocks a target of its own. First each group maps the teacher's features before it to those after
it, as in Wang et al. (Progressive Blockwise Knowledge Distillation, IJCAI 2018); then the groups are chained and see
each other's outputs. The stream inside the body holds the teacher's features, each channel in units of its standard
deviation, plus the body's own input, so that the skip connections of both networks agree.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.layout import channels_last
from pixeltier.models.networks.srresnet import SCALE, SRResNet
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork
from pixeltier.models.training.onnx_session import open_session

FEATURE_LEVEL = 0.03
"""Root mean square of the head's features, beside hints of unit variance: what the hints are polluted by."""

CONTEXT_LEVEL = 0.1
"""The same of the base's features, which the tail has to read out of the sum."""

SLOPE = 0.25
"""Where a PReLU starts (He et al., arXiv 1502.01852)."""


class HintTeacher:
    """A super-resolution network in ONNX that also shows tensors inside it.

    Args:
        path: input NCHW RGB in [0, 1], output the image at 4x.
        names: tensors [N, C, H, W] at the input's resolution, from first to last.
        threads: of onnxruntime.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: a name that the graph does not have.
    """

    def __init__(self, path: Path, names: Sequence[str], threads: int) -> None:
        try:
            import onnx
        except ImportError as error:
            raise ImportError("hints need onnx: pip install 'pixeltier[train]'") from error
        graph = onnx.load(path)
        known = {name for node in graph.graph.node for name in node.output}
        if unknown := sorted(set(names) - known):
            raise ValueError(f"{path} computes no {', '.join(unknown)}: hints name tensors of its graph")
        for name in names:
            graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._session = open_session(graph.SerializeToString(), threads)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [*names, self._session.get_outputs()[0].name]

    def __call__(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
        """Hints [N, C, H, W] of images [N, 3, H, W], and the teacher's image [N, 3, 4H, 4W]; float32."""
        fed = lr.float().cpu().contiguous().numpy()
        tensors = [
            torch.from_numpy(array).contiguous(memory_format=torch.channels_last).to(lr.device)
            for array in self._session.run(self._outputs, {self._input: fed})
        ]
        return tensors[:-1], tensors[-1]


class Hints:
    """What each group of blocks is to compute.

    Args:
        teacher: hints of as many channels as the body; their number divides the body's blocks.
        lr: patches [N, 3, H, W] from which the units of the channels are measured.
    """

    def __init__(self, model: SuperResolutionNetwork, teacher: HintTeacher, lr: Tensor) -> None:
        self._teacher = teacher
        hints, _ = teacher(lr)
        blocks, channels = model.shape.blocks, model.shape.channels
        if blocks % len(hints) or any(hint.shape[1:] != (channels, *lr.shape[2:]) for hint in hints):
            shapes = sorted({tuple(hint.shape[1:]) for hint in hints})
            raise ValueError(
                f"{len(hints)} hints of shape {shapes} do not fit {blocks} blocks of {channels} channels"
            )
        self._group = blocks // len(hints)
        spread = torch.stack([hint.transpose(0, 1).flatten(1).std(1) for hint in hints])
        self._unit = spread.square().mean(0).sqrt().view(1, -1, 1, 1)

    @torch.no_grad()
    def prepare(self, model: SuperResolutionNetwork, lr: Tensor) -> None:
        """Start the body anew, from patches [N, 3, H, W]: the base's features enter where the head's vary least."""
        refinement = model.refinement
        _scale_head(refinement, FEATURE_LEVEL / refinement.features(lr).square().mean().sqrt())
        context = model.base.features(lr)
        _write_context(refinement, refinement.features(lr), context)
        for block in refinement.residual_blocks:
            _fresh(block.conv1, block.act)
            _fresh(block.conv2)
            block.conv2.weight.mul_(0.1)
        entry = refinement.entry(lr, context)
        refinement.residual_blocks[0].conv1.weight.div_(entry.square().mean().sqrt())
        channels_last(model)

    def missed(self, model: SuperResolutionNetwork, lr: Tensor, chained: bool) -> Tensor:
        """The share of each group's change that it misses [groups], on patches [N, 3, H, W].

        `chained`: each group reads what the one before it computed, instead of the teacher's features.
        """
        hints, _ = self._teacher(lr)
        with torch.no_grad():
            entry = model.refinement.entry(lr, model.base.features(lr))
        streams = [entry, *(hint / self._unit + entry for hint in hints)]
        missed = []
        trunk = entry
        for index, (before, after) in enumerate(pairwise(streams)):
            trunk = trunk if chained else before
            for block in model.refinement.residual_blocks[self._group * index : self._group * (index + 1)]:
                trunk = block(trunk, None)
            change = (after - before).float().square().mean()
            missed.append((trunk.float() - after.float()).square().mean() / change)
        return torch.stack(missed)

    @torch.no_grad()
    def fit_tail(self, model: SuperResolutionNetwork, lr: Tensor) -> None:
        """Solve for the linear tail that brings the image nearest to the teacher's, on patches [N, 3, H, W].

        From the teacher's own last features and the base's, it misses a fiftieth of the energy that the base leaves.
        """
        context, image = model.base(lr)
        entry = model.refinement.entry(lr, context)
        trunk = model.refinement.through_blocks(entry, None)
        fit_tail(model.refinement, trunk, entry, self._teacher(lr)[1] - image)
        channels_last(model)


def _fresh(conv: nn.Conv2d, act: nn.PReLU | None = None) -> None:
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    if conv.bias is not None:
        conv.bias.zero_()
    if act is not None:
        act.weight.fill_(SLOPE)


def _scale_head(model: SRResNet, factor: Tensor) -> None:
    """Scale the head's features: a PReLU commutes with that."""
    model.head.weight.mul_(factor)
    if model.head.bias is not None:
        model.head.bias.mul_(factor)


def _write_context(model: SRResNet, features: Tensor, context: Tensor) -> None:
    """Set `fuse` so that the base's features lie in the directions where the head's have least energy."""
    rows = features.transpose(0, 1).flatten(1)
    directions = torch.linalg.eigh(rows @ rows.t())[1][:, : context.shape[1]]  # ascending
    gain = CONTEXT_LEVEL * features.shape[1] ** 0.5 / context.square().sum(1).mean().sqrt()
    model.fuse.weight.copy_((gain * directions)[:, :, None, None])
    if model.fuse.bias is not None:
        model.fuse.bias.zero_()


def fit_tail(model: SRResNet, trunk: Tensor, entry: Tensor, target: Tensor) -> None:
    """Least squares: `target` [N, 3, 4H, 4W] from `trunk` and `entry` [N, C, H, W].

    `mid` writes what the trunk has to tell, its strongest components, beside the base's features; the layers after it
    read both.
    """
    channels, narrow = model.fuse.weight.shape[:2]
    beside = torch.linalg.svd(model.fuse.weight.flatten(1))[0][:, narrow:]  # [C, C - c]
    read = entry - torch.einsum("cd,ed,nehw->nchw", beside, beside, entry)
    pixels = F.pixel_unshuffle(target, SCALE)
    solved, _, gram = _regression(torch.cat([trunk, read], 1), pixels)
    by_trunk, gram = solved[: 9 * channels], gram[: 9 * channels, : 9 * channels]
    energy, components = torch.linalg.eigh(by_trunk.t() @ gram @ by_trunk)
    energy, components = energy[narrow - channels :], components[:, narrow - channels :]
    inner = by_trunk @ components / energy.clamp(min=1e-4 * energy[-1]).sqrt()
    weight = torch.einsum("cd,td->ct", beside, inner.float())
    model.mid.weight.copy_(weight.view(channels, channels, 3, 3))
    if model.mid.bias is not None:
        model.mid.bias.zero_()
    weight, bias, _ = _regression(entry + model.mid(trunk), pixels)
    _upsample_linearly(model, weight.t().float().view(-1, channels, 3, 3), bias.float())


def _regression(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest 3x3 convolution: weight [9 * I, O], bias [O]; and the mean product of its taps [9 * I, 9 * I]."""
    taps = F.unfold(inputs, 3, padding=1).transpose(1, 2).flatten(0, 1)
    taps = F.pad(taps, (0, 1), value=1.0).double()
    wanted = outputs.permute(0, 2, 3, 1).flatten(0, 2).double()
    gram = taps.t() @ taps / taps.shape[0]
    gram.diagonal().add_(1e-6 * gram.diagonal().mean())
    solved = torch.linalg.solve(gram, taps.t() @ wanted / taps.shape[0])
    return solved[:-1], solved[-1], gram[:-1, :-1]


def _upsample_linearly(model: SRResNet, weight: Tensor, bias: Tensor) -> None:
    """Let the layers of both pixel shuffles and the tail amount to the convolution `weight` [48, C, 3, 3].

    It takes their first channels; the others start at random, and the tail does not read them yet.
    """
    for conv, act in ((model.up1, model.up1_act), (model.up2, model.up2_act)):
        _fresh(conv, act)
    model.tail.weight.zero_()
    if model.tail.bias is not None:
        model.tail.bias.zero_()
    twice, four = 3 * (SCALE // 2) ** 2, 3
    model.up1.weight[: 4 * twice] = weight[_nested_order()]
    if model.up1.bias is not None:
        model.up1.bias[: 4 * twice] = bias[_nested_order()]
    model.up1_act.weight[:twice] = 1.0
    model.up2.weight.mul_(0.1)
    model.up2.weight[: 4 * four] = 0.0
    for channel in range(4 * four):
        model.up2.weight[channel, channel, 1, 1] = 1.0
    model.up2_act.weight[:four] = 1.0
    for colour in range(3):
        model.tail.weight[colour, colour, SCALE, SCALE] = 1.0


def _nested_order() -> Tensor:
    """Of PixelShuffle(4)'s 48 channels, the order in which two shuffles of 2 have them."""
    image = torch.arange(3.0 * SCALE**2).view(1, 3, SCALE, SCALE)
    return F.pixel_unshuffle(F.pixel_unshuffle(image, 2), 2).flatten().long()

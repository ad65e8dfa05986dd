"""The refinement over every cell: the sums of `SRResNet.forward`, laid out for a quick training step.

At 4x the network's own layers are slow to train: a 9x9 convolution to three channels leaves most of a vector unit
idle, and the PReLU's backward pass reads its input several times. As a 3x3 convolution of whole cells
(`pixeltier.models.networks.tail`) and as selections, the same takes three quarters of the time (measured on two
threads).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pixeltier.models.networks.srresnet import SCALE, SRResNet
from pixeltier.models.networks.tail import PIXELS, embed_tail


class ChannelPReLU(torch.autograd.Function):
    """PReLU of [N, C, H, W] with slopes [C] in the input's type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        """x where it is positive, else slope * x."""
        ctx.save_for_backward(x, slope)
        return torch.where(x > 0, x, x * slope.view(1, -1, 1, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the input and of the slopes."""
        x, slope = ctx.saved_tensors
        to_input = torch.where(x > 0, gradient, gradient * slope.view(1, -1, 1, 1))
        to_slope = (x.clamp(max=0) * gradient).sum(dim=(0, 2, 3), dtype=torch.float32)
        return to_input, to_slope.to(slope.dtype)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU (He et al., arXiv 1502.01852) of [N, C, H, W]; slope: [C], of any float type."""
    out: Tensor = ChannelPReLU.apply(x, slope.to(x.dtype))  # type: ignore[no-untyped-call]
    return out


def enlarge(model: SRResNet, trunk: Tensor) -> Tensor:
    """What follows `mid`: features [N, C, H, W] of every cell to pixels [N, 3, 4H, 4W]."""
    twice = prelu(F.pixel_shuffle(model.up1(trunk), 2), model.up1_act.weight)
    children = prelu(model.up2(twice), model.up2_act.weight.repeat_interleave(4))
    cells = F.pixel_unshuffle(children, 2)  # channels in the order (channel, inner child, outer child)
    bias = model.tail.bias if model.tail.bias is not None else model.tail.weight.new_zeros(3)
    weight, bias = embed_tail(model.tail.weight, bias)
    weight = weight.view(3 * PIXELS, 4, 4, -1, 3, 3).permute(0, 3, 2, 1, 4, 5).flatten(1, 3)
    pixels = F.conv2d(cells, weight.contiguous(memory_format=torch.channels_last), bias, padding=1)
    count, _, height, width = pixels.shape
    image = pixels.view(count, SCALE, SCALE, 3, height, width).permute(0, 3, 4, 1, 5, 2)
    return image.reshape(count, 3, SCALE * height, SCALE * width)


def refine_dense(model: SRResNet, x: Tensor, context: Tensor) -> Tensor:
    """`SRResNet.forward` of images [N, 3, H, W] and the base's features [N, c, H, W], every cell active."""
    entry = model.entry(x, context)
    return enlarge(model, entry + model.mid(model.through_blocks(entry, None)))

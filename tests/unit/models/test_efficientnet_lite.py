"""EfficientNet-Lite in plain torch: shapes and counts of the published networks, SAME padding, public names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.networks.efficientnet_lite import (
    EfficientNetLite,
    EfficientNetLiteShape,
    from_public,
    same_padding,
)

LITE0, LITE1, LITE2 = (
    EfficientNetLiteShape(width=width, depth=depth) for width, depth in [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2)]
)


@pytest.mark.parametrize(
    ("shape", "blocks", "parameters"),
    [(LITE0, 16, 4_631_000), (LITE1, 21, 5_389_848), (LITE2, 21, 6_063_024)],
)
def test_the_published_sizes(shape: EfficientNetLiteShape, blocks: int, parameters: int) -> None:
    """Parameters as in the public weights, each batch norm's four values folded into one bias."""
    with torch.device("meta"):
        network = EfficientNetLite(shape)
    assert len(network.inverted_residuals) == blocks
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("height", "width"), [(224, 224), (160, 192), (65, 33)])
@pytest.mark.parametrize("shape", [LITE0, LITE2])
def test_macs_are_those_that_run(shape: EfficientNetLiteShape, height: int, width: int) -> None:
    counted = 0

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d | nn.Linear)
        counted += out[0, 0].numel() * module.weight.numel() if out.dim() == 4 else module.weight.numel()

    with torch.device("meta"):
        network = EfficientNetLite(shape)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        network(torch.empty(1, 3, height, width))
    assert shape.macs(height, width) == counted


def test_lite0_has_385_million_macs() -> None:
    assert LITE0.macs(224, 224) == 385_187_552


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(224, 3, 2, (0, 1)), (56, 5, 2, (1, 2)), (65, 5, 2, (2, 2)), (7, 3, 1, (1, 1)), (7, 5, 1, (2, 2))],
)
def test_odd_padding_is_larger_behind(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


class _PublicBlock(nn.Module):
    """An inverted residual with the public names and with batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.stride, self.residual = stride, stride == 1 and inputs == outputs
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        inner = F.relu6(self._bn1(self._depthwise_conv(_pad(inner, self._depthwise_conv))))
        out: Tensor = self._bn2(self._project_conv(inner))
        return x + out if self.residual else out


class _Public(nn.Module):
    """The network as efficientnet_lite_pytorch names it."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList(
            _PublicBlock(block.inputs, block.outputs, block.kernel, block.stride, block.expansion)
            for block in LITE0.blocks()
        )
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(_pad(x, self._conv_stem))))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        out: Tensor = self._fc(x.mean(dim=(2, 3)))
        return out


def _pad(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """For even sizes, written out: a stride of 2 lacks the first of the symmetric zeros."""
    both, first = convolution.kernel_size[0] // 2, convolution.kernel_size[0] // 2 - convolution.stride[0] + 1
    return F.pad(x, (first, both, first, both))


@pytest.fixture
def public() -> _Public:
    torch.manual_seed(0)
    network = _Public().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.05, 0.5)  # type: ignore[arg-type]
    return network


def test_public_weights_give_the_same_logits(public: _Public) -> None:
    network = EfficientNetLite().eval()
    network.load_state_dict(from_public(public.state_dict()))
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), public(x), rtol=1e-4, atol=1e-4)


def test_other_weights_are_refused_by_name(public: _Public) -> None:
    state = public.state_dict()
    with pytest.raises(ValueError, match=r"_blocks\.3\._project_conv\.weight is missing"):
        from_public({name: state[name] for name in state if name != "_blocks.3._project_conv.weight"})
    with pytest.raises(ValueError, match=r"it has _se besides"):
        from_public({**state, "_se": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"fc\.weight should have shape \(10, 1280\), got \(1000, 1280\)"):
        from_public(state, EfficientNetLiteShape(classes=10))

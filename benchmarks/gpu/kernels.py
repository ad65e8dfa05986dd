"""The limits of the device, and each kernel beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.timing import Call, Clock


@dataclass(frozen=True)
class Limits:
    """Bytes and multiply-adds a second."""

    bandwidth: float
    macs: float

    def ms(self, bytes_: float, macs: float) -> float:
        """The least time that work could take."""
        return 1000 * max(bytes_ / self.bandwidth, macs / self.macs)


def measure_limits(clock: Clock, scale: int) -> Limits:
    """A large copy, and a large product of bf16 matrices."""
    size = 8192 // scale
    source = torch.empty(2**28 // scale**2, device=clock.device)
    target = torch.empty_like(source)
    copying = clock.ms(lambda: target.copy_(source))
    a, b = (torch.randn(size, size, device=clock.device).bfloat16() for _ in range(2))
    multiplying = clock.ms(lambda: torch.mm(a, b))
    return Limits(2 * 4 * source.numel() / copying * 1000, size**3 / multiplying * 1000)


@dataclass(frozen=True)
class Layer:
    """A convolution over the cells of a batch; share of them active."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    grid: tuple[int, int, int]
    shares: tuple[float, ...]
    shuffle: int = 1
    residual: bool = False
    children: int = 1  # rows for each cell: behind a pixel shuffle


def layers(scale: int) -> list[Layer]:
    """What SRResNet at 480x270 and ResNet-18 at 224, batch 64, spend their time in."""
    sr = (1, max(4, 270 // scale), max(4, 480 // scale))
    images = max(1, 64 // scale)
    some = (1.0, 0.5, 0.1) if scale == 1 else (0.5,)
    return [
        Layer("sr body", 64, 64, 3, sr, some, residual=True),
        Layer("sr up1", 64, 256, 3, sr, some, shuffle=2),
        Layer("sr up2", 64, 256, 3, sr, some, shuffle=2, children=4),
        Layer("resnet layer1", 64, 64, 3, (images, 56, 56), some[:2], residual=True),
        Layer("resnet layer2", 128, 128, 3, (images, 28, 28), some[:2], residual=True),
        Layer("resnet layer3", 256, 256, 3, (images, 14, 14), some[:2], residual=True),
        Layer("resnet layer4", 512, 512, 3, (images, 7, 7), some[:2], residual=True),
    ][: 7 if scale == 1 else 2]


def random_windows(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """Importance as models make it: equal within windows of 4x4 cells."""
    images, height, width = grid
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(images, -(-height // 4), -(-width // 4), generator=generator)
    cells = windows.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    return cells.contiguous().to(device)


def measure_layer(
    layer: Layer, share: float, dtype: torch.dtype, isa: str, clock: Clock, limits: Limits
) -> list[object]:
    """One row of the kernels' table."""
    from pixeltier.native import ops

    device, images = clock.device, layer.grid[0]
    threshold = torch.full((images,), 1 - share, device=device)
    active = ops.plan(random_windows(layer.grid, device), threshold)
    table = ops.packed_table(active, *layer.grid, layer.kernel)
    if layer.children == 4:
        table = ops.child_table(table)
    count = len(table)
    rows = torch.randn(count + 1, layer.inputs, device=device).to(dtype)
    weight = torch.randn(layer.outputs, layer.inputs, layer.kernel, layer.kernel) / 24
    bias, slope = torch.zeros(layer.outputs), torch.full((layer.outputs,), 0.25)
    packed = ops.prepack_weight(
        weight, bias, slope, dtype=dtype, shuffle=layer.shuffle, device=device, isa=isa
    )
    residual = torch.randn(count, layer.outputs, device=device).to(dtype) if layer.residual else None
    taken = clock.kernel_ms(lambda: ops.sparse_conv2d(rows, table, packed, residual))
    size = rows.element_size()
    bytes_ = count * size * (layer.inputs + layer.outputs * (2 if layer.residual else 1))
    bytes_ += table.numel() * 4 + packed.weight.numel() * size
    macs = count * packed.macs_per_row
    least = limits.ms(bytes_, macs)
    name = {torch.float32: "fp32" if isa == "cuda" else "tf32", torch.bfloat16: "bf16"}[dtype]
    return [
        layer.name,
        name,
        f"{100 * share:.0f}%",
        count,
        f"{taken:.4f}",
        f"{macs / taken / 1e9:.1f}",
        f"{least:.4f}",
        f"{taken / least:.2f}",
    ]


def measure_small_kernels(clock: Clock, limits: Limits, scale: int) -> list[list[object]]:
    """Plan, tables and composition: bound by bytes."""
    from pixeltier.native import ops

    grid = (1, max(4, 270 // scale), max(4, 480 // scale))
    cells, device = grid[1] * grid[2], clock.device
    importance, threshold = random_windows(grid, device), torch.full((1,), 0.9, device=device)
    active, _ = ops.plan_padded(importance, threshold)
    table = ops.packed_table(active, *grid, 3)
    x, pixels = torch.rand(1, 3, *grid[1:], device=device), torch.rand(cells, 48, device=device)
    calls: list[tuple[str, Call, int]] = [
        ("plan", lambda: ops.plan_padded(importance, threshold), 4 * cells * 3),
        ("packed table", lambda: ops.packed_table(active, *grid, 3), 4 * cells * 11),
        ("child table", lambda: ops.child_table(table), 4 * cells * (9 + 36)),
        ("compose", lambda: ops.compose(x, pixels), cells * (12 + 4 * 48 + 48)),
    ]
    rows: list[list[object]] = []
    for name, call, bytes_ in calls:
        taken, least = clock.kernel_ms(call), limits.ms(bytes_, 0)
        rows.append([name, "-", "10%", cells, f"{taken:.4f}", "-", f"{least:.4f}", f"{taken / least:.2f}"])
    return rows

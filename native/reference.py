"""The ops of :mod:`pixeltier.native.ops` in plain torch: slow, obvious, and the oracle of every test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def plan(importance: Tensor, threshold: Tensor, keep_best: bool = False) -> Tensor:
    """See :func:`pixeltier.native.ops.plan`."""
    mask = importance >= threshold[:, None, None]
    if keep_best:
        for image, chosen in zip(importance.flatten(1), mask.flatten(1), strict=True):
            known = image.nan_to_num(nan=-torch.inf)
            if not image.isnan().all():
                best = int((~image.isnan() & (known == known.max())).nonzero()[0])
                chosen[best] = True
    return mask.flatten().nonzero()[:, 0].to(torch.int32)


def _taps(active: Tensor, height: int, width: int, kernel: int, stride: int) -> tuple[Tensor, Tensor]:
    """The input cells [A, kernel*kernel] of each output cell, and which of them lie inside the image."""
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    cell = active.long()
    n, y, x = cell // (out_height * out_width), cell // out_width % out_height, cell % out_width
    offset = torch.arange(kernel) - kernel // 2
    ys = (y[:, None] * stride + offset)[:, :, None].expand(-1, kernel, kernel)
    xs = (x[:, None] * stride + offset)[:, None, :].expand(-1, kernel, kernel)
    inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    cells = (n[:, None, None] * height + ys) * width + xs
    return cells.flatten(1), inside.flatten(1)


def dense_table(active: Tensor, images: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
    """See :func:`pixeltier.native.ops.dense_table`."""
    cells, inside = _taps(active, height, width, kernel, stride)
    return torch.where(inside, cells, images * height * width).to(torch.int32)


def packed_table(active: Tensor, images: int, height: int, width: int, kernel: int) -> Tensor:
    """See :func:`pixeltier.native.ops.packed_table`."""
    cells, inside = _taps(active, height, width, kernel, 1)
    count = len(active)
    position = torch.full((images * height * width + 1,), count)
    position[active.long()] = torch.arange(count)
    return position[torch.where(inside, cells, images * height * width)].to(torch.int32)


def child_table(parent: Tensor, kernel: int = 3) -> Tensor:
    """See :func:`pixeltier.native.ops.child_table`."""
    count, taps = parent.shape
    side = round(taps**0.5)
    offset = torch.arange(kernel) - kernel // 2
    children = []
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = (dy + offset)[:, None], (dx + offset)[None, :]
            tap = (y.div(2, rounding_mode="floor") + side // 2) * side
            tap = (tap + x.div(2, rounding_mode="floor") + side // 2).reshape(-1)
            part = (2 * (y % 2) + x % 2).reshape(-1)
            rows = parent[:, tap].long()
            children.append(torch.where(rows == count, 4 * count, 4 * rows + part))
    return torch.stack(children, 1).reshape(4 * count, kernel * kernel).to(torch.int32)


def tile_table(
    active: Tensor, images: int, height: int, width: int, packed: bool, size: int = 2
) -> tuple[Tensor, Tensor]:
    """See :func:`pixeltier.native.ops.tile_table`: table [T, (size + 2)^2] and outputs [T, size^2]."""
    position = {int(cell): place for place, cell in enumerate(active)}
    absent = len(active) if packed else images * height * width
    table, outputs = [], []
    for n in range(images):
        for top in range(0, height, size):
            for left in range(0, width, size):

                def cell(dy: int, dx: int, n: int = n, top: int = top, left: int = left) -> int | None:
                    y, x = top + dy, left + dx
                    inside = 0 <= y < height and 0 <= x < width
                    return (n * height + y) * width + x if inside else None

                places = [position.get(cell(dy, dx)) for dy in range(size) for dx in range(size)]  # type: ignore[arg-type]
                if all(place is None for place in places):
                    continue
                outputs.append([-1 if place is None else place for place in places])
                patch = [cell(dy, dx) for dy in range(-1, size + 1) for dx in range(-1, size + 1)]
                if packed:
                    table.append([position.get(c, absent) if c is not None else absent for c in patch])
                else:
                    table.append([absent if c is None else c for c in patch])
    return (
        torch.tensor(table, dtype=torch.int32).reshape(-1, (size + 2) ** 2),
        torch.tensor(outputs, dtype=torch.int32).reshape(-1, size**2),
    )


def convolution(rows: Tensor, table: Tensor, weight: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The bare sums [A, O], accumulated in ``dtype``: weight [O, I, kh, kw], rows [R + 1, I], table [A,
    kh*kw].
    """
    gathered = rows.to(dtype)[table.long()]
    return torch.einsum("ati,oit->ao", gathered, weight.to(dtype).flatten(2))


def activate(values: Tensor, slope: Tensor | None) -> Tensor:
    """PReLU with one slope for each channel; None: identity."""
    return values if slope is None else torch.where(values > 0, values, values * slope.to(values.dtype))


def sparse_conv2d(
    rows: Tensor,
    table: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    slope: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    shuffle: int = 1,
    macs_per_row: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, int]:
    """See :func:`pixeltier.native.ops.sparse_conv2d`; weight, bias [O] and slope [O] in torch.nn.Conv2d's order.

    Sums are in ``dtype``; the result is rounded to the rows' type.
    """
    count, outputs = len(table), len(weight)
    children = shuffle * shuffle

    def packed_order(values: Tensor) -> Tensor:
        by_channel = values.reshape(*values.shape[:-1], outputs // children, children)
        return by_channel.transpose(-1, -2).flatten(-2)

    sums = packed_order(convolution(rows, table, weight, dtype))
    if bias is not None:
        sums = sums + packed_order(bias.to(dtype))
    if residual is not None:
        sums = sums + residual[: count * children].reshape(count, outputs).to(dtype)
    values = activate(sums, None if slope is None else packed_order(slope))
    out = torch.zeros(count * children + 1, outputs // children, dtype=rows.dtype)
    out[:-1] = values.reshape(count * children, outputs // children).to(rows.dtype)
    macs = weight.numel() if macs_per_row is None else macs_per_row
    return out, count * macs


def silu(values: Tensor) -> Tensor:
    """v * sigmoid(v)."""
    return values * torch.sigmoid(values)


def gate(values: Tensor, residual: Tensor) -> Tensor:
    """(y + x) * (sigmoid(y) - 1/2)."""
    return (values + residual) * (torch.sigmoid(values) - 0.5)


def activated_conv2d_(
    out: Tensor,
    rows: Tensor,
    table: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    slope: Tensor | None = None,
    activation: str = "prelu",
    residual: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> None:
    """See :func:`pixeltier.native.ops.activated_conv2d_`; the table of a plain convolution, sums in ``dtype``."""
    sums = convolution(rows, table, weight, dtype)
    if bias is not None:
        sums = sums + bias.to(dtype)
    x = torch.zeros_like(sums) if residual is None else residual[: len(table)].to(dtype)
    values = {
        "prelu": lambda: activate(sums + x, slope),
        "silu": lambda: silu(sums + x),
        "gate": lambda: gate(sums, x),
    }[activation]()
    out[:-1] = values.to(out.dtype)
    out[-1] = 0


def image_lines(image: Tensor, kernel: int, dtype: torch.dtype) -> Tensor:
    """See :func:`pixeltier.native.ops.image_lines`; rows without overlap."""
    pixels = image.float() if image.dtype == torch.uint8 else 255 * image.permute(1, 2, 0)
    pad = kernel // 2
    flat = F.pad(pixels, (0, 0, pad, pad, pad, pad)).to(dtype).flatten()
    channels = pixels.shape[2]
    padded = F.pad(flat, (0, kernel * channels))
    return torch.stack([padded[i : i + kernel * channels] for i in range(0, len(flat) + 1, channels)])


def line_table(active: Tensor, width: int, kernel: int) -> Tensor:
    """See :func:`pixeltier.native.ops.line_table`; the number of lines has no say in it."""
    columns = width + kernel // 2 * 2
    y, x = active // width, active % width
    return (y[:, None] + torch.arange(kernel, dtype=torch.int32)) * columns + x[:, None]


def sparse_conv2d_scatter_(
    trunk: Tensor,
    rows: Tensor,
    table: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    active: Tensor,
    *,
    macs_per_row: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> int:
    """See :func:`pixeltier.native.ops.sparse_conv2d_scatter_`."""
    out, macs = sparse_conv2d(
        rows, table, weight, bias, slope, trunk[active.long()], macs_per_row=macs_per_row, dtype=dtype
    )
    trunk[active.long()] = out[:-1]
    return macs


def sparse_residual_body(
    rows: Tensor,
    table: Tensor,
    layers: Sequence[tuple[Tensor, Tensor | None, Tensor | None]],
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """See :func:`pixeltier.native.ops.sparse_residual_body`; a layer is its weight, bias and slope."""
    trunk = rows
    for first, second in zip(layers[0::2], layers[1::2], strict=False):
        inner, _ = sparse_conv2d(trunk, table, *first, dtype=dtype)
        trunk, _ = sparse_conv2d(inner, table, *second, trunk, dtype=dtype)
    if len(layers) % 2:
        trunk, _ = sparse_conv2d(trunk, table, *layers[-1], rows, dtype=dtype)
    return trunk


def pool_windows(rows: Tensor, images: int, height: int, width: int, window: int) -> Tensor:
    """See :func:`pixeltier.native.ops.pool_windows`."""
    grid = rows[: images * height * width].view(images, height, width, rows.shape[1])
    pooled = []
    for image in grid:
        for top in range(0, height, window):
            for left in range(0, width, window):
                cells = image[top : top + window, left : left + window].flatten(0, 1).double()
                pooled.append(torch.cat([cells.mean(dim=0), cells.amax(dim=0)]))
    pooled.append(torch.zeros(2 * rows.shape[1], dtype=torch.float64))
    return torch.stack(pooled).to(rows.dtype)


def pooled_stem(
    pixels: Tensor,
    levels: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    stride: int,
) -> Tensor:
    """See :func:`pixeltier.native.ops.pooled_stem`; weight [O, C, K, K]. Sums are in float64, pooled after rounding."""
    channel = torch.arange(levels.shape[0])
    image = levels.double()[channel, pixels.long()].permute(0, 3, 1, 2)
    sums = F.conv2d(image, weight.double(), None, stride, weight.shape[2] // 2).permute(0, 2, 3, 1)
    if bias is not None:
        sums = sums + bias.double()
    features = activate(sums, slope).to(levels.dtype).permute(0, 3, 1, 2).double()
    pooled = F.max_pool2d(features, 3, 2, 1).permute(0, 2, 3, 1).flatten(0, 2)
    return F.pad(pooled, (0, 0, 0, 1)).to(levels.dtype)


def compose(x: Tensor, pixels: Tensor) -> Tensor:
    """See :func:`pixeltier.native.ops.compose`; sums in float64."""
    images, _, height, width = x.shape
    x = x.double()
    said = pixels.double().view(images, height, width, 4, 4, 3).permute(0, 5, 1, 3, 2, 4)
    said = _bounded(x, said.reshape(images, 3, 4 * height, 4 * width))
    image = (said + _bicubic(x - _reduced(said.clamp(0, 1)))).clamp(0, 1)
    drift, brightness = _smooth(x - _reduced(image)), _smooth(F.avg_pool2d(image, 4))
    room = torch.where(drift > 0, 1 - brightness, brightness)
    pull = _bicubic((drift / room.clamp_min(0.02)).clamp(-1, 1))
    image = image + pull * torch.where(pull > 0, 1 - image, image)
    return (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1)


def _bounded(x: Tensor, said: Tensor) -> Tensor:
    """Within the range of the 3x3 cells around, widened by itself, and without colour where those are gray."""
    most, least = _local(x, F.max_pool2d), -_local(-x, F.max_pool2d)
    coloured = (x[:, :1] != x).any(1, keepdim=True).double()
    gray = F.interpolate(_local(coloured, F.max_pool2d), scale_factor=4) == 0
    luma = torch.tensor([0.299, 0.587, 0.114]).double().view(1, 3, 1, 1)
    said = torch.where(gray, (luma * said).sum(1, keepdim=True).expand_as(said), said)
    low, high = (F.interpolate(edge, scale_factor=4) for edge in (2 * least - most, 2 * most - least))
    return torch.where(said > low, said, low).minimum(high)  # a NaN to the least


def _bicubic(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)


def _reduced(image: Tensor) -> Tensor:
    """A quarter of the size, by Keys' kernel (a = -0.5) stretched over 16 pixels; edges repeated."""
    t = ((torch.arange(16).double() + 0.5) / 4 - 2).abs()
    weight = torch.where(t < 1, (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)
    weight = weight / weight.sum()
    kernel = torch.outer(weight, weight).expand(3, 1, 16, 16)
    return F.conv2d(F.pad(image, (6, 6, 6, 6), mode="replicate"), kernel, stride=4, groups=3)


def _local(x: Tensor, pool: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Over 3x3 cells, edges repeated."""
    return pool(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _smooth(x: Tensor) -> Tensor:
    """Binomial means over 5x5 cells, which see nothing of stripes one cell wide; edges repeated."""
    weight = torch.tensor([1, 4, 6, 4, 1]).double() / 16
    kernel = torch.outer(weight, weight).expand(3, 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)

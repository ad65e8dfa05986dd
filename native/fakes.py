"""Shapes of the ops without their data, for torch.compile and torch.export.

The arguments are those of the ops' schemas, used or not.
"""
# ruff: noqa: ARG001
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.library.register_fake("pixeltier::plan")
def _plan(importance: Tensor, threshold: Tensor, keep_best: bool) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return importance.new_empty((count,), dtype=torch.int32)


@torch.library.register_fake("pixeltier::dense_table")
def _dense_table(active: Tensor, images: int, height: int, width: int, kernel: int, stride: int) -> Tensor:
    return active.new_empty((active.shape[0], kernel * kernel))


@torch.library.register_fake("pixeltier::packed_table")
def _packed_table(active: Tensor, images: int, height: int, width: int, kernel: int) -> Tensor:
    return active.new_empty((active.shape[0], kernel * kernel))


@torch.library.register_fake("pixeltier::child_table")
def _child_table(parent: Tensor, kernel: int) -> Tensor:
    return parent.new_empty((4 * parent.shape[0], kernel * kernel))


@torch.library.register_fake("pixeltier::prepack_weight")
def _prepack_weight(weight: Tensor, dtype: torch.dtype, shuffle: int, isa: str) -> Tensor:
    outputs, inputs, height, width = weight.shape
    sizes: Sequence[int] = torch.ops.pixeltier.packed_sizes(outputs, inputs, height * width, dtype, isa)
    return weight.new_empty((sizes[1],), dtype=dtype)


@torch.library.register_fake("pixeltier::sparse_conv2d")
def _sparse_conv2d(
    rows: Tensor,
    table: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    residual: Tensor | None,
    outputs: int,
    shuffle: int,
    macs_per_row: int,
    isa: str,
) -> tuple[Tensor, int]:
    children = shuffle * shuffle
    count = table.shape[0]
    return rows.new_empty((count * children + 1, outputs // children)), count * macs_per_row


@torch.library.register_fake("pixeltier::sparse_conv2d_scatter_")
def _sparse_conv2d_scatter(
    trunk: Tensor,
    rows: Tensor,
    table: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    active: Tensor,
    outputs: int,
    isa: str,
) -> None:
    return None


@torch.library.register_fake("pixeltier::activated_conv2d_")
def _activated_conv2d(
    out: Tensor,
    rows: Tensor,
    table: Tensor,
    tile_outputs: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    residual: Tensor | None,
    activation: str,
    isa: str,
) -> None:
    return None


@torch.library.register_fake("pixeltier::image_lines")
def _image_lines(image: Tensor, kernel: int, dtype: torch.dtype) -> Tensor:
    channels, height, width = image.shape
    if image.dtype == torch.uint8:
        height, width, channels = image.shape
    pad = kernel // 2 * 2
    return image.new_empty(((height + pad) * (width + pad) * channels + kernel * channels,), dtype=dtype)


@torch.library.register_fake("pixeltier::line_table")
def _line_table(active: Tensor, height: int, width: int, kernel: int) -> Tensor:
    return active.new_empty((active.shape[0], kernel))


@torch.library.register_fake("pixeltier::sparse_residual_body")
def _sparse_residual_body(
    rows: Tensor,
    table: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    slopes: list[Tensor | None],
    macs_per_row: int,
    isa: str,
) -> tuple[Tensor, int]:
    return torch.empty_like(rows), table.shape[0] * macs_per_row


@torch.library.register_fake("pixeltier::tile_table")
def _tile_table(
    active: Tensor, images: int, height: int, width: int, packed: bool, size: int
) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return active.new_empty((count, (size + 2) ** 2)), active.new_empty((count, size**2))


@torch.library.register_fake("pixeltier::child_tile_table")
def _child_tile_table(parent: Tensor) -> Tensor:
    return parent.new_empty((parent.shape[0], 16))


@torch.library.register_fake("pixeltier::winograd_conv2d")
def _winograd_conv2d(
    rows: Tensor,
    table: Tensor,
    tile_outputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    residual: Tensor | None,
    count: int,
    outputs: int,
    shuffle: int,
    isa: str,
) -> Tensor:
    children = shuffle * shuffle
    return rows.new_empty((count * children + 1, outputs // children))


@torch.library.register_fake("pixeltier::winograd_conv2d_scatter_")
def _winograd_conv2d_scatter(
    trunk: Tensor,
    rows: Tensor,
    table: Tensor,
    tile_outputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    active: Tensor,
    outputs: int,
    isa: str,
) -> None:
    return None


@torch.library.register_fake("pixeltier::winograd_residual_body")
def _winograd_residual_body(
    rows: Tensor,
    table: Tensor,
    tile_outputs: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    slopes: list[Tensor | None],
    isa: str,
) -> Tensor:
    return torch.empty_like(rows)


@torch.library.register_fake("pixeltier::plan_padded")
def _plan_padded(importance: Tensor, threshold: Tensor, keep_best: bool) -> tuple[Tensor, Tensor]:
    numbers = importance.new_empty((importance.numel(),), dtype=torch.int32)
    return numbers, importance.new_empty((importance.shape[0],), dtype=torch.int32)


@torch.library.register_fake("pixeltier::gather_rows")
def _gather_rows(rows: Tensor, active: Tensor) -> Tensor:
    return rows.new_empty((active.shape[0] + 1, rows.shape[1]))


@torch.library.register_fake("pixeltier::compose")
def _compose(x: Tensor, pixels: Tensor) -> Tensor:
    count, colours, height, width = x.shape
    return x.new_empty((count, 4 * height, 4 * width, colours), dtype=torch.uint8)


@torch.library.register_fake("pixeltier::pool_windows")
def _pool_windows(rows: Tensor, images: int, height: int, width: int, window: int) -> Tensor:
    count = images * -(-height // window) * -(-width // window)
    return rows.new_empty((count + 1, 2 * rows.shape[1]))


@torch.library.register_fake("pixeltier::pooled_stem")
def _pooled_stem(
    pixels: Tensor,
    levels: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    outputs: int,
    kernel: int,
    stride: int,
    isa: str,
) -> Tensor:
    images, height, width, _ = pixels.shape
    cells = -(-height // (2 * stride)) * -(-width // (2 * stride))
    return levels.new_empty((images * cells + 1, outputs))


@torch.library.register_fake("pixeltier::prepack_mbconv")
def _prepack_mbconv(
    weights: list[Tensor],
    biases: list[Tensor],
    scales: list[Tensor],
    extras: list[float],
    shape: list[int],
    dtype: torch.dtype,
    isa: str,
) -> Tensor:
    size: int = torch.ops.pixeltier.mbconv_packed_size(shape, dtype, isa)
    return weights[0].new_empty((size,), dtype=torch.uint8)


@torch.library.register_fake("pixeltier::mbconv_network")
def _mbconv_network(
    pixels: Tensor,
    levels: Tensor | None,
    packed: Tensor,
    shape: list[int],
    dtype: torch.dtype,
    kept_block: int,
    isa: str,
) -> tuple[Tensor, Tensor, Tensor]:
    images, height, width, _ = pixels.shape
    kept_size = 0, 0
    for block, stride in enumerate((2, *shape[6::5]), start=-1):
        height, width = -(-height // stride), -(-width // stride)
        if block == kept_block >= 0:
            kept_size = images * height * width, shape[2 + 5 * block + 2]
    logits = packed.new_empty((images, shape[1]), dtype=torch.float32)
    features = packed.new_empty((images * height * width + 1, shape[0]), dtype=torch.float32)
    kept = packed.new_empty(kept_size, dtype=torch.uint8 if dtype == torch.int8 else torch.float32)
    return logits, features, kept

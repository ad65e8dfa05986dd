"""The sparse convolution as Python calls it.

Features are *rows*: ``[R + 1, C]``, channels last, contiguous, float32 or bfloat16 (on CUDA also float16); the
last row is zero and stands for every neighbour that is outside the image or not active. *Cells* of a grid are numbered
``n*H*W + y*W + x``; an *active list* names cells in ascending order; a *table* ``[A, T]`` names the row that
each of a convolution's T taps reads, for each of A output cells. All index tensors are int32.

Every call releases the GIL and runs on torch's threads; results do not depend on how many there are.

On CUDA the same calls put kernels on the current stream and wait for nothing (only :func:`plan` does). What would
need the host to look at data is not raised there: entries of a table that name no row read zeros. Lists may be
*padded* (:func:`plan_padded`): the tables of a padded list are padded, and kernels stop at the first padded row, so
that a count need never leave the device. Of results, rows beyond the count are then undefined, and multiply-adds
are those of the list's whole length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixeltier.native.instruction_sets import cpu_isa

_ops = torch.ops.pixeltier

PADDING = -1
"""What fills a padded list beyond its count."""


def cuda_isa() -> str:
    """What new weights for CUDA are packed for: ``cuda``, or ``cuda_tf32`` where torch may use TF32."""
    return "cuda_tf32" if torch.backends.cuda.matmul.allow_tf32 else "cuda"


def plan(importance: Tensor, threshold: Tensor, keep_best: bool = False) -> Tensor:
    """The active list of a batch: cells with ``importance[n, y, x] >= threshold[n]``.

    importance: float32 [N, H, W]; threshold: float32 [N]. With keep_best an image's best cell (its first
    maximum) is active under any threshold. NaN is never active. Raising a threshold never activates a cell.
    Returns int32 [A], ascending.
    """
    active: Tensor = _ops.plan(importance, threshold, keep_best)
    return active


def plan_padded(importance: Tensor, threshold: Tensor, keep_best: bool = False) -> tuple[Tensor, Tensor]:
    """As :func:`plan`, at full length: int32 [N*H*W], ``PADDING`` beyond the count, and int32 [N] of counts.

    On CUDA nothing waits for the device. Ops on the CPU do not take padded lists.
    """
    result: tuple[Tensor, Tensor] = _ops.plan_padded(importance, threshold, keep_best)
    return result


def dense_table(active: Tensor, images: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
    """The table of a convolution that reads a dense grid in place.

    ``images, height, width`` measure the input grid, whose rows are its cells; ``active`` numbers cells of
    the output grid, of size ``(size - 1) // stride + 1``. Padding is ``kernel // 2``; a tap outside the image
    names the zero row N*H*W. Returns int32 [A, kernel*kernel]. IndexError where active does not ascend within
    the output grid.
    """
    table: Tensor = _ops.dense_table(active, images, height, width, kernel, stride)
    return table


def packed_table(active: Tensor, images: int, height: int, width: int, kernel: int) -> Tensor:
    """The table of a stride 1 convolution from packed rows to packed rows.

    Row i holds cell ``active[i]``; a tap outside the image or on an inactive cell names the zero row A.
    Returns int32 [A, kernel*kernel]. IndexError where active does not ascend within the grid.
    """
    table: Tensor = _ops.packed_table(active, images, height, width, kernel)
    return table


def child_table(parent: Tensor, kernel: int = 3) -> Tensor:
    """The packed table after a pixel shuffle of 2: child ``4*i + 2*dy + dx`` of row i, zero row 4*A.

    parent: a packed table int32 [A, k*k] with
    ``k // 2 >= ceil((kernel // 2) / 2)`` (3 serves 3 and 5, 5 serves 9). Returns int32 [4*A, kernel*kernel].
    """
    table: Tensor = _ops.child_table(parent, kernel)
    return table


def gather_rows(rows: Tensor, active: Tensor) -> Tensor:
    """``rows[active]`` and a zero row: [R + 1, C] to [A + 1, C]."""
    out: Tensor = _ops.gather_rows(rows, active)
    return out


COMPOSE_REACH = 10
"""Cells around a cell whose pixels `compose` reads for it (`kComposeReach` of pixeltier/compose.h); of x one more."""


def compose(x: Tensor, pixels: Tensor) -> Tensor:
    """What networks say of the enlarged image of x, held to x, as bytes.

    A pixel lies within the range of the 3x3 cells around, widened by that range on both sides, so that a flat area
    stays flat, and has no colour where those are gray. The result is corrected so that it gives x again when it is
    reduced.

    x: float32 [N, 3, H, W] in [0, 1]; pixels: float32 [N*H*W, 48], the 4x4 pixels of each cell in raster order, RGB
    each. Returns uint8 [N, 4H, 4W, 3]: 255 times the values, rounded and clamped.
    """
    image: Tensor = _ops.compose(x, pixels)
    return image


def has_cuda() -> bool:
    """Whether this build has the CUDA kernels; a GPU to run them is another matter."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("pixeltier::sparse_conv2d", "CUDA"))


@dataclass(frozen=True, slots=True)
class Tiles:
    """Where a Winograd convolution reads and writes; made by :func:`tile_table` or :func:`child_tile_table`.

    table: int32 [T, 16], the rows of the 4x4 patch around each of T tiles of 2x2 outputs; outputs: int32
    [T, 4], the rows it writes, -1 for none; count: output rows in all. Tiles of 4x4 have [T, 36] and [T, 16].
    """

    table: Tensor
    outputs: Tensor
    count: int

    @property
    def fill(self) -> float:
        """Share of the tiles' outputs that are wanted: the rest is computed in vain."""
        return self.count / max(1, self.outputs.numel())


def tile_table(active: Tensor, images: int, height: int, width: int, *, packed: bool, size: int = 2) -> Tiles:
    """The tiles of size x size cells (2 or 4), aligned to multiples of it, that hold any active cell.

    packed: rows are the active list, as for :func:`packed_table`; otherwise a dense grid in place, as for
    :func:`dense_table`. IndexError where active does not ascend within the grid.
    """
    table, outputs = _ops.tile_table(active, images, height, width, packed, size)
    return Tiles(table, outputs, active.shape[0])


def child_tile_table(parent: Tensor) -> Tiles:
    """The same for :func:`child_table`'s grid: the four children of a row of ``parent`` [A, 9] are a tile."""
    count = parent.shape[0]
    outputs = torch.arange(4 * count, dtype=torch.int32).view(count, 4)
    return Tiles(_ops.child_tile_table(parent), outputs, 4 * count)


def has_winograd(dtype: torch.dtype, isa: str | None = None, tile: int = 2) -> bool:
    """Whether an instruction set ([the one in use]) has a Winograd kernel for tiles of 2x2 or 4x4.

    All but AMX in bf16 have one for 2x2; 4x4, whose transforms amplify rounding, is for float32.
    """
    answer: bool = _ops.has_winograd(dtype, isa or cpu_isa(), tile)
    return answer


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A convolution laid out for the kernels of one instruction set; made by :func:`prepack_weight`.

    It runs on that set wherever it is used, so a later change of PIXELTIER_ISA cannot mismatch the layout.
    """

    weight: Tensor
    bias: Tensor | None
    slope: Tensor | None
    inputs: int
    outputs: int
    taps: int
    shuffle: int
    macs_per_row: int
    isa: str
    winograd: bool

    @property
    def dtype(self) -> torch.dtype:
        """What rows this weight takes: float32 or bfloat16."""
        return self.weight.dtype


def _pad_channels(values: Tensor | None, name: str, outputs: int, shuffle: int, padded: int) -> Tensor | None:
    """Values of the outputs in packed order, padded with zeros; slopes may be one, or one per channel."""
    if values is None:
        return None
    flat = values.detach().to("cpu", torch.float32).reshape(-1)
    children = shuffle * shuffle
    channels = outputs // children
    if flat.numel() == outputs:
        flat = flat.reshape(channels, children).t().reshape(-1)
    elif name == "slope" and flat.numel() in (1, channels):
        flat = flat.expand(channels).repeat(children)
    else:
        raise ValueError(
            f"{name} must have one value for each of {outputs} outputs, got shape {tuple(values.shape)}"
        )
    return torch.nn.functional.pad(flat, (0, padded - outputs)).contiguous()


def prepack_weight(
    weight: Tensor,
    bias: Tensor | None = None,
    slope: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    shuffle: int = 1,
    macs_per_row: int | None = None,
    isa: str | None = None,
    winograd: bool = False,
    tile: int = 2,
    device: torch.device | str = "cpu",
) -> PackedWeight:
    """Lays out a convolution for :func:`sparse_conv2d`.

    weight: [O, I, kh, kw] as in torch.nn.Conv2d; bias: [O]; slope: PReLU's [O], [1], or one per channel after
    the shuffle (zeros are ReLU, None is identity). dtype: of the rows, float32 or bfloat16; sums are float32
    either way. shuffle: r of a pixel shuffle that follows; outputs are permuted from torch.nn.PixelShuffle's
    order so that the result's rows are the children's rows. macs_per_row: what one output row counts for,
    where the weight embeds a smaller convolution among structural zeros; kh*kw*I*O otherwise. isa: another
    set than :func:`cpu_isa`. winograd: for tiles (:class:`Tiles`) of tile x tile outputs instead of a table; 3x3
    kernels only. The count stays that of the convolution, however few multiplications Winograd needs. device: where
    the rows will be.
    On CUDA isa is ``cuda``, or ``cuda_tf32``, which rounds float32 to TF32 before it multiplies; where it is not given,
    torch.backends.cuda.matmul.allow_tf32 decides. There dtype may be float16, too.
    """
    device = torch.device(device)
    isa = isa or (cpu_isa() if device.type == "cpu" else cuda_isa())
    if macs_per_row is None:
        macs_per_row = weight.numel()
    if winograd:
        weight = winograd_weight(weight, tile)
    outputs, inputs, height, width = weight.shape
    packed: Tensor = _ops.prepack_weight(
        weight.detach().to("cpu", torch.float32).contiguous(), dtype, shuffle, isa
    )
    padded: int = _ops.packed_sizes(outputs, inputs, height * width, dtype, isa)[0]
    bias, slope = (
        None if values is None else values.to(device)
        for values in (
            _pad_channels(bias, "bias", outputs, shuffle, padded),
            _pad_channels(slope, "slope", outputs, shuffle, padded),
        )
    )
    return PackedWeight(
        weight=packed.to(device),
        bias=bias,
        slope=slope,
        inputs=inputs,
        outputs=outputs,
        taps=height * width,
        shuffle=shuffle,
        macs_per_row=macs_per_row,
        isa=isa,
        winograd=winograd,
    )


_WINOGRAD_WEIGHTS = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def winograd_weight(weight: Tensor, tile: int = 2) -> Tensor:
    """G g G^T of each 3x3 kernel (Lavin & Gray, arXiv 1509.09308): [O, I, 3, 3] to [O, I, tile + 2, tile + 2]."""
    if weight.shape[2:] != (3, 3):
        raise ValueError(
            f"Winograd's F({tile}x{tile}, 3x3) needs 3x3 kernels, got shape {tuple(weight.shape)}"
        )
    if tile not in _WINOGRAD_WEIGHTS:
        raise ValueError(f"Winograd tiles are of 2x2 or 4x4, got tile {tile}")
    transform = torch.tensor(_WINOGRAD_WEIGHTS[tile], dtype=torch.float64)
    return (transform @ weight.detach().double() @ transform.t()).float()


def _check_layout(where: Tensor | Tiles, *layers: PackedWeight) -> None:
    """A table goes with plain weights, tiles with Winograd's."""
    if any(layer.winograd != isinstance(where, Tiles) for layer in layers):
        raise ValueError("a weight packed with winograd=True needs Tiles, any other one a table")


def sparse_conv2d(
    rows: Tensor, table: Tensor | Tiles, packed: PackedWeight, residual: Tensor | None = None
) -> tuple[Tensor, int]:
    """``activate(convolution + bias + residual)`` of the rows a table names.

    rows: [R + 1, I] with its last row zero; table: int32 [A, T] of row numbers 0 to R, or Tiles for a weight
    packed for Winograd; residual: like the result, with or without its zero row. Returns the rows
    [A*r*r + 1, O/(r*r)] (r: the shuffle), the last one zero, and the multiply-adds executed. IndexError where
    the table names a row that does not exist; ValueError or TypeError where shapes or types do not fit each
    other.
    """
    _check_layout(table, packed)
    if isinstance(table, Tiles):
        out: Tensor = _ops.winograd_conv2d(
            rows,
            table.table,
            table.outputs,
            packed.weight,
            packed.bias,
            packed.slope,
            residual,
            table.count,
            packed.outputs,
            packed.shuffle,
            packed.isa,
        )
        return out, table.count * packed.macs_per_row
    result: tuple[Tensor, int] = _ops.sparse_conv2d(
        rows,
        table,
        packed.weight,
        packed.bias,
        packed.slope,
        residual,
        packed.outputs,
        packed.shuffle,
        packed.macs_per_row,
        packed.isa,
    )
    return result


def joined_rows(rows: Tensor, group: int) -> Tensor:
    """Each ``group`` of consecutive rows seen as one, without a copy.

    rows: [n * group + 1, C] as :func:`sparse_conv2d` returned them; group: at most 16. Returns
    [n + 1, group * C], the last row zero.
    """
    wide = group * rows.shape[1]
    return rows.as_strided((rows.shape[0] // group + 1, wide), (wide, 1))


def pool_windows(rows: Tensor, images: int, height: int, width: int, window: int) -> Tensor:
    """Means and maxima of the windows of a grid, for what decides about whole windows.

    rows: [at least N*H*W, C], a grid's cells in place. Returns rows [N*ceil(H/window)*ceil(W/window) + 1, 2*C]: means,
    then maxima; a ragged window has the cells that there are. The last row is zero.
    """
    out: Tensor = _ops.pool_windows(rows, images, height, width, window)
    return out


def pooled_stem(pixels: Tensor, levels: Tensor, packed: PackedWeight, stride: int) -> Tensor:
    """The first convolution of a residual network, its activation and a 3x3 maximum pool of stride 2, from bytes.

    pixels: uint8 [N, H, W, C]; levels: [C, 256] of the rows' type, what each byte of each channel stands for; packed: a
    convolution of K x K as K taps of K*C inputs (:func:`line_weight`), without shuffle. Padding is K // 2, with zeros
    in place of levels. Returns rows [N*h*w + 1, O] with h = ceil(ceil(H / stride) / 2); the last row is zero.
    """
    out: Tensor = _ops.pooled_stem(
        pixels,
        levels,
        packed.weight,
        packed.bias,
        packed.slope,
        packed.outputs,
        packed.taps,
        stride,
        packed.isa,
    )
    return out


def line_weight(weight: Tensor) -> Tensor:
    """[O, I, K, K] as K taps of K*I inputs, [O, K*I, K, 1]: in a channels-last image a kernel's line is one row."""
    outputs, inputs, kernel, _ = weight.shape
    return weight.permute(0, 3, 1, 2).reshape(outputs, kernel * inputs, kernel, 1)


def image_lines(image: Tensor, kernel: int, dtype: torch.dtype) -> Tensor:
    """An image as overlapping rows, for convolutions packed with :func:`line_weight` over values of 0 to 255.

    image: uint8 [H, W, C], or float32 [C, H, W] in [0, 1], which is multiplied by 255: bytes are exact in bfloat16.
    Padding is kernel // 2, with zeros. Returns rows [(H + pad) * (W + pad) + 1, kernel * C] (pad: 2 * (kernel // 2))
    without a copy for each: row y * (W + pad) + x starts at that pixel of the padded image. The last row is zero.
    """
    channels = image.shape[2] if image.dtype == torch.uint8 else image.shape[0]
    lines: Tensor = _ops.image_lines(image, kernel, dtype)
    pixels = lines.shape[0] // channels - kernel
    return lines.as_strided((pixels + 1, kernel * channels), (channels, 1))


def line_table(active: Tensor, height: int, width: int, kernel: int) -> Tensor:
    """Which rows of :func:`image_lines` each tap of a kernel reads, for active cells of one image's grid.

    Returns int32 [A, kernel]. IndexError where active does not ascend within the grid.
    """
    table: Tensor = _ops.line_table(active, height, width, kernel)
    return table


def sparse_conv2d_scatter_(
    trunk: Tensor, rows: Tensor, table: Tensor | Tiles, packed: PackedWeight, active: Tensor
) -> int:
    """``trunk[active] = activate(trunk[active] + convolution + bias)``, in place.

    trunk: [R + 1, O]; rows: [S + 1, I], not of the trunk's memory; table: int32 [A, T], or Tiles of A output
    rows for a weight packed for Winograd; active: int32 [A], ascending rows of the trunk. Rows that are not
    active keep their values. Returns the multiply-adds executed. Errors as for :func:`sparse_conv2d`.
    """
    if packed.shuffle != 1:
        raise ValueError(
            f"a scatter cannot shuffle pixels, got a weight packed with shuffle={packed.shuffle}"
        )
    _check_layout(table, packed)
    if isinstance(table, Tiles):
        _ops.winograd_conv2d_scatter_(
            trunk,
            rows,
            table.table,
            table.outputs,
            packed.weight,
            packed.bias,
            packed.slope,
            active,
            packed.outputs,
            packed.isa,
        )
        return table.count * packed.macs_per_row
    _ops.sparse_conv2d_scatter_(
        trunk, rows, table, packed.weight, packed.bias, packed.slope, active, packed.outputs, packed.isa
    )
    return table.shape[0] * packed.macs_per_row


def activated_conv2d_(
    out: Tensor,
    rows: Tensor,
    table: Tensor | Tiles,
    packed: PackedWeight,
    activation: str = "prelu",
    residual: Tensor | None = None,
) -> int:
    """A convolution with a smooth activation, into rows ``out`` [A + 1, O] that there are.

    With y the convolution and its bias and x the residual (zero where there is none), the activation is ``prelu``:
    as :func:`sparse_conv2d`; ``silu``: v * sigmoid(v) of v = y + x; ``gate``: (y + x) * (sigmoid(y) - 1/2).

    out: of the rows' type, or float32; it shares no memory with rows, its last row becomes zero. residual: [A or more,
    O] of the rows' type; it may be out itself. packed: without slopes unless for ``prelu``; a shuffle is in the order
    of the outputs only. Returns the multiply-adds executed. Errors as for :func:`sparse_conv2d`.
    """
    _check_layout(table, packed)
    where, outputs = (table.table, table.outputs) if isinstance(table, Tiles) else (table, None)
    _ops.activated_conv2d_(
        out,
        rows,
        where,
        outputs,
        packed.weight,
        packed.bias,
        packed.slope,
        residual,
        activation,
        packed.isa,
    )
    return (out.shape[0] - 1) * packed.macs_per_row


def sparse_residual_body(
    rows: Tensor, table: Tensor | Tiles, layers: Sequence[PackedWeight]
) -> tuple[Tensor, int]:
    """A chain of residual blocks over packed rows, in one call and two buffers.

    For each pair of layers ``x = act2(x + conv2(act1(conv1(x))))``; a last, single layer closes the body with
    ``act(rows + conv(x))``. Bit for bit what the same calls of :func:`sparse_conv2d` give. rows: [A + 1, C]
    with its last row zero; table: int32 [A, T] of these rows, or Tiles for layers packed for Winograd; layers:
    packed for C inputs and C outputs, T taps, without shuffle. Returns rows [A + 1, C] and the multiply-adds
    executed. Errors as for :func:`sparse_conv2d`.
    """
    if any(layer.shuffle != 1 for layer in layers) or len({layer.isa for layer in layers}) != 1:
        raise ValueError(
            "a body needs layers packed for one instruction set and without shuffle, got "
            + (", ".join(sorted({f"{layer.isa} shuffle={layer.shuffle}" for layer in layers})) or "none")
        )
    _check_layout(table, *layers)
    macs_per_row = sum(layer.macs_per_row for layer in layers)
    weights = [layer.weight for layer in layers]
    biases = [layer.bias for layer in layers]
    slopes = [layer.slope for layer in layers]
    isa = layers[0].isa
    if isinstance(table, Tiles):
        body: Tensor = _ops.winograd_residual_body(
            rows, table.table, table.outputs, weights, biases, slopes, isa
        )
        return body, table.count * macs_per_row
    result: tuple[Tensor, int] = _ops.sparse_residual_body(
        rows, table, weights, biases, slopes, macs_per_row, isa
    )
    return result

"""The CUDA kernels on CPU tensors: the sources of native/src/cuda as C++, the machine's operations in software.

:class:`EmulatedOps` stands in for ``torch.ops.pixeltier`` behind :mod:`pixeltier.native.ops`. It mirrors what
native/src/ops/cuda does around the kernels: allocation, strides, which pointer goes where.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).parent
NATIVE = HERE.parents[3] / "native"
ELEMENTS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def build(directory: Path, *flags: str) -> Path:
    """Compile the kernels for the host; returns the library."""
    cuda = NATIVE / "src" / "cuda"
    sources = [*sorted(cuda.glob("*.cu")), cuda / "pack_weight.cpp", HERE / "kernels.cpp"]
    options = ["-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", *flags]
    options += [f"-I{NATIVE / 'include'}", f"-I{HERE}", '-DPIXELTIER_SIMT="simt.h"']
    objects = [directory / f"{source.name}.o" for source in sources]
    waiting = [
        (["g++", *options, "-x", "c++", "-c", str(source), "-o", str(to)])
        for source, to in zip(sources, objects, strict=True)
    ]
    while waiting:  # two compilers at a time
        running = [subprocess.Popen(waiting.pop()) for _ in range(min(2, len(waiting)))]
        for compiler in running:
            if compiler.wait(timeout=240) != 0:
                raise RuntimeError(f"g++ failed: {compiler.args!r}")
    library = directory / "libpixeltier_simt.so"
    subprocess.run(["g++", *flags, "-shared", "-o", library, *objects], check=True, timeout=120)
    return library


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    if tensor is not None:
        assert tensor.is_contiguous()
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class EmulatedOps:
    """The ops of torch.ops.pixeltier with the CUDA kernels underneath."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.simt_packed_size.restype = ctypes.c_int64
        self._library.simt_plan_scratch_bytes.restype = ctypes.c_int64
        self.configure()

    def configure(self, multiprocessors: int = 1, late_copies: bool = True, descending: bool = False) -> None:
        """What the programming model leaves open, and how wide the device is."""
        self._library.simt_configure(multiprocessors, late_copies, descending)

    def _call(self, name: str, *arguments: object) -> None:
        function = getattr(self._library, f"simt_{name}")
        function.restype = ctypes.c_char_p
        failure = function(
            *(
                _pointer(a)
                if a is None or isinstance(a, Tensor)
                else ctypes.c_int64(a)
                if type(a) is int
                else a
                for a in arguments
            )
        )
        if failure:
            raise RuntimeError(failure.decode())

    # --- Plans and tables
    def plan_padded(self, importance: Tensor, threshold: Tensor, keep_best: bool) -> tuple[Tensor, Tensor]:
        images, cells = importance.shape[0], importance.shape[1] * importance.shape[2]
        scratch = torch.empty(
            self._library.simt_plan_scratch_bytes(ctypes.c_int64(images), ctypes.c_int64(cells)),
            dtype=torch.uint8,
        )
        active = torch.empty(images * cells, dtype=torch.int32)
        counts = torch.empty(images, dtype=torch.int32)
        self._call(
            "plan", importance, threshold, ctypes.c_bool(keep_best), images, cells, scratch, active, counts
        )
        return active, counts

    def plan(self, importance: Tensor, threshold: Tensor, keep_best: bool) -> Tensor:
        active, counts = self.plan_padded(importance, threshold, keep_best)
        return active[: int(counts.sum())].clone()

    def dense_table(
        self, active: Tensor, images: int, height: int, width: int, kernel: int, stride: int
    ) -> Tensor:
        table = torch.empty(len(active), kernel * kernel, dtype=torch.int32)
        self._call("dense_table", active, len(active), images, height, width, kernel, stride, table)
        return table

    def packed_table(self, active: Tensor, images: int, height: int, width: int, kernel: int) -> Tensor:
        table = torch.empty(len(active), kernel * kernel, dtype=torch.int32)
        position = torch.empty(images * height * width, dtype=torch.int32)
        self._call("packed_table", active, len(active), images, height, width, kernel, position, table)
        return table

    def child_table(self, parent: Tensor, kernel: int) -> Tensor:
        table = torch.empty(4 * len(parent), kernel * kernel, dtype=torch.int32)
        self._call("child_table", parent, len(parent), round(parent.shape[1] ** 0.5), kernel, table)
        return table

    def gather_rows(self, rows: Tensor, active: Tensor) -> Tensor:
        out = torch.empty(len(active) + 1, rows.shape[1], dtype=rows.dtype)
        size = rows.shape[1] * rows.element_size()
        self._call("gather_rows", rows, len(rows) - 1, active, len(active), size, out)
        return out

    def compose(self, x: Tensor, pixels: Tensor) -> Tensor:
        images, _, height, width = x.shape
        image = torch.empty(images, 4 * height, 4 * width, 3, dtype=torch.uint8)
        self._call("compose", x, pixels, images, height, width, image)
        return image

    # --- Convolutions
    def prepack_weight(self, weight: Tensor, dtype: torch.dtype, shuffle: int, isa: str) -> Tensor:
        assert isa in ("cuda", "cuda_tf32")
        outputs, inputs, height, width = weight.shape
        children = shuffle * shuffle
        order = torch.arange(outputs).view(-1, children).t().reshape(-1).contiguous()
        sizes = [ctypes.c_int64(n) for n in (outputs, height * width, inputs)]
        packed = torch.zeros(self._library.simt_packed_size(*sizes, ELEMENTS[dtype]), dtype=dtype)
        self._library.simt_pack_weight(
            _pointer(weight), _pointer(order), *sizes, ELEMENTS[dtype], _pointer(packed)
        )
        return packed

    def packed_sizes(self, outputs: int, inputs: int, taps: int, dtype: torch.dtype, isa: str) -> list[int]:
        sizes = [ctypes.c_int64(n) for n in (outputs, taps, inputs)]
        return [-(-outputs // 16) * 16, self._library.simt_packed_size(*sizes, ELEMENTS[dtype])]

    def _convolve(
        self,
        rows: Tensor,
        table: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        slope: Tensor | None,
        residual: Tensor | None,
        outputs: int,
        isa: str,
        out: Tensor,
        *,
        active: Tensor | None = None,
        zero_row: bool = True,
        sparse: bool = False,
    ) -> None:
        zero_bytes = out.shape[1] * out.element_size()
        self._call(
            "convolution",
            rows,
            len(rows) - 1,
            table,
            len(table),
            outputs,
            table.shape[1],
            rows.shape[1],
            ctypes.c_int(ELEMENTS[rows.dtype]),
            ctypes.c_bool(isa == "cuda"),
            ctypes.c_bool(sparse),
            weight,
            bias,
            slope,
            residual,
            active,
            len(table) if active is None else len(out) - 1,
            out,
            ctypes.c_bool(out.dtype == torch.float32),
            ctypes.c_void_p(out.data_ptr() + (len(out) - 1) * zero_bytes if zero_row else None),
            zero_bytes if zero_row else 0,
        )

    def sparse_conv2d(
        self,
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
        room = torch.full((len(table) * children + 16, outputs // children), torch.nan, dtype=rows.dtype)
        out = room[: len(table) * children + 1]
        sparse = macs_per_row < table.shape[1] * rows.shape[1] * outputs
        self._convolve(rows, table, weight, bias, slope, residual, outputs, isa, out, sparse=sparse)
        return out, len(table) * macs_per_row

    def sparse_conv2d_scatter_(
        self,
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
        self._convolve(
            rows, table, weight, bias, slope, trunk, outputs, isa, trunk, active=active, zero_row=False
        )

    def sparse_residual_body(
        self,
        rows: Tensor,
        table: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        slopes: Sequence[Tensor | None],
        macs_per_row: int,
        isa: str,
    ) -> tuple[Tensor, int]:
        inner, trunk = torch.full_like(rows, torch.nan), torch.full_like(rows, torch.nan)
        layers = list(zip(weights, biases, slopes, strict=True))
        source, channels = rows, rows.shape[1]
        for first, second in zip(layers[0::2], layers[1::2], strict=False):
            self._convolve(source, table, *first, None, channels, isa, inner)
            self._convolve(inner, table, *second, source, channels, isa, trunk)
            source = trunk
        if len(layers) % 2:
            self._convolve(source, table, *layers[-1], rows, channels, isa, inner)
            return inner, len(table) * macs_per_row
        return trunk, len(table) * macs_per_row

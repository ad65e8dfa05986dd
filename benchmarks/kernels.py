"""Speed of the sparse convolution against the processor's own limit, layer by layer.

``python -m benchmarks.kernels --json kernels.json`` times the layers that SRResNet and ResNet-18 spend their
time in, at several shares of active cells, and prints TMAC/s beside the peak: a loop over registers alone, on
as many threads in the same minute. Times are the best of many calls, because what is asked is the kernel's
limit, not the machine's load. Multiply-adds are counted by the counting rule, absent neighbours included;
kernels skip many of those, so sparse layers can lie above the peak, and Winograd's kernel does 16 products for 36
that are counted. The windows of the mask matter: `--windows` gives SRResNet's body at several of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from pixeltier import native
from pixeltier.native import ops

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution of ``channels`` to ``channels`` over ``size`` x ``size`` cells of one image."""

    name: str
    channels: int
    size: int
    shares: tuple[float, ...]


LAYERS = [
    Layer("srresnet body", 64, 128, (1.0, 0.3, 0.1)),
    Layer("resnet18 layer1", 64, 56, (1.0, 0.5)),
    Layer("resnet18 layer2", 128, 28, (1.0, 0.5)),
    Layer("resnet18 layer3", 256, 14, (1.0, 0.5)),
    Layer("resnet18 layer4", 512, 7, (1.0, 0.5)),
]


@dataclass(frozen=True)
class Row:
    """One line of the table; tmacs and peak_tmacs are 10^12 multiply-adds a second."""

    layer: str
    algorithm: str
    channels: int
    size: str
    window: int
    active: float
    rows: int
    dtype: str
    isa: str
    threads: int
    ms: float
    tmacs: float
    peak_tmacs: float
    of_peak: float


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """The shortest of as many calls as fit into ``seconds``, at least ten."""
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while calls < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def peak(dtype: torch.dtype, isa: str, threads: int, seconds: float) -> float:
    """Multiply-adds a second of the kernel's registers alone, on ``threads`` threads at once."""
    steps = 100_000
    spin = torch.ops.pixeltier.register_peak

    def one_thread(_: int) -> float:
        macs: int = spin(dtype, isa, steps)
        return macs / best_seconds(lambda: spin(dtype, isa, steps), seconds)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one_thread, range(threads)))


def active_cells(size: int, share: float, window: int) -> torch.Tensor:
    """About ``share`` of a grid's cells, in random windows of ``window`` x ``window``, as masks have them."""
    side = -(-size // window)
    random = torch.rand(1, side, side, generator=torch.Generator().manual_seed(0))
    importance = random.repeat_interleave(window, 1).repeat_interleave(window, 2)[:, :size, :size]
    return ops.plan(importance.contiguous(), torch.full((1,), 1.0 - share))


def measure(
    layer: Layer, dtype_name: str, isa: str, threads: int, seconds: float, windows: list[int]
) -> Iterator[Row]:
    """The rows of one layer, each with the best time of ``seconds``: by rows, and by tiles where there is a kernel."""
    dtype, channels = DTYPES[dtype_name], layer.channels
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (3 * channels**0.5)
    bias, slope = torch.zeros(channels), torch.full((channels,), 0.25)
    limit = peak(dtype, isa, threads, seconds)
    kinds = ["direct", "winograd"] if ops.has_winograd(dtype, isa) else ["direct"]
    for share, window, kind in itertools.product(layer.shares, windows, kinds):
        tiled = kind == "winograd"
        packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, isa=isa, winograd=tiled)
        active = active_cells(layer.size, share, window)
        grid = 1, layer.size, layer.size
        table = ops.tile_table(active, *grid, packed=True) if tiled else ops.packed_table(active, *grid, 3)
        features = torch.randn(len(active) + 1, channels, generator=generator).to(dtype)
        features[-1] = 0
        _, macs = ops.sparse_conv2d(features, table, packed)
        taken = best_seconds(
            lambda f=features, t=table, p=packed: ops.sparse_conv2d(f, t, p),  # type: ignore[misc]
            seconds,
        )
        speed = macs / taken
        yield Row(
            layer=layer.name,
            algorithm=kind,
            channels=channels,
            size=f"{layer.size}x{layer.size}",
            window=window,
            active=round(len(active) / layer.size**2, 3),
            rows=len(active),
            dtype=dtype_name,
            isa=isa,
            threads=threads,
            ms=round(taken * 1e3, 4),
            tmacs=round(speed / 1e12, 4),
            peak_tmacs=round(limit / 1e12, 4),
            of_peak=round(speed / limit, 3),
        )


def print_row(cells: list[object]) -> None:
    """One line of the table."""
    widths = [max(len(field.name), 7) for field in fields(Row)]
    widths[0] = 16
    widths[8] = 12
    print(" ".join(f"{cell!s:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="F", help="write the rows to F")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (1 2)")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="row types (both)")
    parser.add_argument("--isas", nargs="+", metavar="ISA", help="instruction sets (the one in use; 'all')")
    parser.add_argument(
        "--windows",
        type=int,
        nargs="+",
        default=[4],
        help="side of the mask's windows (4); more than one: SRResNet's body only",
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each measurement (0.5)")
    arguments = parser.parse_args()
    isas = arguments.isas or [native.cpu_isa()]
    if isas == ["all"]:
        isas = native.available_isas()
    rows = []
    print_row([field.name for field in fields(Row)])
    for isa in isas:
        for dtype_name in arguments.dtypes:
            for threads in arguments.threads:
                for layer in LAYERS if len(arguments.windows) == 1 else LAYERS[:1]:
                    for row in measure(layer, dtype_name, isa, threads, arguments.seconds, arguments.windows):
                        rows.append(row)
                        print_row(list(asdict(row).values()))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()

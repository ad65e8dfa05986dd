"""ESPAN x4 on our kernels beside the dense engines, interleaved in one run.

    python -m benchmarks.espan --weights espan_x4.safetensors --onnx espan_x4.onnx

Without weights they are random; without an ONNX file the engines run an export of our own torch network. Ours goes from
a float image to float pixels, as the rivals do. Two figures a case: the median of the wall clock, and the median of the
process's CPU time, which other processes disturb less. Engines are compared by CPU time on one thread and by the wall
clock on several, which need a machine of their own: threads that wait for each other by spinning, as OpenMP's do unless
OMP_WAIT_POLICY is passive, lose most where a third process wants a processor.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.rivals import prepare
from pixeltier.models.evaluation.engines import Run, export, onnxruntime_run, openvino_run
from pixeltier.models.host_memory import keep_freed_memory
from pixeltier.models.inference.espan import RowESPAN
from pixeltier.models.networks.espan import ESPAN, from_public
from pixeltier.native import cpu_isa

SIZES = [(64, 64), (128, 128), (480, 270)]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PAUSE = 0.03
"""Seconds before each run: an engine's threads spin for a while after theirs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one case: medians in milliseconds, `low_ms` the 10th percentile of the wall clock."""

    size: str
    threads: int
    engine: str
    dtype: str
    ms: float
    low_ms: float
    cpu_ms: float


class _Image(nn.Module):
    """The network's image alone, as engines are given it."""

    def __init__(self, network: ESPAN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.network(x)[1]
        return image


def main() -> None:
    """Run the cases asked for, print a table, write rows."""
    options = _options()
    keep_freed_memory()
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for width, height in options.sizes:
            rows += _case(width, height, threads, options)
    print(f"instruction set {cpu_isa()}, torch {torch.__version__}")
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def table(rows: list[Row]) -> str:
    """Markdown; the last column compares with OpenVINO in fp32 of the same case."""
    lines = ["| size | threads | engine | dtype | ms (10 %) | CPU ms | OpenVINO fp32 / this |"]
    lines.append("|---" * 7 + "|")
    for row in rows:
        base = next(r for r in rows if (r.size, r.threads, r.engine, r.dtype) == _baseline(row))
        lines.append(
            f"| {row.size} | {row.threads} | {row.engine} | {row.dtype} | {row.ms:.1f} ({row.low_ms:.1f}) "
            f"| {row.cpu_ms:.1f} | {_compared(base) / _compared(row):.2f} |"
        )
    return "\n".join(lines)


def _compared(row: Row) -> float:
    return row.cpu_ms if row.threads == 1 else row.ms


def _baseline(row: Row) -> tuple[str, int, str, str]:
    return row.size, row.threads, "openvino", "fp32"


def _case(width: int, height: int, threads: int, options: argparse.Namespace) -> list[Row]:
    network = (from_public(load_file(options.weights)) if options.weights else ESPAN()).eval()
    example = torch.rand(1, 3, height, width)
    runs = dict(_engines(network, example, threads, options))
    calls = {key: partial(run, example) for key, run in runs.items()}
    timed = _interleaved(calls, options.seconds)
    return [
        Row(
            f"{width}x{height}",
            threads,
            engine,
            dtype,
            statistics.median(wall),
            sorted(wall)[len(wall) // 10],
            statistics.median(cpu),
        )
        for (engine, dtype), (wall, cpu) in timed.items()
    ]


def _engines(
    network: ESPAN, example: Tensor, threads: int, options: argparse.Namespace
) -> Iterator[tuple[tuple[str, str], Run]]:
    for name, dtype in DTYPES.items():
        yield ("pixeltier", name), RowESPAN(network, dtype)
    plain = _Image(network)
    onnx = options.onnx.read_bytes() if options.onnx else export(plain, example)
    for name, dtype in DTYPES.items():
        yield ("openvino", name), openvino_run(onnx, dtype, threads)
    yield ("onnxruntime", "fp32"), onnxruntime_run(onnx, threads)
    run = prepare("torch", plain, example, torch.float32, threads)
    if run is not None:
        yield ("torch", "fp32"), run


def _interleaved(
    calls: dict[tuple[str, str], Callable[[], Any]], seconds: float
) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Milliseconds of wall clock and of CPU of each call, in rounds in which each has its turn (five at least)."""
    times: dict[tuple[str, str], tuple[list[float], list[float]]] = {key: ([], []) for key in calls}
    end = time.perf_counter() + seconds
    while min(len(wall) for wall, _ in times.values()) < 5 or time.perf_counter() < end:
        for key, call in calls.items():
            time.sleep(PAUSE)
            call()  # wakes threads that sleep
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[key][0].append(1000 * (time.perf_counter() - wall))
            times[key][1].append(1000 * (time.process_time() - cpu))
    return times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="the published weights (safetensors)")
    parser.add_argument("--onnx", type=Path, help="what the engines run; an export of our own otherwise")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--sizes", nargs="+", type=_size, default=SIZES, metavar="WxH")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case, at least five rounds")
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()

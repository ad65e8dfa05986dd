"""EfficientNet-Lite0, dense, on the native kernels beside four engines, interleaved in one run.

    python -m benchmarks.base --json benchmarks/results/base.json

Ours goes from uint8 crops to logits and last features, the rivals from float tensor to logits. In int8 the rival is
OpenVINO with the network quantised by NNCF (where that is installed). Weights are random: time does not depend on them.
Every figure is a median over rounds in which each engine runs once.
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.rivals import ENGINES, prepare
from pixeltier.models.evaluation.engines import prepare_int8
from pixeltier.models.evaluation.interleaved import Timed, interleaved
from pixeltier.models.host_memory import keep_freed_memory
from pixeltier.models.inference.dense import frozen_copy
from pixeltier.models.inference.efficientnet_lite import NativeEfficientNetLite, float_layers, pixel_levels
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.models.quantization import feature_ranges, quantize
from pixeltier.native import cpu_isa

INT8_RIVAL = "openvino int8"
CALIBRATION_PHOTOS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one case; ms is the median, low and high the 10th and 90th percentile."""

    size: int
    batch: int
    threads: int
    dtype: str
    engine: str
    ms: float
    low_ms: float
    high_ms: float


def main() -> None:
    """Run the cases asked for and print a table."""
    options = _options()
    keep_freed_memory()
    torch.manual_seed(0)
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for batch in options.batches:
            rows += _case(options, batch, threads)
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"\ninstruction set {cpu_isa()}, torch {torch.__version__}")
    print(table(rows))


def _case(options: argparse.Namespace, batch: int, threads: int) -> list[Row]:
    network = frozen_copy(EfficientNetLite(), torch.float32)
    pixels = torch.randint(256, (batch, options.size, options.size, 3), dtype=torch.uint8)
    x = pixel_levels()[0][pixels.long()].permute(0, 3, 1, 2).contiguous()
    photos = list(torch.randn(CALIBRATION_PHOTOS, *x.shape))
    quantised = quantize(network, feature_ranges(network, photos))
    runs: list[tuple[str, str, Timed]] = [
        (dtype, "pixeltier", partial(NativeEfficientNetLite(layers), pixels))
        for dtype, layers in (("fp32", float_layers(network)), ("int8", quantised))
    ]
    for engine in options.engines:
        run = prepare(engine, network, x, torch.float32, threads)
        if run is not None:
            runs.append(("fp32", engine, partial(run, x)))
    int8 = prepare_int8(network, photos, threads)
    if int8 is not None:
        runs.append(("int8", INT8_RIVAL, partial(int8, x)))
    label = f"{options.size} x{batch} {threads} threads"
    times = interleaved([run for _, _, run in runs], options.seconds, label)
    return [
        Row(
            options.size,
            batch,
            threads,
            dtype,
            engine,
            statistics.median(samples),
            float(np.percentile(samples, 10)),
            float(np.percentile(samples, 90)),
        )
        for (dtype, engine, _), samples in zip(runs, times, strict=True)
    ]


def table(rows: list[Row]) -> str:
    """Markdown; the last column compares with ours of the same case and precision."""
    lines = [
        "| size | batch | threads | dtype | engine | ms (10 - 90 %) | this / ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        key = row.batch, row.threads, row.dtype
        ours = next(r.ms for r in rows if (r.batch, r.threads, r.dtype) == key and r.engine == "pixeltier")
        lines.append(
            f"| {row.size} | {row.batch} | {row.threads} | {row.dtype} | {row.engine} "
            f"| {row.ms:.2f} ({row.low_ms:.2f} - {row.high_ms:.2f}) | {row.ms / ours:.2f} |"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--size", type=int, default=224, help="of the crop")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case, at least five rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()

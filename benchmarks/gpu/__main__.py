"""The proof on a GPU, in one command: build, check, measure.

``python -m benchmarks.gpu --out docs/gpu-results.md`` builds the extension where it has no CUDA kernels yet, runs the
correctness tests on the GPU (and a part of them under compute-sanitizer where there is one), and prints the tables of
docs/gpu.md within ten minutes. It needs torch with CUDA, nvcc, a C++ compiler, cmake, pytest and hypothesis; nothing is
downloaded. A part that fails says so and does not stop the others; the exit status is that of the correctness tests.

Times are medians of CUDA events in one process; kernels are timed as twenty launches in a CUDA graph, models as they
would be called. The limit of a kernel is max(bytes / bandwidth, MACs / peak), both measured here first: a copy of a
gigabyte, and a bf16 product of 8192 x 8192 x 8192.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.correctness import build, cuda_is_built, run_tests
from benchmarks.gpu.kernels import Limits, layers, measure_layer, measure_limits, measure_small_kernels
from benchmarks.gpu.models import measure_resnet, measure_srresnet
from benchmarks.gpu.report import Report
from benchmarks.gpu.timing import Clock

ROOT = Path(__file__).resolve().parents[2]


def describe(report: Report, device: torch.device) -> None:
    """The machine."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor()} (a rehearsal)"
    report.say(f"# {name}\n")
    report.say(
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}.\n"
    )


def measure(report: Report, device: torch.device, deadline: float, scale: int) -> None:
    """The tables; a part is left out when the time is up."""
    clock = Clock(device, 30 if scale == 1 else 1)
    compiled = scale == 1
    torch.backends.cudnn.benchmark = True
    measured: list[Limits] = []

    def late(part: str) -> bool:
        if time.monotonic() > deadline:
            report.say(f"{part}: left out, the time is up.\n")
            return True
        return False

    with report.part("Limits"):
        limits = measure_limits(clock, scale if scale == 1 else 16)
        measured.append(limits)
        report.say(f"{limits.bandwidth / 1e12:.2f} TB/s, {limits.macs / 1e12:.1f} TMAC/s in bf16.\n")
    with report.part("SRResNet x4"):
        measure_srresnet(report, clock, (1, 8) if scale == 1 else (1,), scale, compiled=compiled)
    if not late("ResNet-18"):
        with report.part("ResNet-18"):
            measure_resnet(report, clock, scale, compiled=compiled)
    if measured and not late("Kernels"):
        with report.part("Kernels"):
            rows = [
                measure_layer(layer, share, torch.bfloat16, "cuda", clock, measured[0])
                for layer in layers(scale)
                for share in layer.shares
            ]
            rows += [
                measure_layer(layers(scale)[0], 0.5, torch.float32, isa, clock, measured[0])
                for isa in ("cuda_tf32", "cuda")
            ]
            rows += measure_small_kernels(clock, measured[0], scale)
            head = ["kernel", "type", "active", "rows", "ms", "TMAC/s", "limit ms", "time / limit"]
            report.table(head, rows)
            report.say("The limit of fp32 and TF32 rows is that of bf16 products, which they cannot reach.\n")


def rehearse(report: Report, deadline: float) -> None:
    """The tables of tiny cases, the kernels in software as the tests run them: whether this program works."""
    from pixeltier.native import ops
    from tests.unit.native.simt.emulated import EmulatedOps
    from tests.unit.native.simt.emulated import build as build_emulated

    with tempfile.TemporaryDirectory() as folder:
        ops._ops = EmulatedOps(build_emulated(Path(folder)))
        describe(report, torch.device("cpu"))
        measure(report, torch.device("cpu"), deadline, scale=40)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, build, test, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, metavar="F", help="write the report to F, as Markdown")
    parser.add_argument("--minutes", type=float, default=9.0, help="start no further part after this (9)")
    parser.add_argument("--skip-tests", action="store_true", help="measure only")
    parser.add_argument(
        "--rehearse", action="store_true", help="on the processor, tiny: whether this script itself works"
    )
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    report = Report()
    passed = True
    if options.rehearse:
        rehearse(report, deadline)
    elif not torch.cuda.is_available():
        print("no CUDA device: nothing to prove here", file=sys.stderr)
        return 2
    else:
        describe(report, torch.device("cuda"))
        with report.part("Build"):
            build(report, 240)
        if not cuda_is_built():
            return 1
        importlib.invalidate_caches()
        if not options.skip_tests:
            with report.part("Correctness"):
                passed = False
                passed = run_tests(report, 150)
        measure(report, torch.device("cuda"), deadline, scale=1)
        left = deadline - time.monotonic()
        if not options.skip_tests and left > 20:
            with report.part("Memory accesses"):
                passed = run_tests(report, left, sanitizer=True) and passed
    if options.out:
        options.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

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
import contextlib
import copy
import importlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/unit/native/test_on_gpu.py", "tests/unit/models/test_device_inference.py"]
SANITIZED = "test_weights_with_structural_zeros_and_padding or test_tables or test_scatter or test_compose"
NOTHING = "0.0%"

Call = Callable[[], object]


# --- Output


@dataclass
class Report:
    """Markdown that is printed as it comes and kept for a file."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Add a line."""
        print(text, flush=True)
        self.lines.append(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + "---|" * len(head))
        for row in rows:
            self.say("| " + " | ".join(str(cell) for cell in row) + " |")
        self.say()

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A section; an error in it is reported and goes no further."""
        self.say(f"## {title}\n")
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.say(f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n")
        print(f"({title}: {time.monotonic() - started:.0f} s)\n", flush=True)


# --- Timing


class Clock:
    """CUDA events; on a machine without a GPU (a rehearsal) the processor's clock."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats

    def ms(self, call: Call) -> float:
        """The median time of a call, in milliseconds."""
        for _ in range(min(3, self.repeats)):
            call()
        return statistics.median(self._one(call) for _ in range(self.repeats))

    def _one(self, call: Call) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    def kernel_ms(self, call: Call, launches: int = 20) -> float:
        """The time of one of many launches, without what the host takes to launch them."""
        if self.device.type != "cuda":
            return self.ms(call)
        return self.ms(captured(lambda: [call() for _ in range(launches)])) / launches


def captured(call: Call) -> Call:
    """A call as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


# --- Build and correctness


def cuda_is_built() -> bool:
    """Whether `native` imports and has its CUDA kernels; asked in another process, since a build follows."""
    code = "import sys; from native import ops; sys.exit(0 if ops.has_cuda() else 1)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    return done.returncode == 0


def build(report: Report, seconds: float) -> None:
    """Compile the extension for this GPU with cmake and put it beside native/__init__.py."""
    if cuda_is_built():
        report.say("The extension at hand has the CUDA kernels.\n")
        return
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).exists():
        raise RuntimeError("this build has no CUDA kernels and there is no nvcc to make one")
    started = time.monotonic()
    major, minor = torch.cuda.get_device_capability()
    directory = ROOT / "build" / "gpu"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", "-S", "native", "-B", str(directory), *generator, "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    configure += [f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}", "-DCMAKE_CUDA_FLAGS=-Xptxas -v"]
    compile_ = ["cmake", "--build", str(directory), "--parallel", str(os.cpu_count() or 2)]
    log = ""
    for command in (configure, compile_):
        left = max(30.0, seconds - (time.monotonic() - started))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
        log += done.stdout + done.stderr
        if done.returncode != 0:
            print(log[-6000:])
            raise RuntimeError(f"{' '.join(command[:2])} failed")
    spills = [
        line for line in log.splitlines() if "bytes spill stores" in line and "0 bytes spill" not in line
    ]
    for library in directory.glob("_C*.so"):
        shutil.copy2(library, ROOT / "native" / library.name)
    if not cuda_is_built():
        raise RuntimeError(
            "the build works, but another one is imported: reinstall it (pip install --no-build-isolation -e .)"
        )
    took = time.monotonic() - started
    report.say(f"Built for sm_{major}{minor} in {took:.0f} s, {len(spills)} kernels with spills.\n")


def run_tests(report: Report, seconds: float, *, sanitizer: bool = False) -> bool:
    """The tests that need a GPU; returns whether they passed."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={ROOT}", "-q", "-x"]
    command += ["-p", "no:cacheprovider", "-W", "ignore"]
    if sanitizer:
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not Path(tool).exists():
            report.say("compute-sanitizer: not on this machine.\n")
            return True
        command = [tool, "--tool", "memcheck", "--error-exitcode", "9", *command]
        command += [TESTS[0], "-k", SANITIZED]
    else:
        command += [*TESTS, "-k", "not emulated"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1" if sanitizer else "0",
    }
    if not sanitizer:
        del environment["PYTORCH_NO_CUDA_MEMORY_CACHING"]
    name = "compute-sanitizer memcheck" if sanitizer else "correctness"
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        report.say(f"{name}: not finished after {seconds:.0f} s.\n")
        return sanitizer
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode != 0:
        print("\n".join(lines[-60:]))
    summary = next((line for line in reversed(lines) if " passed" in line or " failed" in line), "no summary")
    report.say(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}: {summary.strip('= ')}\n")
    return done.returncode == 0


# --- Limits and kernels


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
    from native import ops

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
    from native import ops

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


# --- Models


def load(task: str) -> tuple[Any, list[float]]:
    """A network with the shipped weights, and its calibration; from the files alone."""
    from safetensors.torch import load_file

    from models.networks.resnet18 import ResNet18, ResNet18Shape
    from models.networks.srresnet import SRResNet, SRResNetShape

    name = {"super_resolve": "srresnet_x4", "classify": "resnet18"}[task]
    card = json.loads((ROOT / "models" / "weights" / f"{name}.json").read_text(encoding="utf-8"))
    shape = card["architecture"]
    model = SRResNet(SRResNetShape(**shape)) if task == "super_resolve" else ResNet18(ResNet18Shape(**shape))
    model.load_state_dict(
        {k: v.float() for k, v in load_file(ROOT / f"models/weights/{name}.safetensors").items()}
    )
    return model.eval().requires_grad_(False), card["calibration"]


def photos(count: int, height: int, width: int) -> Tensor:
    """float32 [count, 3, height, width] in [0, 1]: the sample photo from different corners, or noise without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    with Image.open(ROOT / "docs" / "samples" / "astronaut.jpg") as opened:
        photo = opened.convert("RGB").resize((width + 8 * count, height + 8 * count))
        data = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8)
    whole = data.view(height + 8 * count, width + 8 * count, 3).permute(2, 0, 1).float() / 255
    return torch.stack([whole[:, 8 * n : 8 * n + height, 8 * n : 8 * n + width] for n in range(count)])


def rival(network: nn.Module, x: Tensor, clock: Clock, *, compiled: bool) -> float:
    """The dense network in bf16, channels last, through cuDNN: eager or compiled. Milliseconds."""
    dense = copy.deepcopy(network).to(device=clock.device, dtype=torch.bfloat16)
    dense = dense.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = x.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    run: Callable[[Tensor], Tensor] = dense
    if compiled:
        run = torch.compile(dense, mode="reduce-overhead")
    with torch.inference_mode():
        return clock.ms(lambda: run(given))


def rivals(
    report: Report, network: nn.Module, x: Tensor, clock: Clock, *, compiled: bool
) -> dict[str, float]:
    """Both rivals; a compiler that fails is reported and left out."""
    times = {"cuDNN eager": rival(network, x, clock, compiled=False)}
    if compiled:
        try:
            times["torch.compile"] = rival(network, x, clock, compiled=True)
        except Exception as error:
            traceback.print_exc()
            report.say(f"torch.compile failed: {type(error).__name__}\n")
    return times


def replayed(
    clock: Clock, call: Callable[..., Sequence[Tensor]], *inputs: Tensor
) -> tuple[float, Sequence[Tensor]]:
    """Time of a call as a CUDA graph, and its results."""
    from models.inference.device import Graph

    if clock.device.type != "cuda":
        return clock.ms(lambda: call(*inputs)), call(*inputs)
    graph = Graph(call, *inputs)
    return clock.ms(graph), graph()


def share_for(saved: float, dense: float, always: float, cell: float) -> float:
    """Active cells for each cell of the image, so that this much is saved."""
    return max(0.0, min(1.0, ((1 - saved) * dense - always) / cell))


def measure_srresnet(
    report: Report, clock: Clock, batches: Sequence[int], scale: int, *, compiled: bool
) -> None:
    """SRResNet x4 at LR 480x270: exact and with at least 90 % saved, beside the dense network."""
    from benchmarks.rivals import PlainSRResNet
    from models import counting
    from models.calibration import Calibration
    from models.inference.device_srresnet import DeviceSRResNet

    model, knots = load("super_resolve")
    network = DeviceSRResNet(model, torch.bfloat16, clock.device, isa="cuda")
    calibrate = Calibration(knots, clock.device)
    height, width = max(12, 270 // scale), max(12, 480 // scale)

    def enlarge(x: Tensor, thresholds: Tensor) -> Sequence[Tensor]:
        result = network.enlarge(x, thresholds, calibrate)
        return result.image, result.counts, result.windows

    rows: list[list[object]] = []
    for batch in batches:
        x = photos(batch, height, width).to(clock.device)
        cells = batch * height * width
        times = rivals(report, PlainSRResNet(model), x, clock, compiled=compiled and batch == batches[0])
        best = min(times.values())
        rows += [[batch, name, NOTHING, f"{ms:.3f}", f"{best / ms:.2f}", ""] for name, ms in times.items()]
        exact = torch.zeros(batch, device=clock.device)
        windows = enlarge(x, exact)[2].flatten(1).float()
        always = network.light_macs + network.importance_macs
        share = share_for(0.905, counting.srresnet_dense(), always, network.body_macs + network.tail_macs)
        sparse = windows.quantile(1 - share, dim=1)
        for name, thresholds, target in (("exact", exact, 1.0), ("sparse", sparse, 4.0)):
            ms, results = replayed(clock, enlarge, x, thresholds)
            saved = 1 - network.macs(cells, int(results[1].sum())) / (cells * counting.srresnet_dense())
            met = "met" if best / ms >= target else "MISSED"
            rows.append(
                [
                    batch,
                    f"pixeltier {name}",
                    f"{100 * saved:.1f}%",
                    f"{ms:.3f}",
                    f"{best / ms:.2f}",
                    f">= {target:g}: {met}",
                ]
            )
            if name == "exact":
                with torch.inference_mode():
                    eager = clock.ms(partial(enlarge, x, thresholds))
                rows.append(
                    [
                        batch,
                        "pixeltier exact, no graph",
                        f"{100 * saved:.1f}%",
                        f"{eager:.3f}",
                        f"{best / eager:.2f}",
                        "",
                    ]
                )
    report.say(
        f"LR {width}x{height}, bf16. Ours: float32 pixels to uint8 pixels with importance, plan and composition, one "
        "CUDA graph; rivals: the dense network from bf16 to bf16, channels last, cuDNN's own choice of algorithms.\n"
    )
    report.table(["batch", "engine", "MACs saved", "ms", "fastest rival / this", "target"], rows)


def measure_resnet(report: Report, clock: Clock, scale: int, *, compiled: bool) -> None:
    """ResNet-18 at 224, batch 64: exact and with half saved."""
    from benchmarks.rivals import PlainResNet18
    from models import counting
    from models.calibration import Calibration
    from models.inference.device_resnet18 import DeviceResNet18

    model, knots = load("classify")
    network = DeviceResNet18(model, torch.bfloat16, clock.device, isa="cuda")
    calibrate = Calibration(knots, clock.device)
    batch, size = max(1, 64 // scale), 224 if scale == 1 else 32
    shown = photos(batch, size, size).to(clock.device)
    x = (shown - 0.45) / 0.225
    pixels = (255 * shown).byte().permute(0, 2, 3, 1).contiguous()
    dense = batch * counting.resnet18_dense(size, size, model.shape.classes)

    def classify(images: Tensor, thresholds: Tensor) -> Sequence[Tensor]:
        result = network.classify(images, thresholds, calibrate)
        return result.logits, result.counts

    def saved_at(counts: Tensor) -> float:
        executed = batch * network.fixed_macs(size, size)
        executed += sum(int(of_stage.sum()) * counting.resnet18_cell(n) for n, of_stage in enumerate(counts))
        return 1 - executed / dense

    low, high = 0.0, 1.0
    for _ in range(12 if scale == 1 else 1):  # the least threshold that saves half
        middle = (low + high) / 2
        saved = saved_at(classify(pixels, torch.full((batch,), middle, device=clock.device))[1])
        low, high = (middle, high) if saved < 0.5 else (low, middle)
    times = rivals(report, PlainResNet18(model), x, clock, compiled=compiled)
    eager, best = times["cuDNN eager"], min(times.values())
    rows: list[list[object]] = [
        [name, NOTHING, f"{ms:.3f}", f"{eager / ms:.2f}", f"{best / ms:.2f}", ""]
        for name, ms in times.items()
    ]
    for name, threshold, target in (("exact", 0.0, None), ("half saved", high, 1.4)):
        ms, results = replayed(clock, classify, pixels, torch.full((batch,), threshold, device=clock.device))
        saved = saved_at(results[1])
        met = "" if target is None else f">= {target:g}: {'met' if eager / ms >= target else 'MISSED'}"
        rows.append(
            [
                f"pixeltier {name}",
                f"{100 * saved:.1f}%",
                f"{ms:.3f}",
                f"{eager / ms:.2f}",
                f"{best / ms:.2f}",
                met,
            ]
        )
    report.say(
        f"{size}x{size}, batch {batch}, bf16; ours as one CUDA graph, importance and plans included.\n"
    )
    report.table(["engine", "MACs saved", "ms", "cuDNN eager / this", "fastest rival / this", "target"], rows)


# --- The whole


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
        describe(report, torch.device("cpu"))
        measure(report, torch.device("cpu"), deadline, scale=40)
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

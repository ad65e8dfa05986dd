"""The extension with CUDA kernels, and the tests that need a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.report import Report

ROOT = Path(__file__).resolve().parents[2]
TESTS = ["tests/unit/native/test_on_gpu.py", "tests/unit/models/test_device_inference.py"]
SANITIZED = "test_weights_with_structural_zeros_and_padding or test_tables or test_scatter or test_compose"


def cuda_is_built() -> bool:
    """Whether the extension loads and has its CUDA kernels; asked in another process, since a build follows."""
    code = "import sys; from pixeltier.native import ops; sys.exit(0 if ops.has_cuda() else 1)"
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
    for made in (*directory.glob("_C*.so"), directory / "_build_info.py"):
        shutil.copy2(made, ROOT / "native" / made.name)
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

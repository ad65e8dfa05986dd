"""The CUDA side of a build: what the host does for it, and that nvcc compiles the kernels without spills."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pixeltier.native import ops, reference
from tests.unit.native.simt.emulated import NATIVE

NVCC = shutil.which("nvcc") or next(
    (str(path) for path in [Path("/usr/local/cuda/bin/nvcc")] if path.exists()), None
)
SOURCES = sorted((NATIVE / "src" / "cuda").glob("*.cu"))


@pytest.mark.skipif(NVCC is None, reason="no nvcc here: the CUDA kernels are compiled where there is one")
def test_kernels_compile_without_spills(tmp_path: Path) -> None:
    def compile_one(source: Path) -> str:
        command = [str(NVCC), "-std=c++20", "-O3", "-arch=sm_90", "-cubin", "-Xptxas", "-v"]
        command += ["-I", str(NATIVE / "include"), "-o", str(tmp_path / f"{source.stem}.cubin"), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    # The 16-bit kernels are of one template: one type stands for both.
    sources = [source for source in SOURCES if source.stem != "convolution_f16"]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        report = "".join(pool.map(compile_one, sources))
    kernels = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_90'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        report,
        re.DOTALL,
    )
    for name, stores, loads, registers in kernels:
        print(f"{registers:>4} registers, {stores} + {loads} bytes spilled  {name[:100]}")
    assert len(kernels) >= 16
    assert all((stores, loads) == ("0", "0") for _, stores, loads, _ in kernels)


def test_weights_for_cuda_are_packed_on_any_machine() -> None:
    packed = ops.prepack_weight(torch.rand(20, 5, 3, 3), torch.rand(20), dtype=torch.float16, isa="cuda")
    # Two groups of 16 outputs; 9 taps of one chunk of 8 channels make two steps of 64; two occupancy bytes a step.
    assert packed.weight.shape == (2 * 2 * 16 * 64 + 2,)
    assert packed.bias is not None
    assert packed.bias.shape == (32,)


def test_rows_on_the_processor_refuse_weights_for_cuda() -> None:
    packed = ops.prepack_weight(torch.rand(8, 8, 1, 1), isa="cuda")
    with pytest.raises(ValueError, match="rows on the CPU cannot use a weight packed for 'cuda'"):
        ops.sparse_conv2d(torch.zeros(2, 8), torch.zeros(1, 1, dtype=torch.int32), packed)


def test_a_padded_plan_on_the_processor_is_the_plan_and_padding() -> None:
    importance = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    threshold = torch.tensor([0.2, 0.9, 2.0])
    active, counts = ops.plan_padded(importance, threshold, keep_best=True)
    expected = reference.plan(importance, threshold, keep_best=True)
    assert torch.equal(active[: len(expected)], expected)
    assert bool((active[len(expected) :] == ops.PADDING).all())
    assert torch.equal(counts, torch.bincount(expected // 35, minlength=3).int())


def test_gathering_and_composing_on_the_processor() -> None:
    rows = torch.rand(6, 3)
    out = ops.gather_rows(rows, torch.tensor([1, 4], dtype=torch.int32))
    assert torch.equal(out, torch.cat([rows[[1, 4]], torch.zeros(1, 3)]))
    generator = torch.Generator().manual_seed(0)
    x, pixels = torch.rand(2, 3, 2, 3, generator=generator), torch.rand(12, 48, generator=generator)
    image = ops.compose(x, pixels)
    assert image.shape == (2, 8, 12, 3)
    assert int((image.int() - reference.compose(x, pixels).int()).abs().max()) <= 1

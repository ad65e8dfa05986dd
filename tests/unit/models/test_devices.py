"""Choosing a device where none, some or an old GPU can be used; a GPU that is lost ends its worker."""

import logging
import subprocess
import sys

import pytest
import torch

from pixeltier.models import devices
from pixeltier.models.precision import fixed_dtype


def test_the_processor_needs_nothing():
    assert devices.choose("cpu") == torch.device("cpu")


def test_auto_falls_back_and_says_why(monkeypatch, caplog):
    monkeypatch.setattr(devices, "why_not_cuda", lambda: "torch finds no CUDA device")
    with caplog.at_level(logging.WARNING):
        assert devices.choose("auto:1") == torch.device("cpu")
    assert "torch finds no CUDA device" in caplog.text


def test_a_gpu_that_cannot_be_used_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "why_not_cuda", lambda: "this torch was built without CUDA")
    with pytest.raises(devices.DeviceError, match="cuda:0 cannot be used: this torch was built without CUDA"):
        devices.choose("cuda:0")


def test_reasons_against_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert devices.why_not_cuda() == "this torch was built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("pixeltier.native.ops.has_cuda", lambda: False)
    assert "built without its CUDA kernels" in devices.why_not_cuda()
    monkeypatch.setattr("pixeltier.native.ops.has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda n: (7, 5) if n else (9, 0))
    assert "this GPU has 7.5" in devices.why_not_cuda()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert devices.why_not_cuda() is None
    assert devices.choose("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(devices.DeviceError, match="there are 2 CUDA devices"):
        devices.choose("cuda:2")


def test_gpus_compute_in_bf16_unless_told_otherwise():
    gpu = torch.device("cuda", 0)
    assert fixed_dtype("auto", gpu) == torch.bfloat16
    assert fixed_dtype("fp32", gpu) == torch.float32


def test_a_lost_gpu_ends_the_process():
    code = (
        "from pixeltier.service.worker.engine import _on_device\n"
        "def fault(): raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "def bug(): raise RuntimeError('a bug')\n"
        "try: _on_device(bug)\n"
        "except RuntimeError: print('lives', flush=True)\n"
        "_on_device(fault)\nprint('lives on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "lives\n"

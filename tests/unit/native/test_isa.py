"""Choosing the instruction set."""

from __future__ import annotations

import pytest
import torch

from pixeltier import native
from pixeltier.native import ops

KNOWN = sorted({kernel.isa for kernel in native.kernels()} - {"amx_emulated"})


def test_the_best_available_set_is_used(monkeypatch):
    monkeypatch.delenv("PIXELTIER_ISA", raising=False)
    assert native.available_isas()[0] == "portable"
    assert native.cpu_isa() == native.available_isas()[-1]
    assert ops.prepack_weight(torch.rand(1, 1, 1, 1)).isa == native.cpu_isa()


@pytest.mark.parametrize("isa", native.available_isas())
def test_the_environment_forces_one(isa, monkeypatch):
    monkeypatch.setenv("PIXELTIER_ISA", isa)
    assert native.cpu_isa() == isa
    assert ops.prepack_weight(torch.rand(1, 1, 1, 1)).isa == isa


def test_an_unknown_name_is_refused(monkeypatch):
    monkeypatch.setenv("PIXELTIER_ISA", "quantum")
    with pytest.raises(ValueError, match=r"unknown instruction set 'quantum'.*portable, avx2"):
        native.cpu_isa()


@pytest.mark.parametrize("isa", [isa for isa in KNOWN if isa not in native.available_isas()])
def test_a_set_the_machine_lacks_is_refused(isa, monkeypatch):
    monkeypatch.setenv("PIXELTIER_ISA", isa)
    with pytest.raises(ValueError, match=f"cannot run the instruction set '{isa}'.*it has portable"):
        native.cpu_isa()


def test_a_packed_weight_keeps_its_set(monkeypatch):
    packed = ops.prepack_weight(torch.rand(5, 3, 1, 1))
    monkeypatch.setenv("PIXELTIER_ISA", "portable")
    table = torch.zeros(1, 1, dtype=torch.int32)
    out, _ = ops.sparse_conv2d(torch.zeros(2, 3), table, packed)
    assert out.shape == (2, 5)


@pytest.mark.parametrize("kernel", native.kernels(), ids=lambda kernel: kernel.name)
def test_every_kernel_is_the_choice_of_its_set(kernel):
    """A kernel that its own instruction set passes over would never run."""
    assert kernel.chosen == kernel.name


def test_kernels_of_all_kinds_are_listed():
    names = {kernel.name for kernel in native.kernels()}
    assert {"portable_f32", "portable_bf16", "portable_mbconv_f32", "portable_mbconv_int8"} <= names
    assert len(names) == len(native.kernels())

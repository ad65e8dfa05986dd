"""Fixtures around the emulated kernels, for tests of `native` and of `models`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from pixeltier.native import ops
from tests.unit.native.simt.emulated import EmulatedOps, build

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to compile the kernels")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> EmulatedOps:
    """The CUDA kernels with the machine's operations in software, compiled once."""
    return EmulatedOps(build(tmp_path_factory.mktemp("simt")))


@pytest.fixture
def cuda(emulated: EmulatedOps, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedOps]:
    """pixeltier.native.ops on the emulated kernels."""
    monkeypatch.setattr(ops, "_ops", emulated)
    yield emulated
    emulated.configure()

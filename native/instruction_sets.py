"""Which instruction set the kernels for processors use; native/include/pixeltier/instruction_sets.h has the table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_ops = torch.ops.pixeltier


def cpu_isa() -> str:
    """The instruction set that new packed weights use: the best one the machine has, or ``PIXELTIER_ISA``.

    ValueError where PIXELTIER_ISA is unknown, or a set that this machine lacks.
    """
    isa: str = _ops.cpu_isa()
    return isa


def available_isas() -> list[str]:
    """The instruction sets this machine can run, slowest first."""
    names: list[str] = _ops.available_isas()
    return names


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of this build, its instruction set, and which kernel that set uses for the same element type."""

    name: str
    isa: str
    chosen: str


def kernels() -> list[Kernel]:
    """All kernels for processors that were built, whether this one can run them or not."""
    return [Kernel(*line.split()) for line in _ops.kernels()]

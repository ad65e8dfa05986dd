"""Pixeltier's sparse convolution: kernels over packed rows, chosen at run time by what the processor has.

Importing this package loads the compiled library and registers its ops in ``torch.ops.pixeltier``. Use them
through :mod:`native.ops`; :mod:`native.reference` states the same semantics in plain torch.
"""

from native import _C, fakes, ops, reference
from native.ops import available_isas, cpu_isa

__all__ = ["_C", "available_isas", "cpu_isa", "fakes", "ops", "reference"]

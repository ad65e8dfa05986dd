"""Pixeltier's sparse convolution: kernels over packed rows, chosen at run time by what the processor has.

Importing this package loads the compiled library and registers its ops in ``torch.ops.pixeltier``. Use them
through :mod:`pixeltier.native.ops`; :mod:`pixeltier.native.reference` states the same semantics in plain torch.
"""

from pixeltier.native import binary_interface

_C = binary_interface.load()  # before the modules below, which describe the ops that it registers

from pixeltier.native import fakes, mbconv, ops, reference  # noqa: E402
from pixeltier.native.instruction_sets import available_isas, cpu_isa, kernels  # noqa: E402

__all__ = ["_C", "available_isas", "cpu_isa", "fakes", "kernels", "mbconv", "ops", "reference"]

"""Where inference runs: the processor, or a GPU that this build has kernels for."""

import logging

import torch

from pixeltier.native import ops

log = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """A device was asked for that cannot be used; the message says why and what to do."""


def why_not_cuda() -> str | None:
    """Why no GPU can be used here, or None where one can."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    if not ops.has_cuda():
        return "pixeltier was built without its CUDA kernels: build it where nvcc is, with this torch"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    weakest = min(torch.cuda.get_device_capability(n) for n in range(torch.cuda.device_count()))
    if weakest < (8, 0):
        return f"the kernels need compute capability 8.0, this GPU has {weakest[0]}.{weakest[1]}"
    return None


def choose(name: str) -> torch.device:
    """The device called cpu, cuda, cuda:N, or auto, auto:N: that GPU where it can be used, else the processor.

    Raises:
        DeviceError: the GPU cannot be used.
    """
    kind, _, number = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    trouble = why_not_cuda()
    index = int(number or 0)
    if trouble is None and index >= torch.cuda.device_count():
        trouble = f"there are {torch.cuda.device_count()} CUDA devices"
    if trouble is None:
        return torch.device("cuda", index)
    if kind == "auto":
        log.warning("computing on the processor: %s", trouble)
        return torch.device("cpu")
    raise DeviceError(f"device {name} cannot be used: {trouble}")

"""Which devices the workers compute on. Counts GPUs without CUDA or torch: this runs in the front process."""

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pixeltier.service.configuration.cpus import QuotaExceededError

PATTERN = r"^(cpu|auto|cuda(:\d+)?)$"


class NoSuchDeviceError(QuotaExceededError):
    """More GPUs were asked for than this process may see."""


def visible(dev: Path = Path("/dev"), environ: Mapping[str, str] = os.environ) -> int:
    """How many GPUs a worker would see: those of CUDA_VISIBLE_DEVICES, else the system's device files."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    present = sum(1 for path in dev.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    present = present or int((dev / "dxg").exists())  # the Windows subsystem shows one
    if chosen is None:
        return present
    named = [name.strip() for name in chosen.split(",")]
    # CUDA stops reading at the first entry that is not a device.
    ends = (place for place, name in enumerate(named) if name in ("", "-1"))
    return min(present, next(ends, len(named))) if present else 0


def torch_has_cuda() -> bool:
    """What the installed torch was built for, from its version alone."""
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def devices(setting: str, count: int | None = None, built: bool | None = None) -> list[str]:
    """The device of each worker, one worker a GPU; ["cpu"] where workers are as many as the CPUs bear.

    Args:
        setting: cpu, cuda, cuda:N, or auto: GPUs where there are some and torch can use them.
        count: GPUs there are; looked up if None.
        built: whether torch was built for CUDA; looked up if None.

    Raises:
        NoSuchDeviceError: there is no such GPU.
    """
    if setting == "cpu":
        return ["cpu"]
    count = visible() if count is None else count
    if setting == "auto":
        built = torch_has_cuda() if built is None else built
        return [f"auto:{number}" for number in range(count)] if count and built else ["cpu"]
    if setting == "cuda" and count:
        return [f"cuda:{number}" for number in range(count)]
    number = int(setting.partition(":")[2] or 0)
    if number >= count:
        raise NoSuchDeviceError(
            f"device {setting} was asked for and {count} GPUs are visible (/dev/nvidia*, CUDA_VISIBLE_DEVICES); "
            "set PIXELTIER_DEVICE to cpu or auto, or give the container a GPU"
        )
    return [setting]

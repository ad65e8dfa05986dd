"""How many workers and threads the CPU quota bears: W workers of T threads need W * T <= quota."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class QuotaExceededError(ValueError):
    """More threads were asked for than there are CPUs to run them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Workers and the threads in each."""

    slots: int
    threads: int


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs this process may use: the least of its affinity mask and its cgroup's quota (v2 or v1)."""
    limits = [
        float(len(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else float(os.cpu_count() or 1)
    ]
    limits += [quota for quota in (_quota_v2(root), _quota_v1(root)) if quota is not None]
    return min(limits)


def _own_groups() -> dict[str, str]:
    """Controller -> path of this process's group; the unified (v2) hierarchy is the empty name."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    groups = {}
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _upwards(root: Path, path: str) -> list[Path]:
    """The group's folder and its ancestors: a limit of any of them binds."""
    folder = root / path.lstrip("/")
    return [folder, *[parent for parent in folder.parents if parent == root or root in parent.parents]]


def _quota_v2(root: Path) -> float | None:
    quotas = []
    for folder in [root, *_upwards(root, _own_groups().get("", ""))]:
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()[:2]
            if quota != "max":
                quotas.append(float(quota) / float(period))
        except (OSError, ValueError):
            continue
    return min(quotas, default=None)


def _quota_v1(root: Path) -> float | None:
    quotas = []
    for folder in _upwards(root / "cpu", _own_groups().get("cpu", "")):
        try:
            quota = float((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
            period = float((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def shape(slots: int, threads: int, *, preset: Literal["throughput", "latency"], quota: float) -> Shape:
    """Fill in the zeros of `slots` and `threads` so that their product fits the quota.

    Raises:
        QuotaExceededError: the numbers given do not fit; says which would.
    """
    cpus = max(1, math.floor(quota))
    if not slots and not threads:
        chosen = Shape(cpus, 1) if preset == "throughput" else Shape(1, cpus)
    elif not slots:
        chosen = Shape(max(1, cpus // threads), threads)
    elif not threads:
        chosen = Shape(slots, max(1, cpus // slots))
    else:
        chosen = Shape(slots, threads)
    if chosen.slots * chosen.threads > max(1.0, math.ceil(quota)):
        raise QuotaExceededError(
            f"{chosen.slots} workers of {chosen.threads} threads need {chosen.slots * chosen.threads} CPUs and "
            f"the quota is {quota:g}: threads would fight for cores and every request would be slower. Set "
            f"slots * threads <= {cpus} (PIXELTIER_SLOTS, PIXELTIER_THREADS), or 0 to have them chosen."
        )
    return chosen

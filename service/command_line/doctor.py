"""`pixeltier doctor`: what this machine has, what would run, and what is wrong. Imports torch."""

import os
import platform
from collections.abc import Callable
from typing import Any

from pixeltier.service import __version__
from pixeltier.service.configuration import cpus, settings
from pixeltier.service.tasks import Task


def examine() -> int:
    """Print the findings; returns 1 if the service could not start."""
    broken = False
    for name, look in (
        ("pixeltier", lambda: f"{__version__}, Python {platform.python_version()}, {platform.machine()}"),
        ("cpu quota", _quota),
        ("configuration", _configuration),
        ("tier table", _tiers),
        ("torch", _torch),
        ("native", _native),
        ("device", _device),
        ("weights", _weights),
        ("precision", _precision),
    ):
        text, good = _try(look)
        broken = broken or not good
        print(f"{'ok  ' if good else 'BAD '} {name:14} {text}")
    return 1 if broken else 0


def _try(look: Callable[[], str]) -> tuple[str, bool]:
    try:
        return look(), True
    except Exception as error:
        return f"{type(error).__name__}: {error}", False


def _quota() -> str:
    quota = cpus.cpu_quota()
    throughput, latency = (
        cpus.shape(0, 0, preset=preset, quota=quota) for preset in ("throughput", "latency")
    )
    return (
        f"{quota:g} CPUs of {os.cpu_count()}; throughput preset {throughput.slots} workers x "
        f"{throughput.threads} threads, latency preset {latency.slots} x {latency.threads}"
    )


def _configuration() -> str:
    effective = settings.load()
    shape = effective.shape()
    return f"{shape.slots} {effective.pool} workers x {shape.threads} threads, http://{effective.host}:{effective.port}"


def _tiers() -> str:
    from pixeltier.service.tiers import schema

    table = schema.load(settings.load().tiers_file)
    return f"{', '.join(tier.name for tier in table.tiers)}; default {table.default}"


def _torch() -> str:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "no CUDA device"
    return f"{torch.__version__}, {cuda}"


def _native() -> str:
    from pixeltier import native

    forced = os.environ.get("PIXELTIER_ISA")
    why = f"forced by PIXELTIER_ISA={forced}" if forced else f"the best this processor has of {_cpu_flags()}"
    return f"kernels for {native.cpu_isa()}: {why}"


def _device() -> str:
    from pixeltier.models import devices

    effective = settings.load()
    wanted = effective.devices()
    trouble = devices.why_not_cuda()
    if wanted == ["cpu"]:
        unused = "" if trouble else "; there is a GPU that PIXELTIER_DEVICE=auto would use"
        return f"{effective.device}: the processor{unused}"
    chosen = [devices.choose(name) for name in wanted]
    names = [_name_of(device.index) if device.type == "cuda" else "the processor" for device in chosen]
    workers = ", ".join(f"worker {number} on {name}" for number, name in enumerate(names))
    return f"{effective.device}: {workers}" + (f" ({trouble})" if trouble else "")


def _precision() -> str:
    """What each model computes in, and the milliseconds that it was chosen by."""
    from pixeltier.models.engine import Classifier, SuperResolver

    effective = settings.load()
    wanted = effective.precision
    lines = []
    for task, model in (("classify", Classifier), ("super-resolve", SuperResolver)):
        arithmetic = model.load(effective.weights_dir, wanted).arithmetic
        base = "base in int8, " if arithmetic.int8_base else ""
        lines.append(f"{task}: {base}{str(arithmetic.dtype).removeprefix('torch.')}{_measured(arithmetic)}")
    return f"{wanted}: " + "; ".join(lines)


def _measured(arithmetic: Any) -> str:
    parts = [
        f"{what} " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in choice.milliseconds.items())
        for what, choice in arithmetic.measured.items()
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def _name_of(index: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(index)
    share = settings.load().gpu_memory_share
    return (
        f"{properties.name} (cuda:{index}, sm_{properties.major}{properties.minor}, up to "
        f"{share * properties.total_memory / 2**30:.1f} GiB)"
    )


def _cpu_flags() -> str:
    wanted = (
        *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
        *("amx_tile", "amx_bf16"),
    )
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:  # noqa: PTH123 - a stream, read to its first hit
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        return platform.processor() or "unknown flags"
    return ", ".join(flag for flag in wanted if flag in flags) or "none of " + ", ".join(wanted)


def _weights() -> str:
    from pixeltier.service import catalogue

    found = catalogue.load(settings.load().weights_dir)
    return ", ".join(f"{task}: {found.models[task].name} {found.models[task].version}" for task in Task)

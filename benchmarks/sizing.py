"""How many machines: requests a second of one core at each tier, and what pods and Ray Serve add to the same workers.

    python -m benchmarks.sizing tiers --json benchmarks/results/sizing.json
    python -m benchmarks.sizing ways --json benchmarks/results/ways.json        # needs pixeltier[ray]
    python -m benchmarks.sizing write       # both tables into docs/scaling.md

A core is one worker with one thread, kept full by clients that ask as soon as they are answered. The clients and the
front process run on another core: measure on a machine with two idle ones at least.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pages import write_between
from benchmarks.processes import started
from benchmarks.service import image, quantiles, service
from pixeltier.service.tiers import schema

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
TASKS = {"classify": "classify, photo of 451x300", "super-resolve": "super-resolve, 96x96 to 384x384"}
WARM_UP = 5


async def closed_loop(url: str, task: str, tier: str, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` requests in flight for `seconds`; requests a second and milliseconds as the clients see them."""
    body = image(task)
    took: list[float] = []
    refused = 0
    saved = 0.0
    async with httpx.AsyncClient(timeout=120) as client:

        async def ask() -> httpx.Response:
            return await client.post(f"{url}/v1/{task}", params={"tier": tier}, content=body)

        for _ in range(WARM_UP):
            saved = float((await ask()).headers["x-macs-saved-ratio"])
        end = time.perf_counter() + seconds

        async def loop() -> None:
            nonlocal refused
            while (started := time.perf_counter()) < end:
                if (await ask()).status_code == 200:
                    took.append((time.perf_counter() - started) * 1000)
                else:
                    refused += 1

        begun = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(clients)))
        lasted = time.perf_counter() - begun
    return {
        "throughput": round(len(took) / lasted, 2),
        "ms": quantiles(took),
        "refused": refused,
        "macs_saved": round(saved, 4),
    }


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def tiers(seconds: float) -> dict[str, Any]:
    """One worker of one thread at every tier."""
    found: dict[str, Any] = {"machine": machine(), "tiers": []}
    with service(None, slots="1", threads="1") as url:
        for task in TASKS:
            for tier in schema.load().names:
                row = asyncio.run(closed_loop(url, task, tier, 3, seconds))
                found["tiers"].append({"task": task, "tier": tier, **row})
                print(
                    f"{task:14} {tier:9} {row['throughput']:8.2f}/s  p50 {row['ms']['p50']:.1f} ms",
                    flush=True,
                )
    return found


def serve_ray(port: int, slots: int) -> None:
    """The application on a cluster of this machine alone: one front, workers of one thread; until SIGTERM."""
    import ray
    from ray import serve

    from pixeltier.service.configuration.settings import load
    from pixeltier.service.ray.application import Scale, application

    ray.init(num_cpus=slots + 1, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    scale = Scale(front_cpus=0.5, slots_least=slots, slots_most=slots)
    serve.run(application(scale, load()), blocking=False)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


@contextlib.contextmanager
def ray_serve(slots: int) -> Iterator[str]:
    """The application under Ray Serve on a free port."""
    environment = os.environ | {
        "PIXELTIER_LOG_LEVEL": "warning",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    }
    command = ["-m", "benchmarks.sizing", "serve-ray", "--slots", str(slots)]
    with started(command, environment, patience_s=180, quiet=True) as front:
        yield front.url


def ways(seconds: float, slots: int, tier: str) -> dict[str, Any]:
    """The same workers behind a pod's own front and behind Ray Serve: alone, and full."""
    found: dict[str, Any] = {"machine": machine(), "slots": slots, "tier": tier, "ways": []}
    starts = {
        "a pod": lambda: service(None, slots=str(slots), threads="1"),
        "Ray Serve": lambda: ray_serve(slots),
    }
    for name, start in starts.items():
        with start() as url:
            for clients in (1, 4 * slots):
                row = asyncio.run(closed_loop(url, "classify", tier, clients, seconds))
                found["ways"].append({"way": name, "clients": clients, **row})
                print(f"{name:10} {clients:3} clients {row['throughput']:8.2f}/s  {row['ms']}", flush=True)
    return found


def tier_table(found: dict[str, Any]) -> str:
    """Markdown of `tiers`."""
    lines = [
        f"One worker of one thread on {found['machine']['processor']}, {found['machine']['cores']} cores, load before "
        f"{found['machine']['load_before']:.1f} (`python -m benchmarks.sizing tiers`):",
        "",
        "| task | tier | MACs saved | requests/s per core | ms, median (three clients) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {TASKS[row['task']]} | {row['tier']} | {100 * row['macs_saved']:.1f} % | {row['throughput']:.1f} "
        f"| {row['ms']['p50']:.0f} |"
        for row in found["tiers"]
    ]
    return "\n".join(lines)


def way_table(found: dict[str, Any]) -> str:
    """Markdown of `ways`."""
    lines = [
        f"{found['slots']} workers of one thread, classify at tier {found['tier']}, on "
        f"{found['machine']['cores']} cores that the clients share, load before {found['machine']['load_before']:.1f} "
        "(`python -m benchmarks.sizing ways`):",
        "",
        "| front | clients | requests/s | p50 ms | p95 ms | refused |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['clients']} | {row['throughput']:.1f} | {row['ms']['p50']:.1f} "
        f"| {row['ms']['p95']:.1f} | {row['refused']} |"
        for row in found["ways"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("tiers", "ways", "write", "serve-ray"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row [8]")
    parser.add_argument("--slots", type=int, default=2, help="for ways [2]")
    parser.add_argument("--tier", default="fast", help="for ways [fast]")
    parser.add_argument("--port", type=int, default=8000, help="for serve-ray [8000]")
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    if options.command == "write":
        for name, table in (("sizing", tier_table), ("ways", way_table)):
            write_between(PAGE, name, table(json.loads((RESULTS / f"{name}.json").read_text())))
        return
    if options.command == "serve-ray":
        serve_ray(options.port, options.slots)
        return
    found = (
        tiers(options.seconds)
        if options.command == "tiers"
        else ways(options.seconds, options.slots, options.tier)
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The service under load, and what it adds to the models.

    python -m benchmarks.service all --quick       # every table below, six minutes
    python -m benchmarks.service overhead          # one request in flight against the same model in process
    python -m benchmarks.service saturation        # workers kept full against the same jobs back to back
    python -m benchmarks.service presets           # workers and threads of one quota
    python -m benchmarks.service rival             # against LitServe with the dense torch model
    python -m benchmarks.service batching          # classify jobs that share a batch
    python -m benchmarks.service overload --seconds 15    # three times too much, for 60 seconds
    python -m benchmarks.service memory            # a worker's peak on large photos
    python -m benchmarks.service load --rate 20 --seconds 30 --mix classify:fast:3,super-resolve:fast:1

`load` arrives open-loop: at the given rate whatever the service does, as clients in the world do. Every command
starts services of its own (load: unless --url names one), prints tables and writes JSON with --json.
"""

import argparse
import asyncio
import contextlib
import io
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks import capacity
from benchmarks.pages import write_between
from benchmarks.processes import SERVE, started

SAMPLE = Path(__file__).parents[1] / "docs" / "samples" / "chelsea.jpg"
SR_SIDE = 96


def image(task: str) -> bytes:
    """The sample photo, whole for classification, a crop of 96x96 for super-resolution."""
    if task == "classify":
        return SAMPLE.read_bytes()
    out = io.BytesIO()
    Image.open(SAMPLE).crop((130, 60, 130 + SR_SIDE, 60 + SR_SIDE)).save(out, "PNG")
    return out.getvalue()


@contextlib.contextmanager
def service(url: str | None, **settings: str) -> Iterator[str]:
    """The service at `url`, or one of our own on a free port."""
    if url:
        yield url.rstrip("/")
        return
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    with started([*SERVE, "--log-level", "warning", *flags]) as own:
        yield own.url


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    ordered = sorted(values)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 3) for p in (50, 95, 99)}


def timing(header: str) -> dict[str, float]:
    """Server-Timing as milliseconds by stage."""
    parts = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(ms) for name, _, ms in parts}


@dataclass
class Tally:
    """What came back of one kind of request."""

    statuses: Counter[str] = field(default_factory=Counter)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    dense: int = 0
    executed: int = 0

    def add(self, response: httpx.Response, took_ms: float) -> None:
        """Count an answer."""
        good = response.status_code == 200
        self.statuses["200" if good else f"{response.status_code} {response.json().get('type')}"] += 1
        if not good:
            return
        self.stages["client"].append(took_ms)
        for name, ms in timing(response.headers["server-timing"]).items():
            self.stages[name].append(ms)
        self.dense += int(response.headers["x-macs-dense"])
        self.executed += int(response.headers["x-macs-executed"])

    def row(self, seconds: float) -> dict[str, Any]:
        """The kind's results."""
        return {
            "statuses": dict(self.statuses),
            "throughput": round(self.statuses["200"] / seconds, 3),
            "macs_saved": round(1 - self.executed / self.dense, 4) if self.dense else None,
            "ms": {name: quantiles(values) for name, values in self.stages.items()},
        }


@dataclass(frozen=True)
class Kind:
    """A kind of request and its share of the arrivals."""

    task: str
    tier: str
    weight: float

    @property
    def label(self) -> str:
        """Task and tier."""
        return f"{self.task} {self.tier}"


def parse_mix(text: str) -> list[Kind]:
    """`task:tier:weight,...`."""
    kinds = []
    for part in text.split(","):
        task, tier, weight = (*part.split(":"), "1")[:3]
        kinds.append(Kind(task, tier, float(weight)))
    return kinds


async def load(url: str, kinds: list[Kind], rate: float, seconds: float, timeout_ms: int) -> dict[str, Any]:
    """Poisson arrivals at `rate` a second."""
    chance = random.Random(1)
    bodies = {task: image(task) for task in {kind.task for kind in kinds}}
    tallies = {kind.label: Tally() for kind in kinds}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(limits=limits, timeout=timeout_ms / 1000 + 30) as client:

        async def one(kind: Kind) -> None:
            started = time.perf_counter()
            response = await client.post(
                f"{url}/v1/{kind.task}",
                params={"tier": kind.tier},
                content=bodies[kind.task],
                headers={"X-Request-Timeout-Ms": str(timeout_ms)},
            )
            tallies[kind.label].add(response, (time.perf_counter() - started) * 1000)

        jobs = []
        begun = time.perf_counter()
        due = begun
        while (due := due + chance.expovariate(rate)) < begun + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            (kind,) = chance.choices(kinds, [kind.weight for kind in kinds])
            jobs.append(asyncio.create_task(one(kind)))
        await asyncio.gather(*jobs)
        lasted = time.perf_counter() - begun
    return {
        "rate": rate,
        "seconds": round(lasted, 2),
        "kinds": {label: tally.row(lasted) for label, tally in tallies.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Print a result as an indented table."""
    for label, row in result.pop("kinds", {}).items():
        saved = "-" if row["macs_saved"] is None else f"{100 * row['macs_saved']:.1f} %"
        print(f"{label}: {row['throughput']:.2f}/s, MACs saved {saved}, {row['statuses']}")
        for stage, values in row["ms"].items():
            print(f"    {stage:11}" + "".join(f"{name} {ms:10.2f} ms  " for name, ms in values.items()))
    print(json.dumps(result))


PARTS: dict[str, Callable[[capacity.Setup, str], list[dict[str, Any]]]] = {
    "overhead": capacity.overhead,
    "saturation": capacity.saturation,
    "presets": capacity.presets,
    "rival": capacity.rival,
    "batching": capacity.batching,
    "overload": capacity.overload,
    "memory": capacity.memory,
}


def measure(parts: list[str], seconds: float, tier: str, page: Path | None) -> dict[str, Any]:
    """Run parts; print each one's table, and write it into the page, as soon as it is there."""
    images = {task: image(task) for task in ("classify", "super-resolve")}
    setup = capacity.Setup(images, service, seconds)
    found: dict[str, Any] = {"seconds": seconds, "tier": tier}
    for part in parts:
        function = PARTS[part]
        print(f"## {part}\n", flush=True)
        found[part] = function(setup, tier)
        print(capacity.table(found[part]), flush=True)
        print(f"\n(load of the machine: {capacity.median_load()})\n", flush=True)
        if page is not None:
            write_between(page, part, capacity.table(found[part]))
    return found


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("load", "all", *PARTS))
    parser.add_argument(
        "--seconds", type=float, help="of each run [load 20, others 5; overload takes 4 times it]"
    )
    parser.add_argument("--quick", action="store_true", help="runs of 2 seconds, overload of 8")
    parser.add_argument("--tier", default="fast", help="to measure beside exact [fast]")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--page", type=Path, help="write the tables into this page, docs/service.md")
    only_load = parser.add_argument_group("load")
    only_load.add_argument("--url", help="a running service; else one is started")
    only_load.add_argument("--rate", type=float, default=10.0, help="arrivals a second [10]")
    only_load.add_argument("--mix", type=parse_mix, default="classify:balanced:3,super-resolve:balanced:1")
    only_load.add_argument("--timeout-ms", type=int, default=5000, help="deadline of each request [5000]")
    for name in ("slots", "threads"):
        only_load.add_argument(f"--{name}", default="0", help="of the service that is started")
    only_load.add_argument("--max-batch", default="1", help="likewise")
    options = parser.parse_args()
    if options.command == "load":
        shape = {"slots": options.slots, "threads": options.threads, "max_batch": options.max_batch}
        with service(options.url, **shape) as url:
            seconds = options.seconds or 20.0
            result = asyncio.run(load(url, options.mix, options.rate, seconds, options.timeout_ms))
            result["mix"] = [asdict(kind) for kind in options.mix]
    else:
        parts = list(PARTS) if options.command == "all" else [options.command]
        result = measure(
            parts, options.seconds or (2.0 if options.quick else 5.0), options.tier, options.page
        )
    result["median_of_load"] = capacity.median_load()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.command == "load":
        show(result)


if __name__ == "__main__":
    main()

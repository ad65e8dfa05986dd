"""What metrics cost of the service's throughput.

    python -m benchmarks.metrics_cost --json benchmarks/results/metrics_cost.json

Two answers. By CPU time: what counting one request and being scraped takes, over the CPU time that the machine has
for a request at saturation; an upper bound, since slots do not wait for counters. By throughput: a service that counts
and one that does not (the same code with the counting methods emptied), both kept saturated with the cheapest requests
there are, in short turns of one after the other; the difference of neighbouring turns with its 95 % interval.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.monitoring import free_port
from benchmarks.service import image
from service import catalogue
from service.api.record import RequestRecord
from service.metrics import Metrics
from service.tasks import Task
from service.tiers.opening import open_store
from service.worker.messages import Timings, Work

SCRAPE_S = 15.0
"""As deploy/prometheus/prometheus.yml has it."""

SILENT = """
import sys
from service.metrics import Metrics
for name in ("begun", "observe", "batch_started"):
    setattr(Metrics, name, lambda *_, **__: None)
from service.cli import main
sys.exit(main())
"""


def counting_us(repeats: int) -> float:
    """Microseconds that counting one answered classification takes, the best of five runs."""
    metrics = _metrics()
    timings = Timings(1.0, 1.0, 5.0, 0.1)
    work = Work(
        threshold=0.55,
        macs_dense=1_814_073_344,
        macs_executed=938_008_832,
        active_share=0.469,
        pixels=135_300,
        timings=timings,
        macs_curve=(0,) * 21,
        importance_histogram=(0,) * 20,
    )
    record = RequestRecord(
        "x", 1, task=Task.CLASSIFY, tier="fast", tier_effective="fast", threshold=0.55, work=work
    )
    record.queue_ms, record.slot_ms, record.predicted_slot_ms = 0.3, 7.5, 7.0
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(repeats):
            metrics.begun()
            metrics.observe(record, method="POST", route="/v1/classify", status=200)
        best = min(best, time.perf_counter() - started)
    return best / repeats * 1e6


def _metrics() -> Metrics:
    models = catalogue.load().models
    metrics = Metrics(open_store(None, None, models))
    metrics.set_expectations({task: model.expectations for task, model in models.items()})
    return metrics


@contextlib.contextmanager
def service(*, counting: bool) -> Iterator[str]:
    """A service on a free port; one that does not count where asked."""
    port = free_port()
    program = ["-m", "service.cli"] if counting else ["-c", SILENT]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")}
    process = subprocess.Popen(
        [sys.executable, *program, "serve", "--port", str(port), "--log-level", "warning"],
        env=environment | {"PIXELTIER_DRAIN_DELAY_S": "0"},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the service did not start")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False


async def throughput(url: str, seconds: float, in_flight: int, tier: str) -> float:
    """Answers a second with so many requests in flight all the time."""
    body = image("classify")
    done = 0
    begun = time.perf_counter()
    async with httpx.AsyncClient(timeout=60) as client:

        async def loop() -> None:
            nonlocal done
            while time.perf_counter() < begun + seconds:
                answer = await client.post(f"{url}/v1/classify", params={"tier": tier}, content=body)
                answer.raise_for_status()
                done += 1

        await asyncio.gather(*(loop() for _ in range(in_flight)))
    return done / (time.perf_counter() - begun)


def compare(turns: int, seconds: float, tier: str) -> dict[str, Any]:
    """Throughput with and without counting, turn about; which goes first changes every time."""
    with service(counting=True) as counting, service(counting=False) as silent:
        in_flight = 4 * len(httpx.get(f"{counting}/readyz").json()["slots"])
        for url in (counting, silent):
            asyncio.run(throughput(url, 2.0, in_flight, tier))
        rates: dict[str, list[float]] = {counting: [], silent: []}
        for turn in range(turns):
            for url in (counting, silent) if turn % 2 else (silent, counting):
                rates[url].append(asyncio.run(throughput(url, seconds, in_flight, tier)))
        scrapes = []
        for _ in range(5):
            started = time.perf_counter()
            httpx.get(f"{counting}/metrics").raise_for_status()
            scrapes.append((time.perf_counter() - started) * 1000)
    losses = [1 - with_ / without for with_, without in zip(rates[counting], rates[silent], strict=True)]
    error = statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else float("nan")
    return {
        "throughput_counting": round(statistics.median(rates[counting]), 2),
        "throughput_silent": round(statistics.median(rates[silent]), 2),
        "loss_mean": round(statistics.mean(losses), 4),
        "loss_95_interval": [round(statistics.mean(losses) + sign * 1.96 * error, 4) for sign in (-1, 1)],
        "scrape_ms": round(statistics.median(scrapes), 2),
    }


def main() -> None:
    """Measure and print; status 1 where metrics cost 1 % or more of the CPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=10, help="of each service [10]")
    parser.add_argument("--seconds", type=float, default=4.0, help="a turn [4]")
    parser.add_argument(
        "--tier", default="fastest", help="the cheapest requests show the cost best [fastest]"
    )
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    result: dict[str, Any] = {"tier": options.tier, "turns": options.turns, "seconds": options.seconds}
    result |= compare(options.turns, options.seconds, options.tier)
    result["counting_us"] = round(counting_us(20_000), 2)
    cpus = len(os.sched_getaffinity(0))
    spent = (
        result["counting_us"] * 1e-6 * result["throughput_counting"] + result["scrape_ms"] * 1e-3 / SCRAPE_S
    )
    result |= {"cpus": cpus, "share_of_cpu": round(spent / cpus, 5), "load": round(os.getloadavg()[0], 2)}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(result["share_of_cpu"] >= 0.01)


if __name__ == "__main__":
    main()

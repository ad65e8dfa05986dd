"""What metrics cost of the service's throughput.

    python -m benchmarks.metrics_cost --json benchmarks/results/metrics_cost.json

Two answers. By CPU time, which holds on a busy machine too: what counting one request and being scraped takes, over
what the whole service takes for a request, workers included. By throughput: a service that counts and one that does not
(the same code with the counting methods emptied), both kept saturated with the cheapest requests there are, in short
turns of one after the other; the difference of neighbouring turns with its 95 % interval, which needs a quiet machine.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.processes import SERVE, started
from benchmarks.service import image
from pixeltier.models.outcome import CURVE_THRESHOLDS
from pixeltier.service import catalogue
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.tiers.opening import open_store
from pixeltier.service.work.messages import Work

SCRAPE_S = 15.0
"""As deploy/prometheus/prometheus.yml has it."""

SCRAPES = 40

SILENT = """
import sys
from pixeltier.service.telemetry.metrics import Metrics
for name in ("begun", "observe", "batch_started"):
    setattr(Metrics, name, lambda *_, **__: None)
from pixeltier.service.command_line.main import main
sys.exit(main())
"""


def counting_us(repeats: int) -> float:
    """Microseconds of CPU that counting one answered classification takes, the best of five runs."""
    metrics = _metrics()
    work = Work(
        threshold=0.55,
        macs_dense=1_814_073_344,
        macs_executed=938_008_832,
        active_share=0.469,
        pixels=135_300,
        decode_ms=1.0,
        importance_ms=1.0,
        infer_ms=5.0,
        encode_ms=0.1,
        macs_curve=(0,) * len(CURVE_THRESHOLDS),
        active_curve=(0,) * len(CURVE_THRESHOLDS),
    )
    record = RequestRecord(
        "x", 1, task=Task.CLASSIFY, tier="fast", tier_effective="fast", threshold=0.55, work=work
    )
    record.queue_ms, record.worker_ms, record.predicted_worker_ms = 0.3, 7.5, 7.0
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            metrics.begun()
            metrics.observe(record, method="POST", route="/v1/classify", status=200)
        best = min(best, time.process_time() - started)
    return best / repeats * 1e6


def _metrics() -> Metrics:
    models = catalogue.load().models
    metrics = Metrics(open_store(None, None, models))
    metrics.set_expectations({task: model.expectations for task, model in models.items()})
    return metrics


def cpu_seconds(pid: int, *, whole: bool) -> float:
    """CPU time of a process so far; with `whole` that of its children and theirs too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if not whole:
        return own
    children = [
        child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return own + sum(cpu_seconds(int(child), whole=True) for child in children)


@contextlib.contextmanager
def service(*, counting: bool) -> Iterator[tuple[str, int]]:
    """A service on a free port, and its process; one that does not count where asked."""
    program = SERVE if counting else ("-c", SILENT, "serve")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")}
    environment["PIXELTIER_DRAIN_DELAY_S"] = "0"
    with started([*program, "--log-level", "warning"], environment) as own:
        yield own.url, own.pid


async def throughput(url: str, seconds: float, in_flight: int, tier: str) -> tuple[int, float]:
    """Answers, and the seconds they took, with so many requests in flight all the time."""
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
    return done, time.perf_counter() - begun


def compare(turns: int, seconds: float, tier: str) -> dict[str, Any]:
    """Throughput with and without counting, turn about; which goes first changes every time."""
    with service(counting=True) as (counting, pid), service(counting=False) as (silent, _):
        in_flight = 4 * len(httpx.get(f"{counting}/readyz").json()["slots"])
        for url in (counting, silent):
            asyncio.run(throughput(url, 2.0, in_flight, tier))
        rates: dict[str, list[float]] = {counting: [], silent: []}
        answers = spent = 0.0
        for turn in range(turns):
            for url in (counting, silent) if turn % 2 else (silent, counting):
                before = cpu_seconds(pid, whole=True)
                done, lasted = asyncio.run(throughput(url, seconds, in_flight, tier))
                rates[url].append(done / lasted)
                if url == counting:
                    spent += cpu_seconds(pid, whole=True) - before
                    answers += done
        before = cpu_seconds(pid, whole=False)
        for _ in range(SCRAPES):
            httpx.get(f"{counting}/metrics").raise_for_status()
        scrape = (cpu_seconds(pid, whole=False) - before) / SCRAPES
    losses = [1 - with_ / without for with_, without in zip(rates[counting], rates[silent], strict=True)]
    error = statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else float("nan")
    return {
        "throughput_counting": round(statistics.median(rates[counting]), 2),
        "throughput_silent": round(statistics.median(rates[silent]), 2),
        "loss_mean": round(statistics.mean(losses), 4),
        "loss_95_interval": [round(statistics.mean(losses) + sign * 1.96 * error, 4) for sign in (-1, 1)],
        "request_cpu_ms": round(spent / answers * 1000, 3),
        "scrape_cpu_ms": round(scrape * 1000, 2),
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
    result["counting_cpu_us"] = round(counting_us(20_000), 2)
    cpus = len(os.sched_getaffinity(0))
    counted = result["counting_cpu_us"] / 1000 / result["request_cpu_ms"]
    scraped = result["scrape_cpu_ms"] / 1000 / SCRAPE_S / cpus
    result |= {
        "cpus": cpus,
        "share_of_cpu": round(counted + scraped, 5),
        "load": round(os.getloadavg()[0], 2),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(result["share_of_cpu"] >= 0.01)


if __name__ == "__main__":
    main()

"""What the service makes of its slots: each function here is one table of `python -m benchmarks.service`."""

import asyncio
import base64
import contextlib
import io
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks import back_to_back
from benchmarks.http_load import Connection, Outcome, closed_loop, open_loop
from benchmarks.processes import started
from pixeltier.service.configuration.cpus import cpu_quota
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.resident_memory import resident_bytes
from pixeltier.service.tiers.opening import packaged_thresholds

JPEG = "Content-Type: image/jpeg\r\n"
CLASSIFY = "/v1/classify?tier={tier}"

Row = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """The sample images, how to start a service, and how long each run lasts."""

    images: dict[str, bytes]
    service: Any
    seconds: float

    def threshold(self, task: str, tier: str) -> float:
        """Of the packaged tier table."""
        return packaged_thresholds(Task(task))[tier]

    @contextlib.contextmanager
    def file(self, task: str) -> Iterator[Path]:
        """The image as a file, for processes of their own."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.images[task])
            file.flush()
            yield Path(file.name)

    def alone(self, task: str, tier: str, processes: int, threads: int) -> Row:
        """The jobs back to back in processes of their own."""
        with self.file(task) as path:
            return back_to_back.measure(
                task,
                self.threshold(task, tier),
                path,
                processes=processes,
                threads=threads,
                seconds=self.seconds,
            )

    def full(self, url: str, task: str, tier: str, slots: int) -> Outcome:
        """The service with four requests in flight for each worker."""
        path = f"/v1/{task}?tier={tier}"
        return asyncio.run(closed_loop(url, path, self.images[task], 4 * slots, self.seconds))


def _percentile(values: list[float], p: int) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 2) if ordered else float("nan")


def _stages(outcome: Outcome, name: str) -> list[float]:
    found = []
    for answer in outcome.answers:
        parts = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
        found.append(float(parts[name]))
    return found


def overhead(setup: Setup, tier: str) -> list[Row]:
    """One request in flight: what stands around the model, decoding included.

    `model` is the same model on the same pixels, called in a process of its own in the same minute.
    """
    threads = max(1, int(cpu_quota()))
    rows = []
    for slots, each in ((1, 1), (1, threads)):
        alone = setup.alone("classify", tier, 1, each)
        with setup.service(None, slots=str(slots), threads=str(each)) as url:
            path = CLASSIFY.format(tier=tier)
            outcome = asyncio.run(closed_loop(url, path, setup.images["classify"], 1, setup.seconds))
        model = [
            a + b for a, b in zip(_stages(outcome, "importance"), _stages(outcome, "infer"), strict=True)
        ]
        rows.append(
            {
                "threads": each,
                "client p50 ms": _percentile(outcome.ms, 50),
                "model alone ms": round(alone["model_ms"], 2),
                "overhead p50 ms": round(_percentile(outcome.ms, 50) - alone["model_ms"], 2),
                "of it decode": _percentile(_stages(outcome, "decode"), 50),
                "model in the worker ms": _percentile(model, 50),
                "around the worker's model p50 ms": _percentile(
                    [whole - inside for whole, inside in zip(outcome.ms, model, strict=True)], 50
                ),
            }
        )
    return rows


def saturation(setup: Setup, tier: str) -> list[Row]:
    """Never an empty queue: answers a second against as many processes doing the same jobs back to back."""
    rows = []
    tiers = ("exact", tier)
    for slots in sorted({1, max(1, int(cpu_quota()))}):
        for task in ("classify", "super-resolve"):
            rates: dict[str, float] = {}
            with setup.service(None, slots=str(slots), threads="1") as url:
                for each in tiers:
                    rates[each] = setup.full(url, task, each, slots).rate
            alone = {each: setup.alone(task, each, slots, 1)["rate"] for each in tiers}
            rows += [
                {
                    "slots": slots,
                    "task": task,
                    "tier": each,
                    "service /s": round(rates[each], 2),
                    "back to back /s": round(alone[each], 2),
                    "share": round(rates[each] / alone[each], 3),
                    "gain over exact": round(rates[each] / rates["exact"], 2),
                    "gain back to back": round(alone[each] / alone["exact"], 2),
                }
                for each in tiers
            ]
    return rows


def presets(setup: Setup, tier: str) -> list[Row]:
    """Shapes of the same quota: what one request takes, and how many are answered a second when many come."""
    cpus = max(1, int(cpu_quota()))
    rows = []
    for slots in (n for n in range(1, cpus + 1) if cpus % n == 0):
        threads = cpus // slots
        with setup.service(None, slots=str(slots), threads=str(threads)) as url:
            for task in ("classify", "super-resolve"):
                path = f"/v1/{task}?tier={tier}"
                one = asyncio.run(closed_loop(url, path, setup.images[task], 1, setup.seconds))
                many = setup.full(url, task, tier, slots)
                rows.append(
                    {
                        "slots": slots,
                        "threads": threads,
                        "task": task,
                        "one in flight p50 ms": _percentile(one.ms, 50),
                        "p99 ms": _percentile(one.ms, 99),
                        "saturated /s": round(many.rate, 2),
                    }
                )
    return rows


@contextlib.contextmanager
def _rival(slots: int) -> Iterator[str]:
    """LitServe on a free port."""
    command = ["-m", "benchmarks.dense_server", "--slots", str(slots), "--threads", "1"]
    with started(command, ready="/health", patience_s=60, quiet=True) as rival:
        try:
            yield rival.url
        finally:  # its workers outlive it
            for child in _children(rival.pid):
                subprocess.run(["kill", "-9", str(child)], check=False, stderr=subprocess.DEVNULL)


def _children(pid: int) -> list[int]:
    """Descendants of a process."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def rival(setup: Setup, tier: str) -> list[Row]:
    """LitServe with the dense torch model, and ours at `exact` and a tier, on as many workers of one thread each."""
    slots = max(1, int(cpu_quota()))
    body = json.dumps({"image": base64.b64encode(setup.images["classify"]).decode()}).encode()
    clients = 4 * slots
    rows = []
    with _rival(slots) as url:
        headers = "Content-Type: application/json\r\n"
        outcome = asyncio.run(closed_loop(url, "/predict", body, clients, setup.seconds, headers))
        rows.append(_versus("LitServe, dense torch", outcome))
    with setup.service(None, slots=str(slots), threads="1") as url:
        for each in ("exact", tier):
            outcome = setup.full(url, "classify", each, slots)
            rows.append(_versus(f"Pixeltier, {each}", outcome))
    for row in rows:
        row["gain"] = round(row["/s"] / rows[0]["/s"], 2)
    return rows


def _versus(name: str, outcome: Outcome) -> Row:
    return {
        "server": name,
        "/s": round(outcome.rate, 2),
        "p50 ms": _percentile(outcome.ms, 50),
        "p99 ms": _percentile(outcome.ms, 99),
        "not 200": sum(outcome.statuses.values()) - outcome.statuses[200],
    }


def batching(setup: Setup, tier: str) -> list[Row]:
    """Classification with more and more jobs allowed in a batch."""
    slots = max(1, int(cpu_quota()))
    rows = []
    for batch in (1, 2, 4, 8):
        with setup.service(None, slots=str(slots), threads="1", max_batch=str(batch)) as url:
            outcome = asyncio.run(
                closed_loop(
                    url, CLASSIFY.format(tier=tier), setup.images["classify"], 8 * slots, setup.seconds
                )
            )
            rows.append({"max batch": batch, **_versus(f"tier {tier}", outcome)})
    return rows


def overload(setup: Setup, tier: str, *, deadline_ms: int = 1000) -> list[Row]:
    """Three times what it can take: who is answered is answered in time, the others at once, and nothing grows."""
    slots = max(1, int(cpu_quota()))
    path = CLASSIFY.format(tier=tier)
    with setup.service(None, slots=str(slots), threads="1") as url:
        capacity = setup.full(url, "classify", tier, slots).rate
        before = _memory(url)
        probes: list[float] = []

        async def probe() -> None:
            connection = Connection(url)
            while True:
                probes.append((await connection.request("GET", "/healthz")).ms)
                await asyncio.sleep(0.05)

        async def storm() -> tuple[Outcome, float]:
            watching = asyncio.create_task(probe())
            headers = f"X-Request-Timeout-Ms: {deadline_ms}\r\n"
            outcome = await open_loop(
                url, path, setup.images["classify"], 3 * capacity, 4 * setup.seconds, headers
            )
            watching.cancel()
            recovered = await Connection(url).request("POST", path, setup.images["classify"])
            return outcome, recovered.ms

        outcome, recovery = asyncio.run(storm())
        after = _memory(url)
    return [
        {
            "capacity /s": round(capacity, 1),
            "offered /s": round(3 * capacity, 1),
            "seconds": round(outcome.seconds, 1),
            "answered /s": round(outcome.rate, 1),
            "statuses": dict(outcome.statuses),
            "deadline ms": deadline_ms,
            "p99 of accepted ms": _percentile(outcome.ms, 99),
            "health p99 ms": _percentile(probes, 99),
            "health worst ms": round(max(probes), 1),
            "memory before MB": before,
            "memory after MB": after,
            "next request ms": round(recovery, 1),
        }
    ]


def _memory(url: str) -> dict[str, int]:
    """Resident memory of the front process and of all workers, by the service's own metrics."""
    found = {"front": 0, "slots": 0}
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("process_resident_memory_bytes "):
            found["front"] += int(float(line.split()[1]) / 2**20)
        elif line.startswith("pixeltier_worker_resident_memory_bytes{"):
            found["slots"] += int(float(line.rpartition(" ")[2]) / 2**20)
    return found


def memory(setup: Setup, tier: str) -> list[Row]:
    """A worker's peak memory while it enlarges larger and larger photos; above 1024 a side in tiles."""
    rows = []
    photo = Image.open(io.BytesIO(setup.images["classify"])).convert("RGB")
    with setup.service(None, slots="1", threads="1") as url:
        pids = _slot_pids(url)
        for width, height in ((256, 256), (512, 512), (1024, 1024), (2048, 1024), (2048, 2048)):
            out = io.BytesIO()
            photo.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
            peak = asyncio.run(_peak(url, f"/v1/super-resolve?tier={tier}&format=jpeg", out.getvalue(), pids))
            rows.append({"pixels": f"{width}x{height}", **peak})
    return rows


def _slot_pids(url: str) -> list[int]:
    """The largest child of whoever listens there: a worker is the one with torch in it."""
    port = int(url.rpartition(":")[2])
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"pixeltier.service.command_line" in command and str(port).encode() in command:
                children = _children(int(process.name))
                return [max(children, key=resident_bytes)]
    raise SystemExit("the service's workers cannot be found")


async def _peak(url: str, path: str, body: bytes, pids: list[int]) -> Row:
    peak = 0
    done = False

    async def watch() -> None:
        nonlocal peak
        while not done:
            peak = max(peak, *(resident_bytes(pid) for pid in pids), 0)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    answer = await Connection(url).request("POST", path, body)
    done = True
    await watching
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.body[:300]!r}")
    return {"seconds": round(answer.ms / 1000, 2), "worker's peak MB": peak // 2**20}


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def median_load() -> float:
    """The machine's load averages, so that a reader can tell a quiet run from a busy one."""
    return round(statistics.median(float(x) for x in Path("/proc/loadavg").read_text().split()[:3]), 2)

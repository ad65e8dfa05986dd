"""The monitoring stack under a lively load, and the dashboards' queries: what the picture and the tests share."""

import asyncio
import contextlib
import io
import json
import math
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.processes import free_port
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.opening import packaged_thresholds

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "docs" / "samples"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))

TIERS = ("exact", "high", "balanced", "fast", "fastest")
TIER_WEIGHTS = (1, 2, 5, 4, 2)


# ---- the stack ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """A running stack: addresses, and the token of its admin API."""

    url: str
    prometheus: str
    token: str
    process: "subprocess.Popen[str]"
    said: str = ""
    """What it printed when it was ready."""


@contextlib.contextmanager
def stack(state: Path, scrape_interval: str = "1s") -> Iterator[Stack]:
    """`make stack` on free ports, with an admin API; ends with SIGTERM, as an operator would end it."""
    state.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(24)
    tokens = state / "admin-tokens"
    tokens.write_text(f"picture:{token}\n")
    port, prometheus_port = free_port(), free_port()
    command = [
        *(sys.executable, str(ROOT / "deploy" / "stack.py"), "--state", str(state)),
        *("--port", str(port), "--prometheus-port", str(prometheus_port), "--grafana-port", str(free_port())),
        *("--scrape-interval", scrape_interval),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(tokens),
        cwd=ROOT,
    )
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError(f"the stack did not start: {''.join(said)}")
        addresses = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{prometheus_port}")
        yield Stack(*addresses, token, process, "".join(said))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


def _environment(tokens: Path) -> dict[str, str]:
    import os

    ours = {"PIXELTIER_ADMIN_TOKEN_FILE": str(tokens)}
    return {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")} | ours


# ---- the load ----------------------------------------------------------------------------------------


def pictures(chance: random.Random, count: int, least: int, most: int) -> list[bytes]:
    """Crops of the sample photos: flat and busy ones, small and large."""
    photos = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    found = []
    for _ in range(count):
        photo = chance.choice(photos)
        side = min(chance.randint(least, most), *photo.size)
        left, top = chance.randint(0, photo.width - side), chance.randint(0, photo.height - side)
        out = io.BytesIO()
        photo.crop((left, top, left + side, top + side)).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


@dataclass(frozen=True)
class Load:
    """Open-loop arrivals: `rate` a second on average, in a slow wave, with a rush of three times as many."""

    rate: float
    seconds: float
    rush: tuple[float, float] = (0.62, 0.76)
    statuses: dict[int, int] = field(default_factory=dict)

    def now(self, at: float) -> float:
        """The rate at a share of the time."""
        wave = self.rate * (1 + 0.35 * math.sin(2 * math.pi * 1.5 * at))
        return 3 * wave if self.rush[0] < at < self.rush[1] else wave

    async def send(self, running: Stack) -> None:
        """Send it all, and move the tiers meanwhile as an operator would."""
        chance = random.Random(7)
        images = {"classify": pictures(chance, 12, 96, 300), "super-resolve": pictures(chance, 8, 40, 72)}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(base_url=running.url, limits=limits, timeout=60) as client:
            await patch(
                client, running.token, {"shadow": {"share": 0.4, "thresholds": between("balanced", "fast")}}
            )
            jobs = [asyncio.create_task(self._operate(client, running.token))]
            begun = due = time.monotonic()
            while (
                due := due + chance.expovariate(self.now((due - begun) / self.seconds))
            ) < begun + self.seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                jobs.append(asyncio.create_task(self._one(client, chance, images)))
            await asyncio.gather(*jobs)

    async def _operate(self, client: httpx.AsyncClient, token: str) -> None:
        await asyncio.sleep(0.25 * self.seconds)
        await patch(client, token, {"tiers": {"fast": {"thresholds": between("fast", "fastest")}}})
        await asyncio.sleep(0.15 * self.seconds)
        brownout = {"enabled": True, "enter_wait_s": 0.2, "exit_wait_s": 0.05, "rise_s": 0.2, "fall_s": 2.0}
        await patch(client, token, {"brownout": brownout})
        refused = await client.patch(
            "/admin/v1/tiers",
            headers={"Authorization": f"Bearer {token}", "If-Match": "*"},
            json={"tiers": {"fast": {"thresholds": {"classify": 0.1}}}, "reason": "a mistake"},
        )
        assert refused.status_code == 422, refused.text

    async def _one(
        self, client: httpx.AsyncClient, chance: random.Random, images: dict[str, list[bytes]]
    ) -> None:
        task = chance.choices(("classify", "super-resolve"), (5, 1))[0]
        (tier,) = chance.choices(TIERS, TIER_WEIGHTS)
        query: dict[str, str | float] = {"tier": tier}
        body = chance.choice(images[task])
        what = chance.random()
        if what < 0.05:
            query["max_latency_ms"] = 150
        elif what < 0.09:
            query = {"threshold": round(chance.random(), 2)}
        elif what < 0.11:
            body = b"this is not an image"
        elif what < 0.12:
            query = {"tier": "turbo"}
        answer = await client.post(
            f"/v1/{task}", params=query, content=body, headers={"X-Request-Timeout-Ms": "2500"}
        )
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1


def between(slower: str, faster: str) -> dict[str, float]:
    """Of each task, the threshold halfway between two packaged tiers."""
    tables = {task.value: packaged_thresholds(task) for task in Task}
    return {task: (table[slower] + table[faster]) / 2 for task, table in tables.items()}


async def patch(client: httpx.AsyncClient, token: str, change: dict[str, Any]) -> None:
    """Change the tier table, whatever version is in force."""
    headers = {
        "Authorization": f"Bearer {token}",
        "If-Match": "*",
        "X-Change-Reason": "a load that shows something",
    }
    answer = await client.patch("/admin/v1/tiers", headers=headers, json=change)
    answer.raise_for_status()


# ---- the dashboards' queries -------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard, as far as drawing and checking need it."""

    dashboard: str
    kind: str
    title: str
    unit: str
    stacked: bool
    place: dict[str, int]
    targets: tuple[tuple[str, str], ...]
    low: float | None
    high: float | None
    decimals: int | None


def panels(path: Path) -> list[Panel]:
    """All panels of a dashboard that ask Prometheus something, and its rows (which do not)."""
    document = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for one in document["panels"]:
        defaults = one.get("fieldConfig", {}).get("defaults", {})
        stacking = defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
        found.append(
            Panel(
                dashboard=document["title"],
                kind=one["type"],
                title=one["title"],
                unit=defaults.get("unit", "short"),
                stacked=stacking == "normal",
                place=one["gridPos"],
                targets=tuple((target["expr"], target["legendFormat"]) for target in one.get("targets", ())),
                low=defaults.get("min"),
                high=defaults.get("max"),
                decimals=defaults.get("decimals"),
            )
        )
    return found


def filled(expression: str, *, interval: str, whole: str) -> str:
    """A dashboard's query as Grafana would send it: every job and model, `interval` for rates, `whole` the range."""
    models = "classify|super-resolve"
    values = {"$__rate_interval": interval, "$__range": whole, "$job": "pixeltier", "$model": models}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def legend(template: str, labels: dict[str, str]) -> str:
    """A legend with its labels filled in; a label that is not there is an empty word, as in Grafana."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template).strip()


def ask(prometheus: str, route: str, **parameters: str | float) -> list[dict[str, Any]]:
    """`query` or `query_range` of Prometheus' HTTP API."""
    answer = httpx.get(f"{prometheus}/api/v1/{route}", params=parameters, timeout=30)
    document = answer.json()
    if document["status"] != "success":
        raise ValueError(f"{parameters.get('query')}: {document['error']}")
    result: list[dict[str, Any]] = document["data"]["result"]
    return result

"""Brownout under overload: how many requests are served within their deadline with it and without.

    python -m benchmarks.brownout --overload 2 --seconds 40

Measures first what the service can do (closed loop at the tier), then arrives open-loop at `overload` times that, once
with brownout off and once with it on. Every request has the same deadline. Prints a table, writes JSON with --json.
"""

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service import image, service

RULES = {"enter_wait_s": 0.3, "exit_wait_s": 0.05, "rise_s": 0.3, "fall_s": 5.0, "longest_fall_s": 300.0}


@dataclass
class Outcome:
    """One run."""

    brownout: bool
    rate: float
    sent: int = 0
    in_time: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the requests, those served within the deadline."""
        return self.in_time / self.sent

    @property
    def changes(self) -> int:
        """How often the level moved."""
        return sum(a != b for a, b in zip(self.levels, self.levels[1:], strict=False))


async def capacity(client: httpx.AsyncClient, task: str, tier: str, seconds: float) -> float:
    """Requests a second of as many clients as keep every worker busy."""
    body, done, end = image(task), 0, time.monotonic() + seconds

    async def ask() -> None:
        nonlocal done
        while time.monotonic() < end:
            answer = await client.post(f"/v1/{task}?tier={tier}", content=body)
            done += answer.status_code == 200

    started = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(6)))
    return done / (time.monotonic() - started)


async def overload(
    client: httpx.AsyncClient,
    task: str,
    tier: str,
    rate: float,
    seconds: float,
    deadline_ms: int,
    *,
    brownout: bool,
) -> Outcome:
    """Poisson arrivals at a rate, each with the deadline."""
    body, chance, outcome = image(task), random.Random(7), Outcome(brownout, rate)
    headers = {"x-request-timeout-ms": str(deadline_ms)}

    async def ask() -> None:
        started = time.monotonic()
        answer = await client.post(f"/v1/{task}?tier={tier}", content=body, headers=headers)
        took_ms = 1000 * (time.monotonic() - started)
        outcome.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            outcome.tiers[answer.headers["x-tier-effective"]] += 1
            outcome.took_ms.append(took_ms)
            outcome.in_time += took_ms <= deadline_ms

    async def watch() -> None:
        while True:
            outcome.levels.append((await client.get("/admin/v1/live")).json()["brownout"]["level"])
            await asyncio.sleep(0.25)

    watching = asyncio.create_task(watch())
    tasks, due, end = [], time.monotonic(), time.monotonic() + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(ask()))
        outcome.sent += 1
        due += chance.expovariate(rate)
    await asyncio.gather(*tasks)
    watching.cancel()
    return outcome


async def run(url: str, token: str, options: argparse.Namespace) -> list[Outcome]:
    """Both runs against one service."""
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, headers=headers) as client:
        await capacity(client, options.task, options.tier, 3)
        rate = options.overload * await capacity(client, options.task, options.tier, options.seconds / 4)
        print(f"{options.overload:g} times what {options.tier} can do: {rate:.1f} requests a second")
        outcomes = []
        for brownout in (False, True):
            body = {
                "tiers": {options.tier: {"floor": options.floor}},
                "brownout": {**RULES, "enabled": brownout},
            }
            answer = await client.patch(
                "/admin/v1/tiers", json=body, headers={"if-match": "*", "x-change-reason": "the benchmark"}
            )
            answer.raise_for_status()
            outcomes.append(
                await overload(
                    client,
                    options.task,
                    options.tier,
                    rate,
                    options.seconds,
                    options.deadline_ms,
                    brownout=brownout,
                )
            )
            await asyncio.sleep(2)
        return outcomes


def report(outcomes: list[Outcome]) -> None:
    """The table."""
    print(
        "| brownout | sent | served in time | median ms | 95 % ms | 503 / 504 | answered by | level changes |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in outcomes:
        took = sorted(one.took_ms) or [float("nan")]
        tiers = ", ".join(f"{name} {count}" for name, count in one.tiers.most_common())
        print(
            f"| {'on' if one.brownout else 'off'} | {one.sent} | {one.in_time} ({one.share:.1%}) "
            f"| {statistics.median(took):.0f} | {took[int(0.95 * (len(took) - 1))]:.0f} "
            f"| {one.statuses['503']} / {one.statuses['504']} | {tiers} | {one.changes} |"
        )


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "brownout": outcome.brownout,
        "rate": outcome.rate,
        "sent": outcome.sent,
        "in_time": outcome.in_time,
        "share": outcome.share,
        "statuses": dict(outcome.statuses),
        "tiers": dict(outcome.tiers),
        "level_changes": outcome.changes,
    }


def main() -> None:
    """Run both and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=("classify", "super-resolve"), default="super-resolve")
    parser.add_argument("--tier", default="high", help="the tier everybody asks for [high]")
    parser.add_argument("--floor", default="fastest", help="how far it may fall [fastest]")
    parser.add_argument("--overload", type=float, default=2.0, help="times the capacity [2]")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run [40]")
    parser.add_argument("--deadline-ms", type=int, default=2000, help="of each request [2000]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        token, tokens = secrets.token_urlsafe(24), Path(directory) / "tokens"
        tokens.write_text(token)
        with service(None, admin_token_file=str(tokens)) as url:
            outcomes = asyncio.run(run(url, token, options))
    report(outcomes)
    if options.json is not None:
        options.json.write_text(json.dumps([_record(one) for one in outcomes], indent=1) + "\n")


if __name__ == "__main__":
    main()

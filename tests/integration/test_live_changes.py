"""Changes while requests run: no request sees a mixture, none fails; brownout and shadow in the running service."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.images import png
from tests.integration.fakes import SLOW, fake_app, running
from tests.tier_table import TIERS as TABLE

TOKEN = "a-token-for-live-changes"
TIERS = "/admin/v1/tiers"


@asynccontextmanager
async def desk(tmp_path: Path, tiers: str | None = None, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with running(_app(tmp_path, tiers, **settings)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


def _app(tmp_path: Path, tiers: str | None = None, **settings: Any) -> FastAPI:
    (tmp_path / "tokens").write_text(TOKEN)
    (tmp_path / "tiers.toml").write_text(tiers or TABLE)
    settings["tiers_file"] = tmp_path / "tiers.toml"
    return fake_app(admin_token_file=tmp_path / "tokens", **settings)


async def _patch(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    answer = await client.patch(TIERS, json=body, headers={"if-match": "*", "x-change-reason": "a test"})
    assert answer.status_code == 200, answer.text
    return answer


async def _metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[-1])


async def test_under_load_every_answer_is_of_one_version_and_none_fails(tmp_path: Path) -> None:
    seen: list[tuple[int, str, float]] = []
    done = asyncio.Event()

    async def ask(client: httpx.AsyncClient, tier: str) -> None:
        while not done.is_set():
            least = (await client.get(TIERS)).json()["version"]
            answer = await client.post(f"/v1/classify?tier={tier}", content=png())
            assert answer.status_code == 200, answer.text
            version = int(answer.headers["x-config-version"])
            assert version >= least, "a change that was answered is in force for the next request"
            document = answer.json()
            assert (document["config_version"], document["tier"]) == (version, tier)
            assert document["threshold"] == pytest.approx(float(answer.headers["x-threshold"]))
            seen.append((version, tier, document["threshold"]))

    async with desk(tmp_path, state_dir=tmp_path / "state") as client:
        askers = [asyncio.create_task(ask(client, tier)) for tier in ("fast", "fastest") for _ in range(4)]
        for n in range(40):
            both = {"fast": 0.5 + 0.004 * n, "fastest": 0.7 + 0.004 * n}
            await _patch(
                client, {"tiers": {k: {"thresholds": {"classify": round(v, 3)}} for k, v in both.items()}}
            )
            await asyncio.sleep(0.01)
        done.set()
        await asyncio.gather(*askers)
        history = (await client.get("/admin/v1/versions?limit=500")).json()["versions"]
        thresholds = {
            one["version"]: (await client.get(f"/admin/v1/versions/{one['version']}")).json()["thresholds"]
            for one in history
        }
    assert len({version for version, _, _ in seen}) > 10
    for version, tier, threshold in seen:
        assert threshold == thresholds[version][tier]["classify"]


async def test_a_job_that_waits_gets_the_table_of_its_dispatch(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        slow = asyncio.create_task(client.post("/v1/classify", params={"threshold": SLOW}, content=png()))
        await asyncio.sleep(0.1)
        early = asyncio.create_task(client.post("/v1/classify?tier=fast", content=png(65)))
        doomed = asyncio.create_task(client.post("/v1/classify?tier=high", content=png(66)))
        await asyncio.sleep(0.1)
        await _patch(client, {"tiers": {"fast": {"thresholds": {"classify": 0.6}}, "high": None}})
        first, second, third = await asyncio.gather(slow, early, doomed)
    assert first.headers["x-config-version"] == "1"
    # A job already sent to the worker ahead of its turn may be of the old version; it then says so.
    assert (second.headers["x-config-version"], second.headers["x-threshold"]) in {
        ("2", "0.6"),
        ("1", "0.55"),
    }
    assert (third.status_code, third.headers["x-tier"], third.headers["x-threshold"]) == (200, "high", "0.33")
    assert third.headers["x-config-version"] == "1", "a tier that vanished serves those who had asked for it"


# ---- brownout ----------------------------------------------------------------------------------------

STEPS = f"""
default = "slow"
[[tiers]]
name = "slow"
floor = "quick"
thresholds = {{ classify = {SLOW}, super-resolve = 0.0 }}
[[tiers]]
name = "quick"
thresholds = {{ classify = 0.5, super-resolve = 0.5 }}
[brownout]
enabled = true
enter_wait_s = 0.3
exit_wait_s = 0.1
rise_s = 0.1
fall_s = 1.5
longest_fall_s = 3.0
"""


async def test_under_pressure_tiers_fall_visibly_unless_the_request_says_no(tmp_path: Path) -> None:
    async with desk(tmp_path, STEPS) as client:
        await client.post("/v1/classify", content=png())  # the service learns what such a job takes

        async def ask(query: str) -> httpx.Response:
            return await client.post(f"/v1/classify{query}", content=png())

        async def later(query: str) -> httpx.Response:
            await asyncio.sleep(0.35)
            return await ask(query)

        pressure = [ask("") for _ in range(8)]
        late = [later(query) for query in ("", "?degradable=false", "?tier=quick", f"?threshold={SLOW}")]
        answers = await asyncio.gather(*pressure, *late)
        assert {answer.status_code for answer in answers} == {200}
        fallen, kept, quick, custom = answers[-4:]
        assert (fallen.headers["x-tier"], fallen.headers["x-tier-effective"]) == ("slow", "quick")
        assert fallen.headers["x-threshold"] == "0.5"
        assert fallen.json()["tier_effective"] == "quick"
        assert kept.headers["x-tier-effective"] == "slow"
        assert float(kept.headers["x-threshold"]) == pytest.approx(SLOW)
        assert quick.headers["x-tier-effective"] == "quick"
        assert custom.headers["x-tier-effective"] == "custom"
        fell = sum(answer.headers["x-tier"] != answer.headers["x-tier-effective"] for answer in answers)
        name = 'pixeltier_degradations_total{from_tier="slow",model="classify",to_tier="quick"}'
        assert await _metric(client, name) == fell
        live = (await client.get("/admin/v1/live")).json()
        assert live["brownout"]["deepest_level"] == 1
        assert live["models"]["classify"]["quick"]["degraded_to"] == fell
        end = time.monotonic() + 20
        while await _metric(client, "pixeltier_brownout_level"):
            assert time.monotonic() < end, "the level never came back"
            await asyncio.sleep(0.1)
        assert (await ask("")).headers["x-tier-effective"] == "slow"


async def test_a_tier_may_fall_only_where_it_or_the_request_allows_it(tmp_path: Path) -> None:
    async with desk(
        tmp_path, STEPS.replace('floor = "quick"', 'floor = "quick"\ndegradable = false')
    ) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        app.state.context.desk.level.value = 1
        for query, tier in (("", "slow"), ("?degradable=true", "quick"), ("?degradable=false", "slow")):
            answer = await client.post(f"/v1/classify{query}", content=png())
            assert answer.headers["x-tier-effective"] == tier, query
            app.state.context.desk.level.value = 1
        await _patch(client, {"brownout": {"enabled": False}})
        answer = await client.post("/v1/classify?degradable=true", content=png())
        assert answer.headers["x-tier-effective"] == "slow", "switched off, it has no effect at once"


# ---- shadow ------------------------------------------------------------------------------------------


async def _until_compared(client: httpx.AsyncClient, model: str, count: int) -> None:
    end = time.monotonic() + 20
    while (
        await _metric(client, f'pixeltier_shadow_comparisons_total{{model="{model}",result="done"}}') < count
    ):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("model", ["classify", "super-resolve"])
async def test_answered_requests_are_compared_with_the_candidate(tmp_path: Path, model: str) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, {"shadow": {"share": 1.0, "thresholds": {model: 0.05}}})
        for n in range(3):
            answer = await client.post(f"/v1/{model}?tier=exact", content=png(60 + n, 40))
            assert answer.status_code == 200
            await _until_compared(client, model, n + 1)
        live = (await client.get("/admin/v1/live")).json()["shadow"]
        assert live["share"] == 1.0
        found = live["models"][model]
        assert (found["candidate_threshold"], found["comparisons"]) == (0.05, 3)
        assert found["macs_saved_served"] == pytest.approx(0, abs=1e-6)
        assert found["macs_saved_candidate"] > 0.1
        if model == "classify":
            assert (found["agreement"], found["psnr_db"]) == (1.0, None)
            assert await _metric(client, "pixeltier_shadow_agreements_total") == 3
        else:
            assert (found["agreement"], found["psnr_db"], found["ssim"]) == (None, 100.0, pytest.approx(1.0))
            assert await _metric(client, "pixeltier_shadow_psnr_db_count") == 3
        dense = await _metric(client, f'pixeltier_shadow_macs_dense_total{{model="{model}"}}')
        candidate = await _metric(client, f'pixeltier_shadow_macs_candidate_total{{model="{model}"}}')
        assert 1 - candidate / dense == pytest.approx(found["macs_saved_candidate"], abs=1e-5)
        patch = {"tiers": {"exact": {"thresholds": {model: 0.05}}}}
        tiers = (await client.post(f"{TIERS}:dry-run", json={"patch": patch})).json()["tiers"]
        assert tiers[0]["models"][model]["shadow"]["comparisons"] == 3
        other = "super-resolve" if model == "classify" else "classify"
        assert tiers[0]["models"][other]["shadow"] is None
        assert (
            await _metric(client, f'pixeltier_requests_total{{model="{model}",outcome="ok",tier="exact"}}')
            == 3
        )


async def test_a_busy_service_compares_nothing_and_requests_come_first(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, {"shadow": {"share": 1.0, "thresholds": {"classify": 0.05}}})
        slow = [
            asyncio.create_task(client.post("/v1/classify", params={"threshold": SLOW}, content=png(60 + n)))
            for n in range(3)
        ]
        answers = await asyncio.gather(*slow)
        assert {answer.status_code for answer in answers} == {200}
        skipped = 'pixeltier_shadow_comparisons_total{model="classify",result="skipped"}'
        assert await _metric(client, skipped) == 2, "only after the last one was the worker idle"
        started = time.monotonic()
        assert (await client.post("/v1/classify?tier=fast", content=png())).status_code == 200
        assert time.monotonic() - started < 3, "it waits for no more than the one comparison that runs"


async def test_nothing_is_compared_unless_asked(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        for _ in range(3):
            await client.post("/v1/classify?tier=fast", content=png())
        await _patch(client, {"shadow": {"share": 1.0, "thresholds": {"super-resolve": 0.05}}})
        await client.post("/v1/classify?tier=fast", content=png())
        for result in ("done", "skipped", "failed"):
            name = f'pixeltier_shadow_comparisons_total{{model="classify",result="{result}"}}'
            assert await _metric(client, name) == 0

"""The admin API: the dry-run and the live view."""

from pathlib import Path
from typing import Any

import pytest

from tests.images import encoded, photo, png
from tests.integration.admin import TIERS, desk, noise, patch, problem


def _of(found: Any, tier: str, model: str) -> Any:
    return next(one for one in found["tiers"] if one["name"] == tier)["models"][model]


IMAGES = [encoded(noise(40 + n, 30 + n, seed=n), "PNG") for n in range(40)] + [
    encoded(photo(60 + n, 50), "PNG") for n in range(20)
]


@pytest.mark.parametrize("model", ["classify", "super-resolve"])
@pytest.mark.parametrize("threshold", [0.0, 0.07, 0.13, 0.3])
async def test_a_dry_run_predicts_what_then_happens(tmp_path: Path, model: str, threshold: float) -> None:
    """Within 2 points of the MACs, on the same images, at thresholds between the points of their curves too."""
    low = {"tiers": {name: {"thresholds": {model: 0.0}} for name in ("exact", "high", "balanced")}}
    async with desk(tmp_path) as client:
        await patch(client, low)
        for image in IMAGES:
            assert (await client.post(f"/v1/{model}?tier=fast", content=image)).status_code == 200
        change = {"tiers": {"fast": {"thresholds": {model: threshold}}}}
        answer = await client.post(f"{TIERS}:dry-run", json={"patch": change})
        foretold = _of(answer.json(), "fast", model)["proposed"]["recent"]
        assert (foretold["images"], foretold["of"]) == (60, "tier")
        assert (await client.get(TIERS)).json()["version"] == 2
        await patch(client, change)
        dense = executed = 0
        for image in IMAGES:
            headers = (await client.post(f"/v1/{model}?tier=fast", content=image)).headers
            dense, executed = dense + int(headers["x-macs-dense"]), executed + int(headers["x-macs-executed"])
        assert foretold["macs_saved"] == pytest.approx(1 - executed / dense, abs=0.02)


async def test_a_dry_run_without_images_speaks_of_curves_alone_and_of_the_table_in_force(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as client:
        found = (await client.post(f"{TIERS}:dry-run")).json()
        assert (found["based_on"], found["changes"]) == (1, [])
        fast = _of(found, "fast", "classify")
        assert fast["changed"] is False
        assert fast["current"] == fast["proposed"]
        assert fast["proposed"]["recent"] is None
        assert fast["proposed"]["expected"]["macs_saved"] == pytest.approx(0.495)
        both = {"document": found["document"], "patch": {}}
        assert problem(await client.post(f"{TIERS}:dry-run", json=both)) == (422, "validation")


async def test_a_dry_run_of_a_new_tier(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        document = (await client.get(TIERS)).json()["document"]
        document["tiers"].append(
            {"name": "turbo", "thresholds": {"classify": 0.9, "super-resolve": {"macs_saved": 0.88}}}
        )
        found = (await client.post(f"{TIERS}:dry-run", json={"document": document})).json()
        turbo = _of(found, "turbo", "super-resolve")
        assert (turbo["changed"], turbo["current"]) == (True, None)
        assert turbo["proposed"]["threshold"] == pytest.approx(0.978, abs=0.001)
        added = [one for one in found["changes"] if one["path"].startswith("tiers.turbo")]
        assert added
        assert all("from" not in one for one in added)


async def test_few_images_of_a_tier_are_joined_by_the_model_s_others(tmp_path: Path) -> None:
    async with desk(tmp_path, recent_images=40) as client:
        for n in range(50):
            await client.post(f"/v1/classify?tier={'exact' if n % 2 else 'fast'}", content=IMAGES[n])
        found = (await client.post(f"{TIERS}:dry-run")).json()
        recent = _of(found, "fast", "classify")["proposed"]["recent"]
        assert (recent["images"], recent["of"]) == (40, "model")
        assert recent["latency_ms"]["p50"] <= recent["latency_ms"]["p95"]


async def test_live(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        for _ in range(3):
            await client.post("/v1/classify?tier=fast", content=png())
        await client.post("/v1/classify?tier=fast", content=b"no image")
        await client.post("/v1/super-resolve?threshold=0.2", content=png())
        found = (await client.get("/admin/v1/live?seconds=600")).json()
        fast = found["models"]["classify"]["fast"]
        assert (fast["requests"], fast["failed"], fast["degraded_to"]) == (3, 0, 0)
        assert 0 < fast["p50_ms"] <= fast["p95_ms"]
        assert fast["macs_saved"] == pytest.approx(1 - fast["macs_executed"] / fast["macs_dense"], abs=1e-6)
        assert found["models"]["super-resolve"]["custom"]["requests"] == 1
        assert found["models"]["super-resolve"]["exact"] == {
            **dict.fromkeys(("requests", "failed", "degraded_to", "macs_dense", "macs_executed"), 0),
            **dict.fromkeys(("p50_ms", "p95_ms", "macs_saved")),
        }
        assert found["pool"]["ready"] is True
        assert found["brownout"] == {"enabled": False, "level": 0, "deepest_level": 2, "changed_at": None}
        assert found["shadow"] == {"share": 0.0, "models": {}}
        assert problem(await client.get("/admin/v1/live?seconds=0")) == (422, "validation")

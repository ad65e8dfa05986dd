"""Budgets over HTTP: kept to, reported, and refused in clear words where they cannot be met."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.fakes import fake_app, running


def noise(seed: int, side: int = 64) -> bytes:
    """A PNG whose fake importance map has many values."""
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("route", ["/v1/classify", "/v1/super-resolve"])
async def test_macs_stay_within_the_ratio(route: str) -> None:
    async with running(fake_app()) as client:
        kept = []
        for seed, ratio in enumerate((0.06, 0.2, 0.45, 0.7, 0.99, 1.0)):
            body = noise(seed)
            answer = await client.post(route, params={"max_macs_ratio": ratio}, content=body)
            assert answer.status_code == 200, answer.text
            headers = answer.headers
            executed, dense = int(headers["x-macs-executed"]), int(headers["x-macs-dense"])
            assert executed <= ratio * dense
            assert headers["x-tier"] == headers["x-tier-effective"] == "custom"
            kept.append(executed / dense)
            # The threshold in the header names the same mask.
            again = await client.post(route, params={"threshold": headers["x-threshold"]}, content=body)
            assert again.headers["x-macs-executed"] == headers["x-macs-executed"]
        assert kept == sorted(kept)
        assert kept[2] > 0.3  # the best quality within the budget, not the cheapest


async def test_a_budget_never_lowers_the_tiers_threshold() -> None:
    async with running(fake_app()) as client:
        body = noise(1)
        plain = await client.post("/v1/classify?tier=exact", content=body)
        roomy = await client.post("/v1/classify?tier=exact&max_macs_ratio=1", content=body)
        tight = await client.post(
            "/v1/classify", headers={"X-Tier": "exact", "X-Max-Macs-Ratio": "0.06"}, content=body
        )
    assert roomy.headers["x-threshold"] == plain.headers["x-threshold"]
    assert roomy.headers["x-tier"] == tight.headers["x-tier"] == "exact"
    assert float(tight.headers["x-threshold"]) > float(plain.headers["x-threshold"])
    assert int(tight.headers["x-macs-executed"]) <= 0.06 * int(tight.headers["x-macs-dense"])


@pytest.mark.parametrize("route", ["/v1/classify", "/v1/super-resolve"])
async def test_an_impossible_ratio_says_what_is_possible(route: str) -> None:
    async with running(fake_app()) as client:
        refused = await client.post(route, params={"max_macs_ratio": 0.01}, content=noise(2))
        assert refused.status_code == 422
        problem = refused.json()
        assert problem["type"] == "budget-infeasible"
        assert "0.05" in problem["detail"]
        least = problem["least_budget"]
        served = await client.post(route, params={"max_macs_ratio": least}, content=noise(2))
        assert served.status_code == 200
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "much"])
async def test_a_ratio_must_be_a_share(value: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/v1/classify", params={"max_macs_ratio": value}, content=noise(0))
    assert answer.status_code == 422
    assert answer.json()["type"] == "validation"


async def test_latency_is_predicted_and_a_budget_follows() -> None:
    async with running(fake_app()) as client:
        body = noise(3)
        for _ in range(30):
            plain = await client.post("/v1/super-resolve?threshold=0", content=body)
        predicted = float(plain.headers["x-latency-predicted-ms"])
        total = float(plain.headers["server-timing"].rpartition("total;dur=")[2])
        assert 0 < predicted < 20 * total
        document = (await client.post("/v1/classify", content=body)).json()
        assert document["predicted_ms"] > 0

        roomy = await client.post("/v1/super-resolve?max_latency_ms=60000", content=body)
        assert roomy.headers["x-macs-executed"] == plain.headers["x-macs-executed"]
        assert roomy.headers["x-tier"] == "custom"
        refused = await client.post("/v1/super-resolve?max_latency_ms=0.05", content=body)
        assert refused.status_code == 422
        problem = refused.json()
        assert problem["type"] == "budget-infeasible"
        assert problem["least_budget"] >= 1
        assert "max_latency_ms" in problem["detail"]
        text = (await client.get("/metrics")).text
    assert 'pixeltier_latency_model_error_seconds_count{model="super-resolve"} 31.0' in text
    assert 'pixeltier_latency_targets_total{model="super-resolve",result="met"} 1.0' in text


async def test_the_open_inference_protocol_takes_budgets() -> None:
    import base64

    async with running(fake_app()) as client:
        document = {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "BYTES",
                    "shape": [1],
                    "data": [base64.b64encode(noise(4)).decode()],
                }
            ],
            "parameters": {"max_macs_ratio": 0.3, "max_latency_ms": 60000},
        }
        answer = await client.post("/v2/models/classify/infer", json=document)
        parameters = answer.json()["parameters"]
        assert parameters["macs_executed"] <= 0.3 * parameters["macs_dense"]
        assert parameters["predicted_ms"] > 0
        document["parameters"] = {"max_macs_ratio": 0.001}
        refused = await client.post("/v2/models/classify/infer", json=document)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("budget-infeasible")


async def test_a_tiers_cap_on_the_active_share_holds(tmp_path: Path) -> None:
    table = tmp_path / "tiers.toml"
    rule = json.dumps({"threshold": 0.0, "max_active_share": 0.25}).replace(":", " =").replace('"', "")
    table.write_text(
        f'default = "capped"\n[[tiers]]\nname = "capped"\nthresholds = {{ classify = {rule}, super-resolve = 0.0 }}\n'
    )
    async with running(fake_app(tiers_file=table)) as client:
        answer = (await client.post("/v1/classify", content=noise(5))).json()
    assert 0 < answer["active_share"] <= 0.25
    assert answer["tier"] == "capped"

"""What the Open Inference Protocol tells about models: versions, configuration, statistics, the index."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.images import png
from tests.integration.fakes import fake_app, running

VERSION = "7"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as client:
        yield client


def _request(body: bytes) -> dict[str, Any]:
    data = [base64.b64encode(body).decode()]
    return {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]}


@pytest.mark.parametrize("model", ["classify", "super-resolve"])
async def test_the_version_in_force_is_served_below_its_name(client: httpx.AsyncClient, model: str) -> None:
    root = f"/v2/models/{model}"
    assert (await client.get(root)).json()["versions"] == [VERSION]
    for part in ("", "/config"):
        plain, versioned = (
            await client.get(f"{root}{part}"),
            await client.get(f"{root}/versions/{VERSION}{part}"),
        )
        assert versioned.status_code == 200
        assert versioned.json() == plain.json()
    assert (await client.get(f"{root}/versions/{VERSION}/ready")).json() == {"name": model, "ready": True}
    answer = await client.post(f"{root}/versions/{VERSION}/infer", json=_request(png()))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == VERSION
    (found,) = (await client.get(f"{root}/versions/{VERSION}/stats")).json()["model_stats"]
    assert (found["version"], found["inference_count"]) == (VERSION, 1)


@pytest.mark.parametrize("part", ["", "/ready", "/config", "/stats", "/infer"])
@pytest.mark.parametrize("model", ["classify", "nothing"])
async def test_another_version_is_not_found(client: httpx.AsyncClient, part: str, model: str) -> None:
    path = f"/v2/models/{model}/versions/1{part}"
    answer = await (client.post(path, json=_request(png())) if part == "/infer" else client.get(path))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    names = "the version in force is '7'" if model == "classify" else "the models are classify, super-resolve"
    assert names in answer.json()["error"]


async def test_neither_model_nor_version_is_ready_while_draining() -> None:
    app = fake_app()
    async with running(app) as client:
        assert (await client.post("/v2/repository/index", json={"ready": True})).json() != []
        app.state.context.pool.begin_drain()
        for path in ("/v2/models/classify/ready", f"/v2/models/classify/versions/{VERSION}/ready"):
            assert (await client.get(path)).status_code == 503
        everything = (await client.post("/v2/repository/index")).json()
        assert {one["state"] for one in everything} == {"UNAVAILABLE"}
        assert all(one["reason"] for one in everything)
        assert (await client.post("/v2/repository/index", json={"ready": True})).json() == []


async def test_statistics_are_those_of_the_metrics() -> None:
    async with running(fake_app(recent_images=1)) as client:
        before = (await client.get("/v2/models/classify/stats")).json()["model_stats"][0]
        assert before["last_inference"] == before["inference_count"] == 0
        began = time.time_ns() // 1_000_000
        await asyncio.gather(*(client.post("/v1/classify", content=png()) for _ in range(3)))
        await client.post("/v2/models/classify/infer", json=_request(png()))
        await client.post("/v1/classify?tier=turbo", content=png())
        await client.post("/v1/super-resolve", content=b"no image")
        everything = (await client.get("/v2/models/stats")).json()["model_stats"]
        metrics = _samples((await client.get("/metrics")).text)
    classify, resolve = everything
    assert [one["name"] for one in everything] == ["classify", "super-resolve"]
    assert began <= classify["last_inference"] <= time.time_ns() // 1_000_000
    assert classify["inference_count"] == classify["inference_stats"]["success"]["count"] == 4
    assert classify["inference_stats"]["fail"]["count"] == 1
    assert resolve["inference_stats"]["fail"]["count"] == 1
    assert resolve["inference_count"] == 0
    assert classify["execution_count"] == metrics['pixeltier_batch_size_count{model="classify"}']
    stages = {
        "success": ("total",),
        "queue": ("queue",),
        "compute_input": ("decode",),
        "compute_infer": ("importance", "infer"),
        "compute_output": ("encode",),
    }
    for name, parts in stages.items():
        found = classify["inference_stats"][name]
        keys = [f'model="classify",stage="{part}"' for part in parts]
        seconds = sum(metrics[f"pixeltier_stage_duration_seconds_sum{{{key}}}"] for key in keys)
        assert found["count"] == metrics[f"pixeltier_stage_duration_seconds_count{{{keys[0]}}}"] == 4
        assert found["ns"] == pytest.approx(seconds * 1e9, rel=0.02, abs=2e5), name


def _samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_the_configuration_is_the_services_own() -> None:
    async with running(fake_app(max_batch=3, sr_max_pixels=1000)) as client:
        classify, resolve = [
            (await client.get(f"/v2/models/{model}/config")).json()["parameters"]
            for model in ("classify", "super-resolve")
        ]
    assert classify["max_batch"] == {"string_value": "3"}
    assert resolve == {"max_pixels": {"string_value": "1000"}, "max_batch": {"string_value": "1"}}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "the body"),
        (b'{"ready": "yes"}', "ready"),
        (b'{"raedy": true}', "raedy: there is no such key"),
    ],
)
async def test_an_index_request_that_is_not_valid(client: httpx.AsyncClient, body: bytes, word: str) -> None:
    answer = await client.post("/v2/repository/index", content=body[:60_000])
    assert answer.status_code == 422
    assert word in answer.json()["error"]


async def test_an_index_request_has_a_limit(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/repository/index", content=b" " * 100_000)
    assert answer.status_code == 413
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/models", "/v2/models/stats", "/v2/models/classify", "/v2/models/classify/versions/7/ready"],
)
async def test_query_parameters_of_routes_that_have_none(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"{path}?verbose=1")
    assert answer.status_code == 422
    assert "query.verbose: there is no such parameter" in answer.json()["error"]


async def test_the_list_of_models(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/models")).json() == {"models": ["classify", "super-resolve"]}

"""Metrics agree with what the responses' headers said."""

from collections import defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pixeltier.service.tasks import Task
from pixeltier.service.tiers.schema import load
from tests.images import png
from tests.integration.fakes import fake_app, running


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_every_label_set_exists_at_the_start() -> None:
    async with running(fake_app()) as client:
        found = _samples((await client.get("/metrics")).text)
    for model in ("classify", "super-resolve"):
        for tier in ("exact", "high", "balanced", "fast", "fastest", "custom"):
            assert found[_key("pixeltier_macs_executed_total", model=model, tier=tier)] == 0
            assert found[_key("pixeltier_macs_dense_total", model=model, tier=tier)] == 0
            assert found[_key("pixeltier_request_macs_saved_ratio_count", model=model, tier=tier)] == 0
            assert found[_key("pixeltier_requests_total", model=model, tier=tier, outcome="ok")] == 0
            assert found[_key("pixeltier_requests_total", model=model, tier=tier, outcome="overloaded")] == 0
    assert found[_key("http_requests_total", method="POST", route="/v1/classify", status="504")] == 0
    assert found[_key("pixeltier_worker_restarts_total", reason="crash")] == 0
    assert found[_key("pixeltier_workers", state="idle")] == 1
    assert found[_key("pixeltier_queue_limit")] == 64
    for tier in load().tiers:
        key = _key("pixeltier_tier_threshold", model="super-resolve", tier=tier.name)
        assert found[key] == tier.thresholds.of(Task.SUPER_RESOLVE).threshold
    assert found[_key("pixeltier_config_version")] == 1
    assert any(name == "pixeltier_build_info" and ("isa", "fake") in labels for name, labels in found)


async def test_metrics_agree_with_headers() -> None:
    dense: dict[tuple[str, str], int] = defaultdict(int)
    executed: dict[tuple[str, str], int] = defaultdict(int)
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with running(fake_app()) as client:
        for model in ("classify", "super-resolve"):
            for tier, times in (("exact", 1), ("fast", 3), ("fastest", 2)):
                for n in range(times):
                    answer = await client.post(f"/v1/{model}?tier={tier}", content=png(20 + n, 30))
                    headers = answer.headers
                    dense[model, tier] += int(headers["x-macs-dense"])
                    executed[model, tier] += int(headers["x-macs-executed"])
                    ratios[model, tier].append(float(headers["x-macs-saved-ratio"]))
        await client.post("/v1/classify?tier=fast", content=b"no image")
        found = _samples((await client.get("/metrics")).text)
    for (model, tier), expected in dense.items():
        labels = {"model": model, "tier": tier}
        assert found[_key("pixeltier_macs_dense_total", **labels)] == expected
        assert found[_key("pixeltier_macs_executed_total", **labels)] == executed[model, tier]
        assert found[_key("pixeltier_request_macs_saved_ratio_count", **labels)] == len(ratios[model, tier])
        assert found[_key("pixeltier_request_macs_saved_ratio_sum", **labels)] == pytest.approx(
            sum(ratios[model, tier]), abs=1e-5
        )
        assert found[_key("pixeltier_requests_total", outcome="ok", **labels)] == len(ratios[model, tier])
    assert found[_key("http_requests_total", method="POST", route="/v1/classify", status="200")] == 6
    assert found[_key("http_requests_total", method="POST", route="/v1/classify", status="422")] == 1
    assert found[_key("pixeltier_stage_duration_seconds_count", model="classify", stage="infer")] == 6
    assert found[_key("pixeltier_request_pixels_sum", model="super-resolve")] == sum(
        (20 + n) * 30 for times in (1, 3, 2) for n in range(times)
    )


async def test_openmetrics_is_negotiated() -> None:
    async with running(fake_app()) as client:
        plain = await client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        rich = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert rich.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert rich.text.endswith("# EOF\n")


async def test_live_work_stands_beside_what_calibration_promised() -> None:
    """The fake cards promise 0.9 t of the MACs saved; calibration promises 1 - t of the windows active."""
    async with running(fake_app()) as client:
        bodies = [(await client.post("/v1/classify?tier=fast", content=png(30, 20))).json() for _ in range(3)]
        found = _samples((await client.get("/metrics")).text)
    labels = {"model": "classify", "tier": "fast"}
    threshold = bodies[0]["threshold"]
    dense = sum(body["macs"]["dense"] for body in bodies)
    assert found[_key("pixeltier_macs_expected_total", **labels)] == pytest.approx(
        dense * (1 - 0.9 * threshold)
    )
    assert found[_key("pixeltier_active_share_calibrated_total", **labels)] == pytest.approx(
        3 * (1 - threshold)
    )
    assert found[_key("pixeltier_request_active_share_sum", **labels)] == pytest.approx(
        sum(body["active_share"] for body in bodies), abs=1e-4
    )


async def test_readiness_and_open_requests_are_gauges() -> None:
    app = fake_app()
    async with running(app) as client:
        found = _samples((await client.get("/metrics")).text)
        assert found[_key("pixeltier_ready")] == 1
        assert found[_key("http_requests_in_progress")] == 1  # the scrape itself
        app.state.context.pool.begin_drain()
        found = _samples((await client.get("/metrics")).text)
        assert found[_key("pixeltier_ready")] == 0
        assert found[_key("http_requests_in_progress")] == 1

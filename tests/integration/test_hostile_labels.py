"""No traffic makes new series: labels are ours, whatever clients send."""

import random
import string
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pixeltier.service.api.access import new_key
from pixeltier.service.api.openapi import documented_statuses
from pixeltier.service.problems import OUTCOMES
from pixeltier.service.telemetry.http_metrics import METHODS
from tests.images import png
from tests.integration.fakes import fake_app, running

MARK = "zzq"  # stands in everything that is hostile, so that it is found wherever it ends up

Series = frozenset[tuple[str, frozenset[tuple[str, str]]]]


def _series(text: str) -> Series:
    return frozenset(
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def _word(chance: random.Random) -> str:
    letters = string.ascii_letters + string.digits + "%-_.~{}<>\"'\\é\u2028"
    return MARK + "".join(chance.choices(letters, k=chance.randint(1, 40)))


async def _attack(client: httpx.AsyncClient, chance: random.Random, count: int, key: str) -> None:
    """Random methods, paths, tiers, parameters, headers and bodies, with and without a key."""
    paths = [
        "/v1/classify",
        "/v1/super-resolve",
        "/v2/models/classify/infer",
        "/v1/tiers",
        "/healthz",
        "/admin/v1/tiers",
    ]
    image = png(6, 5)
    for _ in range(count):
        word = _word(chance)
        ascii_word = word.encode("ascii", "ignore").decode()
        method = chance.choice(["POST", "POST", "GET", "BREW", ascii_word[:12].strip("\"'\\<>{}%.~") or "X"])
        path = chance.choice(
            [*paths, f"/{word}", f"/v1/{word}", f"/v2/models/{word}/infer", f"/v1/classify/{word}"]
        )
        query = chance.choice(
            [
                {"tier": word},
                {"tier": "fast"},
                {"threshold": word},
                {"threshold": str(chance.random())},
                {word: word},
                {},
            ]
        )
        headers = {
            "X-Request-Id": ascii_word,
            "User-Agent": ascii_word,
            "X-Tier": chance.choice(["fast", ascii_word]),
            "Accept": chance.choice(["*/*", ascii_word]),
            "Content-Type": chance.choice(["image/png", "application/octet-stream", f"image/{MARK}"]),
            "traceparent": ascii_word,
            "X-Forwarded-For": ascii_word,
            "Host": f"{MARK}.example",
        }
        if chance.random() < 0.7:
            headers["Authorization"] = f"Bearer {key}"
        body = chance.choice([image, word.encode(), b""])
        await client.request(method, path, params=query, headers=headers, content=body)


async def test_hostile_traffic_makes_no_series_of_its_own(tmp_path: Path) -> None:
    token, stanza = new_key("team-a")
    keys = tmp_path / "keys.toml"
    keys.write_text(stanza)
    app = fake_app(api_keys_file=keys)
    chance = random.Random(11)
    async with running(app) as client:
        before = _series((await client.get("/metrics")).text)
        await _attack(client, chance, 250, token)
        between = _series((await client.get("/metrics")).text)
        await _attack(client, chance, 250, token)
        text = (await client.get("/metrics")).text
    after = _series(text)
    assert MARK not in text

    # What is new is at most a pair of route and status that the OpenAPI document does not promise, for a route
    # or method that is not there, and there are few of these.
    for name, labels in after - before:
        assert name.startswith("http_request"), (name, labels)
    routes = {route for _, route, _ in documented_statuses(app)} | {
        "none",
        "/metrics",
        "/docs",
        "/openapi.json",
    }
    values = {(name, value) for _, labels in after for name, value in labels}
    assert {value for name, value in values if name == "method"} <= METHODS | {"other"}
    assert {value for name, value in values if name == "route"} - routes == set()
    assert {value for name, value in values if name == "outcome"} == set(OUTCOMES)
    assert {value for name, value in values if name == "tier"} == {
        *app.state.context.tiers.snapshot.names, "custom", "none",
    }  # fmt: skip
    assert all(100 <= int(value) < 600 for name, value in values if name == "status")
    assert len(after) < len(before) * 1.2

    # Twice the attack makes next to nothing more: the number is bounded by what the service is, not by what is sent.
    assert len(after - between) < 100

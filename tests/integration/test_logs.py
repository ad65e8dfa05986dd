"""One line a request, and no secret in any of them."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixeltier.service.api.access import new_key
from pixeltier.service.telemetry import logs
from tests.images import png
from tests.integration.fakes import FAIL, fake_app, running

SECRET = "hunter2-correct-horse"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, at the most talkative level, as the service itself would write it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def _lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def test_no_secret_reaches_the_log(log: io.StringIO, tmp_path: Path) -> None:
    token, stanza = new_key("team-a")
    keys = tmp_path / "keys.toml"
    keys.write_text(stanza)
    bearer = {"Authorization": f"Bearer {token}"}
    async with running(fake_app(api_keys_file=keys)) as client:
        image = png(8, 8)
        calls: list[tuple[str, dict[str, str]]] = [
            ("/v1/classify?tier=fast", bearer),
            ("/v1/classify", {"Authorization": f"Bearer {SECRET}"}),
            ("/v1/classify", {"Authorization": f"Basic {SECRET}"}),
            ("/v1/classify", {"X-Api-Key": SECRET, "Cookie": f"session={SECRET}"}),
            (f"/v1/classify?token={SECRET}&api_key={SECRET}&tier={SECRET}", bearer),
            (f"/v1/classify?threshold={FAIL}", bearer),
            (f"/v1/classify/{token}", {}),
            (f"/v1/nothing/token={SECRET}", {}),
            ("/v1/classify?tier=fast", bearer | {"X-Request-Id": token}),
            ("/v2/models/classify/infer", bearer | {"X-Tier": SECRET}),
        ]
        for url, headers in calls:
            await client.post(url, content=image, headers=headers)
    text = log.getvalue()
    assert token not in text
    assert token[4:] not in text
    assert SECRET not in text
    assert "team-a" in text  # who asked is told by the key's name
    requests = [line for line in _lines(log) if line["event"] == "request" and line["method"] == "POST"]
    assert len(requests) == len(calls)


async def test_no_admin_token_reaches_the_log(log: io.StringIO, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    admin, old = "a-token-of-the-operator's", "an-older-token-of-theirs"
    tokens.write_text(f"alice: {old}\n")
    bearer = {"Authorization": f"Bearer {admin}"}
    async with running(fake_app(admin_token_file=tokens)) as client:
        tokens.write_text(f"alice: {admin}\n")
        assert (await client.get("/admin/v1/tiers", headers=bearer)).status_code == 200
        await client.get("/admin/v1/tiers", headers={"Authorization": f"Bearer {old}"})
        await client.get(f"/admin/v1/{admin}", headers=bearer)
        await client.get(f"/admin/v1/tiers?token={admin}", headers=bearer)
        changed = await client.put("/admin/v1/tiers", headers=bearer, json={"reason": f"with {admin}"})
        assert changed.status_code >= 400
        tokens.write_text(f"alice: {admin[:8]}\n")  # too short: the file cannot be used any more
        await client.get("/admin/v1/tiers", headers=bearer)
    text = log.getvalue()
    assert "nobody is let in" in text
    assert admin not in text
    assert old not in text


async def test_an_unexpected_error_logs_its_traceback_without_the_headers(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug whose message carries the request's headers must not carry the credentials with it."""
    app = fake_app()

    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot serve [(b'authorization', b'Bearer {SECRET}')] token={SECRET}")

    async with running(app) as client:
        monkeypatch.setattr(app.state.context.pool, "run", broken)
        answer = await client.post("/v1/classify", content=png(8, 8), headers={"X-Request-Id": "bug"})
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert SECRET not in log.getvalue()
    (line,) = [line for line in _lines(log) if "traceback" in line]
    assert line["request_id"] == "bug"
    assert "RuntimeError: cannot serve" in line["traceback"]


async def test_a_request_is_one_line_with_the_facts(log: io.StringIO) -> None:
    async with running(fake_app()) as client:
        answer = await client.post(
            "/v1/classify?tier=fast", content=png(8, 8), headers={"X-Request-Id": "facts"}
        )
        await client.get("/v1/nothing", headers={"X-Request-Id": "lost"})
    (line,) = [line for line in _lines(log) if line.get("request_id") == "facts"]
    assert {name: line[name] for name in ("method", "path", "status", "model", "tier", "outcome")} == {
        "method": "POST",
        "path": "/v1/classify",
        "status": 200,
        "model": "classify",
        "tier": "fast",
        "outcome": "ok",
    }
    assert line["macs_executed"] == int(answer.headers["x-macs-executed"])
    assert set(line["ms"]) == {"queue", "decode", "importance", "infer", "encode", "total"}
    (lost,) = [line for line in _lines(log) if line.get("request_id") == "lost"]
    assert (lost["status"], lost["outcome"], lost["route"]) == (404, "not-found", "none")

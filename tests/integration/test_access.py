"""API keys: who gets in, to which tiers, how often, how many at once."""

import asyncio
from pathlib import Path

import httpx
import pytest

from pixeltier.service.api import access
from pixeltier.service.command_line.main import main
from tests.images import png
from tests.integration.fakes import SLOW, fake_app, running


def _file(tmp_path: Path, head: str = "", tail: str = "") -> tuple[Path, str]:
    token, stanza = access.new_key("team-a")
    path = tmp_path / "keys.toml"
    path.write_text(head + stanza + tail)
    return path, token


def _post(client: httpx.AsyncClient, token: str | None, **params: object) -> "asyncio.Future[httpx.Response]":
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return asyncio.ensure_future(client.post("/v1/classify", params=params, content=png(), headers=headers))  # type: ignore[arg-type]


async def test_without_a_key_or_with_a_wrong_one(tmp_path: Path) -> None:
    path, token = _file(tmp_path)
    async with running(fake_app(api_keys_file=path)) as client:
        assert (await _post(client, token)).status_code == 200
        for wrong in (None, "", token[:-1], token + "x", "é"):
            answer = await _post(client, None if wrong is None else wrong.encode("ascii", "ignore").decode())
            assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/v1/tiers")).status_code == 200
        infer = await client.post("/v2/models/classify/infer", json={})
        assert infer.status_code == 401
        assert token not in (await client.get("/metrics")).text


async def test_tiers_are_allowed_by_key(tmp_path: Path) -> None:
    path, token = _file(tmp_path, tail='tiers = ["fast", "balanced"]\n')
    async with running(fake_app(api_keys_file=path)) as client:
        assert (await _post(client, token, tier="fast")).status_code == 200
        for params in ({"tier": "exact"}, {"threshold": 0.1}):
            answer = await _post(client, token, **params)
            assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")


async def test_rate(tmp_path: Path) -> None:
    path, token = _file(tmp_path, tail="rate = 5.0\nburst = 3\n")
    async with running(fake_app(api_keys_file=path)) as client:
        statuses = [(await _post(client, token)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await _post(client, token)
        assert answer.json()["type"] == "rate-limited"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["ratelimit"].startswith('"client";r=0;t=1')
        assert answer.headers["ratelimit-policy"] == '"client";q=3;w=1'
        await asyncio.sleep(0.25)
        assert (await _post(client, token)).status_code == 200


async def test_concurrency(tmp_path: Path) -> None:
    path, token = _file(tmp_path, tail="concurrency = 2\n")
    async with running(fake_app(api_keys_file=path)) as client:
        answers = await asyncio.gather(*(_post(client, token, threshold=SLOW) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
        assert (await _post(client, token)).status_code == 200


async def test_anonymous_clients_share_limits_by_address(tmp_path: Path) -> None:
    path, token = _file(tmp_path, head="anonymous = true\nlimits = { rate = 1.0, burst = 1 }\n")
    async with running(fake_app(api_keys_file=path)) as client:
        assert [(await _post(client, None)).status_code for _ in range(2)] == [200, 429]
        assert (await _post(client, token)).status_code == 200


@pytest.mark.parametrize("text", ["keys = 3", "[[keys]]\nname='a'\nsha256='x'", "colour=1", "= ="])
def test_a_bad_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(access.AccessFileError, match=r"keys\.toml"):
        access.load(path)


def test_the_command_makes_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "team-b"]) == 0
    out = capsys.readouterr().out
    assert "[[keys]]" in out
    assert "pxt_" in out
    assert main(["key", "no spaces"]) == 2

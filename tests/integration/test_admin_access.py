"""The admin API: who gets in."""

from pathlib import Path

from tests.integration.admin import FAST, TIERS, TOKEN, desk, patch, problem
from tests.integration.fakes import fake_app, running

ROUTES = [
    ("GET", "/admin/v1/tiers"),
    ("PUT", "/admin/v1/tiers"),
    ("PATCH", "/admin/v1/tiers"),
    ("POST", "/admin/v1/tiers:dry-run"),
    ("POST", "/admin/v1/tiers:rollback"),
    ("GET", "/admin/v1/versions"),
    ("GET", "/admin/v1/versions/1"),
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/live"),
]


async def test_without_a_token_file_there_is_nothing_here() -> None:
    async with running(fake_app()) as client:
        for method, path in ROUTES:
            answer = await client.request(
                method, path, headers={"authorization": f"Bearer {TOKEN}"}, content=b"{"
            )
            assert problem(answer) == (404, "not-found"), path
        assert (await client.get("/v1/tiers")).json()["admin"] is False


WRONG = ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ä")


async def test_a_wrong_token_gets_no_further(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        del client.headers["authorization"]
        for given in (None, *WRONG):
            headers = {} if given is None else {b"authorization": given.encode("latin-1")}
            for method, path in ROUTES:
                answer = await client.request(method, path + "?limit=x", headers=headers, content=b"{")
                assert problem(answer) == (401, "unauthorized"), (path, given)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in answer.text
        assert (await client.get("/v1/tiers")).json()["admin"] is True


async def test_tokens_rotate_and_a_file_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    async with desk(tmp_path) as client:
        assert (await client.get(TIERS)).status_code == 200
        replacement = tmp_path / "new"
        replacement.write_text("carol:carol-has-a-token-too\n")
        replacement.replace(tokens)
        assert (await client.get(TIERS)).status_code == 401
        client.headers["authorization"] = "bearer carol-has-a-token-too"
        assert (await client.get(TIERS)).status_code == 200
        for broken in ("", "short\n", "a name:carol-has-a-token-too\n"):
            tokens.write_text(broken)
            assert (await client.get(TIERS)).status_code == 401
        tokens.unlink()
        assert (await client.get(TIERS)).status_code == 401


async def test_the_actor_is_the_token_s_name(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await patch(client, FAST)
        client.headers["authorization"] = "Bearer bob-without-a-name-0123"
        await patch(client, {"default": "fast"})
        entries = (await client.get("/admin/v1/audit")).json()["entries"]
        assert [entry["actor"] for entry in entries] == ["operator", "alice", "service"]


async def test_a_bad_line_does_not_lock_out_the_others(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        tokens = tmp_path / "tokens"
        tokens.write_text(f"\ufeff# who\nalice:{TOKEN}\nbob:\u00a0\n")
        assert (await client.get(TIERS)).status_code == 200
        tokens.write_text(f"short\nalice:{TOKEN}\n# the end\n")
        assert (await client.get(TIERS)).status_code == 200

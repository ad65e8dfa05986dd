"""The admin API: who gets in, what changes, who wins, what is remembered, what is predicted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from pixeltier.service.tiers.history import StateDirectory
from tests.images import encoded, photo, png
from tests.integration.fakes import fake_app, running
from tests.tier_table import tiers_file

TOKEN = "alice-has-a-long-token"
TIERS = "/admin/v1/tiers"
FAST = {"tiers": {"fast": {"thresholds": {"classify": 0.6}}}}


@asynccontextmanager
async def desk(tmp_path: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service with an admin API, and a client that has the token."""
    tokens = tmp_path / "tokens"
    if not tokens.exists():
        tokens.write_text(f"# who\n\nalice:{TOKEN}\nbob-without-a-name-0123\n")
    files = {"admin_token_file": tokens, "state_dir": tmp_path / "state", "tiers_file": tiers_file(tmp_path)}
    settings = {**files, **settings}
    async with running(fake_app(**settings)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        client.headers["x-change-reason"] = "a test"
        yield client


async def _patch(
    client: httpx.AsyncClient, body: Any, version: int | str = "*", **headers: str
) -> httpx.Response:
    tag = version if version == "*" else f'"{version}"'
    return await client.patch(TIERS, json=body, headers={"if-match": str(tag), **headers})


def _problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"]


def _noise(width: int, height: int, seed: int) -> Image.Image:
    """A picture whose importance spreads widely."""
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))


# ---- who gets in -------------------------------------------------------------------------------------

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
            assert _problem(answer) == (404, "not-found"), path
        assert (await client.get("/v1/tiers")).json()["admin"] is False


WRONG = ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ä")


async def test_a_wrong_token_gets_no_further(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        del client.headers["authorization"]
        for given in (None, *WRONG):
            headers = {} if given is None else {b"authorization": given.encode("latin-1")}
            for method, path in ROUTES:
                answer = await client.request(method, path + "?limit=x", headers=headers, content=b"{")
                assert _problem(answer) == (401, "unauthorized"), (path, given)
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
        await _patch(client, FAST)
        client.headers["authorization"] = "Bearer bob-without-a-name-0123"
        await _patch(client, {"default": "fast"})
        entries = (await client.get("/admin/v1/audit")).json()["entries"]
        assert [entry["actor"] for entry in entries] == ["operator", "alice", "service"]


# ---- reading and changing ----------------------------------------------------------------------------


async def test_what_a_reader_sees(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        answer = await client.get(TIERS)
        found = answer.json()
        assert answer.headers["etag"] == '"1"'
        assert (found["version"], found["kind"], found["actor"], found["persistent"]) == (
            1,
            "start",
            "service",
            True,
        )
        fast = next(tier for tier in found["tiers"] if tier["name"] == "fast")["models"]["classify"]
        assert fast["expected"]["macs_saved"] == pytest.approx(0.9 * fast["threshold"])
        assert fast["expected"]["change"]["top1"] == pytest.approx(-0.1 * fast["threshold"])
        assert [point["threshold"] for point in found["curves"]["classify"]["points"]] == [0, 0.5, 1]
        for tag in ('"1"', 'W/"1"', '"7", "1"', "*"):
            same = await client.get(TIERS, headers={"if-none-match": tag})
            assert (same.status_code, same.content) == (304, b"")
        assert (await client.get(TIERS, headers={"if-none-match": '"2"'})).status_code == 200


async def test_a_patch_acts_on_the_next_request(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        before = await client.post("/v1/classify?tier=fast", content=png())
        changed = await _patch(client, {**FAST, "reason": "tighten"}, 1)
        assert (changed.status_code, changed.headers["etag"], changed.headers["x-config-version"]) == (
            200,
            '"2"',
            "2",
        )
        assert changed.json()["reason"] == "tighten"
        after = await client.post("/v1/classify?tier=fast", content=png())
        assert (before.headers["x-config-version"], after.headers["x-config-version"]) == ("1", "2")
        assert float(after.headers["x-threshold"]) == 0.6
        text = (await client.get("/metrics")).text
        assert 'pixeltier_tier_threshold{model="classify",tier="fast"} 0.6' in text
        assert "pixeltier_config_version 2.0" in text
        assert 'pixeltier_config_reloads_total{result="applied"} 1.0' in text


async def test_a_put_replaces_the_document_and_one_that_changes_nothing_makes_no_version(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as client:
        document = (await client.get(TIERS)).json()["document"]
        same = await client.put(TIERS, json=document, headers={"if-match": '"1"'})
        assert (same.status_code, same.headers["etag"]) == (200, '"1"')
        document["tiers"] = [tier for tier in document["tiers"] if tier["name"] != "high"]
        document["tiers"][1]["thresholds"]["classify"] = 0.4
        put = await client.put(TIERS, json=document, headers={"if-match": '"1"', "x-change-reason": "fewer"})
        assert put.json()["version"] == 2
        assert (await client.get("/v1/tiers")).json()["tiers"][1]["models"]["classify"]["threshold"] == 0.4
        gone = await client.post("/v1/classify?tier=high", content=png())
        assert _problem(gone) == (422, "unknown-tier")
        assert (
            'pixeltier_tier_threshold{model="classify",tier="high"}'
            not in (await client.get("/metrics")).text
        )


PRECONDITIONS = (
    (None, 428),
    ('"{now}"', 200),
    ('"{other}"', 412),
    ('W/"{now}"', 412),
    ("{now}", 412),
    ("x", 412),
    ("*", 200),
    ('"{other}", "{now}"', 200),
    ('"0{now}"', 412),
    ('"{now} "', 412),
    ('"{now}', 412),
    ('"{now}" "{now}"', 412),
    ('*, "{now}"', 412),
    ('W/"{now}", "{now}"', 200),
    (' , "{now}" ,, "x,y"', 200),
    ("", 412),
)

REASONS = (
    ('W/"{now}"', 'W/"{now}" is a weak tag, and those never match here'),
    ('W/"1", W/"x"', "is a weak tag"),
    ('"0{now}"', '"0{now}" is not the tag of any version'),
    ('"x"', '"x" is not the tag of any version'),
    ("{now}", "'{now}' is neither * nor a list of tags in quotes"),
    ('*, "{now}"', "is neither * nor a list of tags in quotes"),
    ('"{now}', "is neither * nor a list of tags in quotes"),
    ("", "'' is neither * nor a list of tags in quotes"),
)


@pytest.mark.parametrize(("given", "said"), REASONS)
async def test_a_precondition_that_can_never_hold_says_why(tmp_path: Path, given: str, said: str) -> None:
    """Nobody was faster: the reason is the tag, and the right one stands beside it."""
    async with desk(tmp_path) as client:
        now = (await client.get(TIERS)).json()["version"]
        answer = await client.patch(TIERS, json=FAST, headers={"if-match": given.format(now=now)})
        document = answer.json()
        assert (answer.status_code, document["type"]) == (412, "config-conflict")
        assert said.format(now=now) in document["detail"]
        assert f'version {now} is in force, its tag is "{now}"' in document["detail"]
        assert document["title"] == "If-Match holds no ETag of the table"
        assert "without W/" in document["help"]
        assert document["current_version"] == now


async def test_a_precondition_that_was_overtaken_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, FAST)
        document = (await client.patch(TIERS, json=FAST, headers={"if-match": '"1"'})).json()
        assert document["title"] == "The table was changed meanwhile"
        assert document["detail"] == "version 2 is in force, your change is based on 1"


async def test_preconditions_on_several_lines_are_one_list(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        lines = [("if-match", '"8"'), ("if-match", '"1"')]
        assert (await client.patch(TIERS, json=FAST, headers=lines)).status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [('"1"', 304), ('W/"1"', 304), ('"9", W/"1"', 304), ("*", 304), ('"01"', 200), ("1", 200), ('"1', 200)],
)
async def test_a_table_at_hand_is_compared_weakly(tmp_path: Path, given: str, status: int) -> None:
    async with desk(tmp_path) as client:
        answer = await client.get(TIERS, headers={"if-none-match": given})
        assert answer.status_code == status


@pytest.mark.parametrize("method", ["PUT", "PATCH", "ROLLBACK"])
async def test_preconditions(tmp_path: Path, method: str) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, FAST)
        for tag, status in PRECONDITIONS:
            table = (await client.get(TIERS)).json()
            now, document = table["version"], table["document"]
            default = "fast" if document["default"] == "balanced" else "balanced"
            headers = {} if tag is None else {"if-match": tag.format(now=now, other=now + 1)}
            if method == "PUT":
                answer = await client.put(TIERS, json={**document, "default": default}, headers=headers)
            elif method == "PATCH":
                answer = await client.patch(TIERS, json={"default": default}, headers=headers)
            else:
                answer = await client.post(f"{TIERS}:rollback", headers=headers)
            assert answer.status_code == status, tag
            if status != 200:
                assert answer.json()["type"] == "config-conflict"
            assert (await client.get(TIERS)).json()["version"] == now + (status == 200)


async def test_of_writers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        for round_ in range(1, 4):
            bodies = [
                # None is in force before its round: what changes nothing makes no version, and wins beside another.
                {"tiers": {"fast": {"thresholds": {"classify": 0.46 + 0.01 * round_ + 0.001 * n}}}}
                for n in range(8)
            ]
            answers = await asyncio.gather(*(_patch(client, body, round_) for body in bodies))
            assert sorted(answer.status_code for answer in answers) == [200] + 7 * [412]
            assert {
                answer.json().get("current_version") for answer in answers if answer.status_code == 412
            } == {round_ + 1}
            assert (await client.get(TIERS)).json()["version"] == round_ + 1


REFUSED: list[tuple[Any, str]] = [
    ({"tiers": {"fast": {"thresholds": {"classify": 0.1}}}}, "document"),
    ({"tiers": {"fast": {"thresholds": {"classify": 1.1}}}}, "tiers.fast.thresholds.classify.threshold"),
    (
        {"tiers": {"fast": {"thresholds": {"classify": {"max_psnr_drop_db": 0.1}}}}},
        "tiers.fast.thresholds",
    ),
    (
        {"tiers": {"fast": {"thresholds": {"classify": {"macs_saved": 0.95}}}}},
        "tiers.fast.thresholds.classify",
    ),
    (
        {"tiers": {"fast": {"thresholds": {"classify": {"max_top1_drop": 0.0}}}}},
        "tiers.fast.thresholds.classify",
    ),
    ({"tiers": {"fast": {"floor": "high"}}}, "document"),
    ({"tiers": {"high": {"thresholds": {"classify": {"max_active_share": 0.5}}}}}, "document"),
    ({"tiers": {"quick": {}}}, "tiers.quick"),
    ({"default": "quick"}, "document"),
    ({"brownout": {"enter_wait_s": 0.01}}, "brownout"),
    ({"shadow": {"share": 2}}, "shadow.share"),
    ({"colour": "red"}, "colour"),
    ({"reason": "x" * 501}, "reason"),
    ({"reason": "a\nb"}, "reason"),
]


async def test_what_breaks_a_rule_is_refused_with_its_place(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        for patch, field in REFUSED:
            answers = [await _patch(client, patch, 1)]
            if "reason" not in patch:
                answers.append(await client.post(f"{TIERS}:dry-run", json={"patch": patch}))
            for answer in answers:
                assert _problem(answer) == (422, "validation"), patch
                assert any(error["field"].startswith(field) for error in answer.json()["errors"]), answer.text
        assert (await client.get(TIERS)).json()["version"] == 1


async def test_a_change_says_why_and_a_rollback_may(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        del client.headers["x-change-reason"]
        document = (await client.get(TIERS)).json()["document"]
        match = {"if-match": "*"}
        for reason in ({}, {"reason": ""}, {"reason": "  "}):
            for answer in (
                await client.patch(TIERS, json={**FAST, **reason}, headers=match),
                await client.put(TIERS, json={**document, "default": "fast", **reason}, headers=match),
            ):
                assert _problem(answer) == (422, "validation")
                (error,) = answer.json()["errors"]
                assert error["field"] == "reason"
                assert "X-Change-Reason" in error["message"]
        assert (await client.get(TIERS)).json()["version"] == 1
        assert (await client.patch(TIERS, json={**FAST, "reason": "why"}, headers=match)).status_code == 200
        back = await client.post(f"{TIERS}:rollback", headers=match)
        assert back.json()["reason"] == "back to version 1"
        assert all(entry["reason"] for entry in (await client.get("/admin/v1/audit")).json()["entries"])


async def test_a_bad_line_does_not_lock_out_the_others(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        tokens = tmp_path / "tokens"
        tokens.write_text(f"\ufeff# who\nalice:{TOKEN}\nbob:\u00a0\n")
        assert (await client.get(TIERS)).status_code == 200
        tokens.write_text(f"short\nalice:{TOKEN}\n# the end\n")
        assert (await client.get(TIERS)).status_code == 200


NO_BODIES = [
    (b"{", "application/json", (422, "validation")),
    (b"[]", "application/json", (422, "validation")),
    (b'{"default": NaN}', "application/json", (422, "validation")),
    (b"\xff", "application/json", (422, "validation")),
    (b"[" * 100_000, "application/json", (422, "validation")),
    (b"{}", "text/plain", (415, "unsupported-media-type")),
    (b" " * (2**20 + 1), "application/json", (413, "payload-too-large")),
]


async def test_bodies_that_are_none(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        for content, type_, expected in NO_BODIES:
            headers = {"if-match": "*", "content-type": type_}
            for method, path in (("PUT", TIERS), ("PATCH", TIERS), ("POST", f"{TIERS}:dry-run")):
                answer = await client.request(method, path, content=content, headers=headers)
                assert _problem(answer) == expected, (method, path, content[:20])


async def test_the_published_schema_accepts_what_is_served_and_refuses_what_is_refused(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as client:
        schema = (await client.get("/v1/tiers/schema")).json()
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        document = (await client.get(TIERS)).json()["document"]
        validator.validate(document)
        document["tiers"][0]["thresholds"]["classify"] = 0
        validator.validate(document)
        document["tiers"][0]["colour"] = "red"
        assert not validator.is_valid(document)
        assert json.loads(Path("docs/tiers.schema.json").read_text()) == schema


# ---- history -----------------------------------------------------------------------------------------


async def test_versions_audit_and_rollback(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, {**FAST, "reason": "one"}, 1, **{"x-request-id": "change-1"})
        await _patch(client, {"default": "fast"}, 2, **{"x-change-reason": "two"})
        versions = (await client.get("/admin/v1/versions")).json()
        assert versions["current"] == 3
        assert [one["version"] for one in versions["versions"]] == [3, 2, 1]
        page = (await client.get("/admin/v1/versions?limit=1&before=3")).json()["versions"]
        assert [(one["version"], one["reason"]) for one in page] == [(2, "one")]
        entry = (await client.get("/admin/v1/audit?before=3")).json()["entries"][0]
        assert (entry["actor"], entry["kind"], entry["request_id"]) == ("alice", "patch", "change-1")
        path = "tiers.fast.thresholds.classify.threshold"
        assert entry["changes"] == [{"path": path, "from": 0.55, "to": 0.6}]
        old = (await client.get("/admin/v1/versions/1")).json()
        assert old["thresholds"]["fast"]["classify"] == 0.55
        assert _problem(await client.get("/admin/v1/versions/9")) == (404, "not-found")

        back = await client.post(f"{TIERS}:rollback", headers={"if-match": '"3"'})
        assert (back.json()["version"], back.json()["document"]["default"]) == (4, "balanced")
        back = await client.post(
            f"{TIERS}:rollback", json={"version": 1, "reason": "all"}, headers={"if-match": "*"}
        )
        assert back.json()["version"] == 5
        assert back.json()["document"] == old["document"]
        assert (
            float((await client.post("/v1/classify?tier=fast", content=png())).headers["x-threshold"]) == 0.55
        )
        for body, expected in (({"version": 77}, 404), ({"version": "x"}, 422), ({"to": 1}, 422)):
            answer = await client.post(f"{TIERS}:rollback", json=body, headers={"if-match": "*"})
            assert answer.status_code == expected


async def test_there_is_nothing_before_the_first_version(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        answer = await client.post(f"{TIERS}:rollback", headers={"if-match": "*"})
        assert _problem(answer) == (404, "not-found")


async def test_changes_outlive_the_process_where_there_is_a_state_directory(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await _patch(client, FAST, 1)
    async with desk(tmp_path) as client:
        found = (await client.get(TIERS)).json()
        assert (found["version"], found["persistent"]) == (2, True)
        assert (await client.post("/v1/classify?tier=fast", content=png())).headers["x-threshold"] == "0.6"
    async with desk(tmp_path, state_dir=None) as client:
        found = (await client.get(TIERS)).json()
        assert (found["version"], found["persistent"]) == (1, False)


async def test_a_full_disk_is_a_507_and_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: StateDirectory, record: object) -> None:
        raise OSError(28, "No space left on device")

    async with desk(tmp_path) as client:
        with monkeypatch.context() as patched:
            patched.setattr(StateDirectory, "add", full)
            assert _problem(await _patch(client, FAST, 1)) == (507, "config-not-stored")
            served = await client.post("/v1/classify?tier=fast", content=png())
            assert (served.status_code, served.headers["x-threshold"]) == (200, "0.55")
        assert (await _patch(client, FAST, 1)).status_code == 200


# ---- the dry-run and the live view -------------------------------------------------------------------


def _of(found: Any, tier: str, model: str) -> Any:
    return next(one for one in found["tiers"] if one["name"] == tier)["models"][model]


IMAGES = [encoded(_noise(40 + n, 30 + n, seed=n), "PNG") for n in range(40)] + [
    encoded(photo(60 + n, 50), "PNG") for n in range(20)
]


@pytest.mark.parametrize("model", ["classify", "super-resolve"])
@pytest.mark.parametrize("threshold", [0.0, 0.07, 0.13, 0.3])
async def test_a_dry_run_predicts_what_then_happens(tmp_path: Path, model: str, threshold: float) -> None:
    """Within 2 points of the MACs, on the same images, at thresholds between the points of their curves too."""
    low = {"tiers": {name: {"thresholds": {model: 0.0}} for name in ("exact", "high", "balanced")}}
    async with desk(tmp_path) as client:
        await _patch(client, low)
        for image in IMAGES:
            assert (await client.post(f"/v1/{model}?tier=fast", content=image)).status_code == 200
        change = {"tiers": {"fast": {"thresholds": {model: threshold}}}}
        answer = await client.post(f"{TIERS}:dry-run", json={"patch": change})
        foretold = _of(answer.json(), "fast", model)["proposed"]["recent"]
        assert (foretold["images"], foretold["of"]) == (60, "tier")
        assert (await client.get(TIERS)).json()["version"] == 2
        await _patch(client, change)
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
        assert _problem(await client.post(f"{TIERS}:dry-run", json=both)) == (422, "validation")


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
        assert _problem(await client.get("/admin/v1/live?seconds=0")) == (422, "validation")

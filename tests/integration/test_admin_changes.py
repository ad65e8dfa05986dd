"""The admin API: what is read, what changes, who of several writers wins."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.images import png
from tests.integration.admin import FAST, TIERS, desk, patch, problem


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
        changed = await patch(client, {**FAST, "reason": "tighten"}, 1)
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
        assert problem(gone) == (422, "unknown-tier")
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
        await patch(client, FAST)
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
        await patch(client, FAST)
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
            answers = await asyncio.gather(*(patch(client, body, round_) for body in bodies))
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
        for change, field in REFUSED:
            answers = [await patch(client, change, 1)]
            if "reason" not in change:
                answers.append(await client.post(f"{TIERS}:dry-run", json={"patch": change}))
            for answer in answers:
                assert problem(answer) == (422, "validation"), change
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
                assert problem(answer) == (422, "validation")
                (error,) = answer.json()["errors"]
                assert error["field"] == "reason"
                assert "X-Change-Reason" in error["message"]
        assert (await client.get(TIERS)).json()["version"] == 1
        assert (await client.patch(TIERS, json={**FAST, "reason": "why"}, headers=match)).status_code == 200
        back = await client.post(f"{TIERS}:rollback", headers=match)
        assert back.json()["reason"] == "back to version 1"
        assert all(entry["reason"] for entry in (await client.get("/admin/v1/audit")).json()["entries"])


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
                assert problem(answer) == expected, (method, path, content[:20])


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

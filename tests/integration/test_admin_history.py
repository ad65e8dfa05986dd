"""The admin API: versions, the audit trail, rollback."""

from pathlib import Path

import pytest

from pixeltier.service.tiers.history import StateDirectory
from tests.images import png
from tests.integration.admin import FAST, TIERS, desk, patch, problem


async def test_versions_audit_and_rollback(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await patch(client, {**FAST, "reason": "one"}, 1, **{"x-request-id": "change-1"})
        await patch(client, {"default": "fast"}, 2, **{"x-change-reason": "two"})
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
        assert problem(await client.get("/admin/v1/versions/9")) == (404, "not-found")

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
        assert problem(answer) == (404, "not-found")


async def test_changes_outlive_the_process_where_there_is_a_state_directory(tmp_path: Path) -> None:
    async with desk(tmp_path) as client:
        await patch(client, FAST, 1)
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
            assert problem(await patch(client, FAST, 1)) == (507, "config-not-stored")
            served = await client.post("/v1/classify?tier=fast", content=png())
            assert (served.status_code, served.headers["x-threshold"]) == (200, "0.55")
        assert (await patch(client, FAST, 1)).status_code == 200

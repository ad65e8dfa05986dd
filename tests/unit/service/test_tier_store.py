"""The store: who wins, what survives a restart, what a broken file or another model card does."""

import asyncio
import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixeltier.service.operations.watch import Watcher
from pixeltier.service.tasks import Task
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.history import StateDirectory, VersionRecord
from pixeltier.service.tiers.opening import open_store
from pixeltier.service.tiers.patch import apply
from pixeltier.service.tiers.schema import TierTable, TierTableError
from pixeltier.service.tiers.store import Change, ConflictError, NotStoredError, Snapshot, UnknownVersionError

FILE = """
default = "a"
[[tiers]]
name = "a"
thresholds = { classify = 0.0, super-resolve = 0.1 }
[[tiers]]
name = "b"
thresholds = { classify = 0.5, super-resolve = { macs_saved = 0.6 } }
"""


@dataclass(frozen=True)
class Point:
    threshold: float
    macs_saved: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Model:
    name: str = "net"
    version: str = "1"
    bend: float = 1.0

    @property
    def expectations(self) -> list[Point]:
        return [Point(t / 20, (t / 20) ** self.bend, {"psnr_y": 30.0}) for t in range(21)]


MODELS: Mapping[Task, Any] = {Task.SUPER_RESOLVE: Model()}
LATER: Mapping[Task, Any] = {Task.SUPER_RESOLVE: Model(version="2", bend=0.5)}


def _with(threshold: float) -> Any:
    def make(table: TierTable) -> TierTable:
        return schema.validate(
            apply(table.document(), {"tiers": {"b": {"thresholds": {"classify": threshold}}}})
        )

    return make


@dataclass
class Ear:
    versions: list[int]
    results: list[str]

    def set_tiers(self, snapshot: Snapshot) -> None:
        self.versions.append(snapshot.version)

    def config_attempt(self, result: str) -> None:
        self.results.append(result)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiers.toml"
    path.write_text(FILE)
    return path


async def test_a_change_is_in_force_told_and_kept(file: Path, tmp_path: Path) -> None:
    store = open_store(file, tmp_path / "state", MODELS)
    ear = Ear([], [])
    store.observe(ear)
    why = Change(actor="alice", kind="patch", reason="try", request_id="r1")
    after = await store.change(_with(0.6), why, expected=1)
    assert store.snapshot is after
    assert after.threshold("b", Task.CLASSIFY) == 0.6
    assert after.threshold("b", Task.SUPER_RESOLVE) == pytest.approx(0.6)
    assert (ear.versions, ear.results) == ([2], ["applied"])
    assert (await store.change(_with(0.6), why)) is after
    with pytest.raises(TierTableError):
        await store.change(_with(2.0), why)
    with pytest.raises(ConflictError, match="version 2 is in force, your change is based on 1"):
        await store.change(_with(0.7), why, expected=1)
    assert ear.results == ["applied", "unchanged", "rejected", "conflict"]
    again = open_store(file, tmp_path / "state", MODELS)
    assert again.snapshot.version == 2
    assert again.snapshot.table == after.table
    record = again.version(2)
    assert (record.actor, record.reason, record.request_id, record.based_on) == ("alice", "try", "r1", 1)
    with pytest.raises(UnknownVersionError):
        again.version(3)


async def test_of_many_writers_at_once_exactly_one_wins(file: Path, tmp_path: Path) -> None:
    store = open_store(file, tmp_path / "state", MODELS)
    answers = await asyncio.gather(
        *(store.change(_with(0.5 + n / 100), Change(), expected=1) for n in range(1, 9)),
        return_exceptions=True,
    )
    winners = [one for one in answers if isinstance(one, Snapshot)]
    assert len(winners) == 1
    assert all(
        isinstance(one, ConflictError) and one.current == 2 for one in answers if one is not winners[0]
    )
    assert store.snapshot is winners[0]
    assert [record.version for record in store.history()] == [1, 2]


async def test_a_caller_that_goes_away_leaves_disk_and_memory_alike(file: Path, tmp_path: Path) -> None:
    store = open_store(file, tmp_path / "state", MODELS)
    task = asyncio.ensure_future(store.change(_with(0.6), Change()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.change(_with(0.7), Change())
    assert [r.version for r in StateDirectory(tmp_path / "state").read()] == [1, 2, 3]
    assert store.snapshot.version == 3


async def test_a_full_disk_leaves_the_version_in_force(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(file, tmp_path / "state", MODELS)
    ear = Ear([], [])
    store.observe(ear)

    def full(self: StateDirectory, record: VersionRecord) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(StateDirectory, "add", full)
        with pytest.raises(NotStoredError):
            await store.change(_with(0.6), Change())
    assert store.snapshot.version == 1
    assert ear.results == ["not_stored"]
    assert (await store.change(_with(0.6), Change())).version == 2


async def test_processes_that_share_a_directory_follow_each_other(file: Path, tmp_path: Path) -> None:
    first, second = (open_store(file, tmp_path / "state", MODELS) for _ in range(2))
    await first.change(_with(0.6), Change(actor="alice"), expected=1)
    with pytest.raises(ConflictError) as caught:
        await second.change(_with(0.7), Change(actor="bob"), expected=1)
    assert caught.value.current == 2
    assert second.snapshot.threshold("b", Task.CLASSIFY) == 0.6
    await second.change(_with(0.7), Change(actor="bob"), expected=2)
    await first.follow()
    assert first.snapshot.version == 3
    assert first.snapshot.threshold("b", Task.CLASSIFY) == 0.7
    assert [record.version for record in first.history()] == [1, 2, 3]


# ---- restarts ----------------------------------------------------------------------------------------


async def test_whoever_changed_the_table_last_wins(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    await open_store(file, state, MODELS).change(_with(0.6), Change(actor="alice"))
    assert open_store(file, state, MODELS).snapshot.threshold("b", Task.CLASSIFY) == 0.6
    file.write_text(FILE.replace("classify = 0.5", "classify = 0.55"))
    store = open_store(file, state, MODELS)
    assert store.snapshot.threshold("b", Task.CLASSIFY) == 0.55
    assert (store.snapshot.version, store.snapshot.record.kind) == (3, "file")
    await store.change(_with(0.7), Change(actor="alice"))
    assert open_store(file, state, MODELS).snapshot.threshold("b", Task.CLASSIFY) == 0.7


async def test_a_comment_in_the_file_is_no_change_of_the_table(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = open_store(file, state, MODELS)
    file.write_text("# a comment\n" + FILE)
    watcher = Watcher(store, file, 1)
    for _ in range(3):
        await watcher.look()
    assert store.snapshot.version == 1
    await store.change(_with(0.6), Change(actor="alice"))
    assert open_store(file, state, MODELS).snapshot.threshold("b", Task.CLASSIFY) == 0.6


@pytest.mark.parametrize(
    "content", ["", "default = ", FILE.replace("0.6 }", "1.5 }"), FILE.replace("0.1", "0.9")]
)
def test_a_broken_file_at_start(file: Path, tmp_path: Path, content: str) -> None:
    state = tmp_path / "state"
    open_store(file, state, MODELS)
    file.write_text(content)
    assert open_store(file, state, MODELS).snapshot.version == 1
    with pytest.raises(TierTableError):
        open_store(file, None, MODELS)
    with pytest.raises(TierTableError):
        open_store(file, tmp_path / "other", MODELS)
    file.unlink()
    assert open_store(file, state, MODELS).snapshot.version == 1


def test_a_new_packaged_table_is_taken_only_where_nobody_changed_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(None, tmp_path / "a", {})
    changed = open_store(None, tmp_path / "b", {})
    table = changed.snapshot.table
    changed.replace(table.model_copy(update={"default": "fast"}), Change(actor="alice"))
    packaged = schema.read
    monkeypatch.setattr(
        schema, "read", lambda path=None: packaged(path).replace("Hard to tell", "Hardly told")
    )
    assert "Hardly" in open_store(None, tmp_path / "a", {}).snapshot.tier("high").description
    store = open_store(None, tmp_path / "b", {})
    assert store.snapshot.table.default == "fast"
    assert "Hardly" not in store.snapshot.tier("high").description


def test_another_model_card_resolves_goals_anew_as_a_version_of_its_own(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = open_store(file, state, MODELS).snapshot
    second = open_store(file, state, LATER).snapshot
    assert second.threshold("b", Task.SUPER_RESOLVE) < first.threshold("b", Task.SUPER_RESOLVE)
    assert second.threshold("b", Task.CLASSIFY) == 0.5, "a threshold is a threshold, whatever the card"
    assert (second.version, second.record.kind) == (2, "model")
    assert second.record.reason == "resolved with net 2; before with net 1"
    assert open_store(file, state, LATER).snapshot.version == 2
    back = open_store(file, state, MODELS).snapshot
    assert back.threshold("b", Task.SUPER_RESOLVE) == first.threshold("b", Task.SUPER_RESOLVE)


def test_a_card_that_cannot_meet_a_goal_stops_no_start(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    open_store(file, state, MODELS)
    short: Mapping[Task, Any] = {Task.SUPER_RESOLVE: _Short()}
    found = open_store(file, state, short).snapshot.resolved("b", Task.SUPER_RESOLVE)
    assert not found.goal_met
    assert found.note is not None
    assert found.threshold == 0.5


@dataclass(frozen=True)
class _Short(Model):
    @property
    def expectations(self) -> list[Point]:
        return [point for point in Model().expectations if point.threshold <= 0.5]


async def test_a_rollback_works_even_to_goals_that_a_new_card_misses(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    await open_store(file, state, MODELS).change(
        lambda _: schema.parse(FILE.replace("{ macs_saved = 0.6 }", "0.3"), source="x"), Change()
    )
    store = open_store(file, state, {Task.SUPER_RESOLVE: _Short()})
    old = store.version(1)
    with pytest.raises(TierTableError, match="beyond the curve"):
        await store.change(lambda _: schema.validate(old.document), Change(kind="rollback"))
    after = await store.change(
        lambda _: schema.validate(old.document), Change(kind="rollback"), kept=old.thresholds
    )
    assert not after.resolved("b", Task.SUPER_RESOLVE).goal_met


def test_a_stored_version_of_rules_that_no_longer_exist_is_skipped(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = open_store(file, state, MODELS)
    store.replace(_with(0.6)(store.snapshot.table))
    newest = state / "versions" / "00000002.json"
    document = json.loads(newest.read_text())
    document["document"]["flavour"] = "old"
    newest.write_text(json.dumps(document))
    again = open_store(file, state, MODELS)
    assert again.snapshot.threshold("b", Task.CLASSIFY) == 0.5
    assert again.replace(_with(0.7)(again.snapshot.table)).version == 3


# ---- the watch ---------------------------------------------------------------------------------------


async def test_an_edited_file_is_taken_over_once_it_has_settled(file: Path) -> None:
    store = open_store(file, None, MODELS)
    watcher = Watcher(store, file, 1)
    await watcher.look()
    file.write_text(FILE.replace("classify = 0.5", "classify = 0.6")[:-40])  # half written
    await watcher.look()
    file.write_text(FILE.replace("classify = 0.5", "classify = 0.6"))
    await watcher.look()
    assert store.snapshot.version == 1
    await watcher.look()
    assert store.snapshot.threshold("b", Task.CLASSIFY) == 0.6
    assert store.snapshot.record.kind == "file"
    await watcher.look()
    assert store.snapshot.version == 2


async def test_a_broken_edit_is_refused_once_and_the_next_good_one_taken(file: Path) -> None:
    store = open_store(file, None, MODELS)
    ear = Ear([], [])
    store.observe(ear)
    watcher = Watcher(store, file, 1)
    for content in ("default = ", FILE.replace('name = "b"', 'name = "a"')):
        file.write_text(content)
        for _ in range(4):
            await watcher.look()
    assert store.snapshot.version == 1
    assert ear.results == ["rejected", "rejected"]
    file.unlink()
    for _ in range(3):
        await watcher.look()
    assert ear.results == ["rejected"] * 3
    file.write_text(FILE.replace("classify = 0.5", "classify = 0.6"))
    for _ in range(2):
        await watcher.look()
    assert store.snapshot.threshold("b", Task.CLASSIFY) == 0.6


async def test_sighup_puts_the_file_in_force_even_over_an_operator_s_change(file: Path) -> None:
    store = open_store(file, None, MODELS)
    watcher = Watcher(store, file, 1)
    await store.change(_with(0.6), Change(actor="alice"))
    for _ in range(3):
        await watcher.look()
    assert store.snapshot.threshold("b", Task.CLASSIFY) == 0.6, "an unchanged file changes nothing by itself"
    await watcher.reload()
    assert store.snapshot.threshold("b", Task.CLASSIFY) == 0.5
    assert store.snapshot.version == 3


async def test_without_a_file_there_is_nothing_to_watch() -> None:
    store = open_store(None, None, {})
    watcher = Watcher(store, None, 1)
    await watcher.look()
    await watcher.reload()
    assert store.snapshot.version == 1

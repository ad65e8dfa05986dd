"""The parts of the Ray Serve application without a cluster."""

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

ray = importlib.import_module("ray")
from ray.exceptions import ActorDiedError  # noqa: E402

from pixeltier.service.ray.replica import WorkerReplica  # noqa: E402
from pixeltier.service.ray.versions import Keeper, SharedVersions  # noqa: E402
from pixeltier.service.ray.worker import ServeWorker  # noqa: E402
from pixeltier.service.tiers import schema  # noqa: E402
from pixeltier.service.tiers.history import VersionTakenError  # noqa: E402
from pixeltier.service.tiers.store import Change, TierStore  # noqa: E402
from pixeltier.service.work.messages import ClassifyAnswer, ClassifyJob, Job  # noqa: E402
from pixeltier.service.work.pool import WorkerDiedError  # noqa: E402
from pixeltier.service.worker.startup import Spec  # noqa: E402
from tests.images import png  # noqa: E402
from tests.integration.fakes import SLOW, load_fake  # noqa: E402


def _job(threshold: float) -> ClassifyJob:
    return ClassifyJob(body=png(), threshold=threshold, top_k=1, importance=False, max_pixels=1 << 20)


async def test_a_replica_works_and_one_that_hangs_is_unhealthy() -> None:
    replica = WorkerReplica(Spec(threads=1, engine=load_fake), hang_timeout_s=0.15)
    assert (await replica.describe()).isa == "fake"
    (answer,) = await replica.execute((_job(0.5),))
    assert isinstance(answer, ClassifyAnswer)
    replica.check_health()
    slow = asyncio.ensure_future(replica.execute((_job(SLOW),)))
    await asyncio.sleep(0.3)
    with pytest.raises(RuntimeError, match="running for more than"):
        replica.check_health()
    await slow
    replica.check_health()


class Call:
    """What a deployment handle returns: awaited for the answer."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer
        self.cancelled = False

    def __await__(self) -> Any:
        return self._answer().__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A deployment handle whose replica does what the test says."""

    def __init__(self, execute: Callable[[tuple[Job, ...]], Any]) -> None:
        self._execute = execute
        self.calls: list[Call] = []
        self.execute = self

    def remote(self, jobs: tuple[Job, ...]) -> Call:
        self.calls.append(Call(lambda: self._execute(jobs)))
        return self.calls[-1]


async def test_a_worker_sends_one_call_after_the_other() -> None:
    running = 0

    async def execute(jobs: tuple[Job, ...]) -> list[Any]:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.01)
        running -= 1
        return [job.threshold for job in jobs]

    worker = ServeWorker(Handle(execute))
    answers = await asyncio.gather(*(worker.submit((_job(n / 10),)) for n in range(5)))
    assert answers == [[n / 10] for n in range(5)]


async def test_a_dead_replica_is_a_dead_worker_and_other_errors_are_not() -> None:
    async def die(jobs: tuple[Job, ...]) -> list[Any]:
        raise ActorDiedError

    async def fail(jobs: tuple[Job, ...]) -> list[Any]:
        raise ArithmeticError

    with pytest.raises(WorkerDiedError):
        await ServeWorker(Handle(die)).submit((_job(0),))
    with pytest.raises(ArithmeticError):
        await ServeWorker(Handle(fail)).submit((_job(0),))


async def test_giving_up_cancels_what_is_under_way_and_what_waits() -> None:
    async def hang(jobs: tuple[Job, ...]) -> list[Any]:
        await asyncio.sleep(60)
        return []

    handle = Handle(hang)
    worker = ServeWorker(handle)
    first, second = worker.submit((_job(0),)), worker.submit((_job(1),))
    await asyncio.sleep(0.01)
    worker.kill()
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled()
    assert second.cancelled()
    assert [call.cancelled for call in handle.calls] == [True]


class Remote:
    """A keeper in this process, called as an actor is."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.keeper, name)

        def remote(*arguments: Any) -> Any:
            with self._lock:
                return method(*arguments)

        return type("Method", (), {"remote": staticmethod(remote)})


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(ray, "get", lambda value, timeout: value)
    return Remote(Keeper(None))


def _faster(table: schema.TierTable) -> schema.TierTable:
    document = table.document()
    document["tiers"][-1]["thresholds"]["classify"] = {"threshold": 0.99}
    return schema.validate(document)


async def test_fronts_share_versions(keeper: Remote) -> None:
    one, other = (TierStore(schema.load(), {}, SharedVersions(keeper)) for _ in range(2))
    assert (one.snapshot.version, other.snapshot.version) == (1, 1)
    await one.change(_faster, Change(reason="a test"), expected=1)
    await other.follow()
    assert other.snapshot.version == 2
    assert other.snapshot.record.reason == "a test"
    assert other.snapshot.table == one.snapshot.table


async def test_two_changes_at_once_make_one_version(keeper: Remote) -> None:
    one, other = (TierStore(schema.load(), {}, SharedVersions(keeper)) for _ in range(2))
    await one.change(_faster, Change(), expected=1)
    with pytest.raises(Exception, match="version 2 is in force"):
        await other.change(_faster, Change(), expected=1)


async def test_a_keeper_that_lost_its_memory_gets_it_back(keeper: Remote) -> None:
    versions = SharedVersions(keeper)
    store = TierStore(schema.load(), {}, versions)
    await store.change(_faster, Change(), expected=1)
    keeper.keeper = Keeper(None)
    assert not versions.newer()
    assert keeper.keeper.newest() == 2
    late = store.history()[0]
    with pytest.raises(VersionTakenError):
        versions.add(late)


def test_a_keeper_with_a_directory_goes_on(tmp_path: Any) -> None:
    keeper = Keeper(str(tmp_path))
    record = TierStore(schema.load(), {}).history()[0]
    assert keeper.add(record.model_dump_json()) == ""
    assert Keeper(str(tmp_path)).newest() == 1


def test_a_front_that_is_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(None)
    now = 100.0
    monkeypatch.setattr("pixeltier.service.ray.versions.time.monotonic", lambda: now)
    keeper.announce("10.0.0.1:1")
    now = 115.0
    keeper.announce("10.0.0.2:2")
    assert keeper.targets() == ["10.0.0.1:1", "10.0.0.2:2"]
    now = 125.0
    assert keeper.targets() == ["10.0.0.2:2"]

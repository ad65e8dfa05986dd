"""What runs beside the requests for the operator: recent images, brownout, shadow, the watch over the tier file."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from pixeltier.service.configuration.settings import Settings
from pixeltier.service.operations.brownout import TICK_S, Level, Pressure
from pixeltier.service.operations.recent import Recent
from pixeltier.service.operations.shadow import Shadow, ShadowObserver
from pixeltier.service.operations.watch import Watcher
from pixeltier.service.tasks import NO_TIER
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.tiers import falls
from pixeltier.service.tiers.schema import Tier
from pixeltier.service.tiers.store import Snapshot, TierStore
from pixeltier.service.work.pool import Pool, WorkerState


@dataclass(slots=True)
class Desk:
    """The operator's desk. `observe` is called at the end of every request."""

    tiers: TierStore
    pool: Pool
    recent: Recent
    shadow: Shadow
    watcher: Watcher
    level: Level = field(default_factory=Level)
    _refused: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Begin to watch the tier file and the pressure."""
        self._spawn(self.watcher.run())
        self._spawn(self._tick())

    async def stop(self) -> None:
        """End what runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reload(self) -> None:
        """Read the tier file again, now (SIGHUP)."""
        self._spawn(self.watcher.reload())

    def refused(self) -> None:
        """Note that a request was turned away for lack of room."""
        self._refused += 1

    def effective(self, snapshot: Snapshot, tier: Tier, degradable: bool | None) -> Tier:
        """The tier that answers a request for `tier` now; `degradable` is the request's own word, None for none."""
        may_fall = tier.degradable if degradable is None else degradable
        if not may_fall or not self.level.value or not snapshot.table.brownout.enabled:
            return tier
        return falls.fallen(snapshot.table, tier, self.level.value)

    def observe(self, record: RequestRecord) -> None:
        """Remember how a request ended; compare it at a candidate threshold if it is among the sample."""
        for one in record.inferences:
            self._observe_inference(one)

    def _observe_inference(self, record: RequestRecord) -> None:
        if record.task is None or record.tier == NO_TIER:
            return
        self.recent.add_request(
            record.task,
            record.tier,
            record.tier_effective,
            ok=record.problem is None,
            total_ms=record.elapsed_ms,
            work=record.work,
        )
        if record.work is not None:
            self.recent.add_image(record.task, record.tier, record.work)
        if record.sample is not None and record.problem is None:
            self._spawn(self.shadow.compare(record.sample))
            record.sample = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(RuntimeError):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.look()

    def look(self) -> None:
        """Move the level by what the pool says now."""
        table = self.tiers.snapshot.table
        report = self.pool.report()
        warm = [worker for worker in report.workers if worker.state in {WorkerState.IDLE, WorkerState.BUSY}]
        busy = sum(worker.state is WorkerState.BUSY for worker in warm)
        pressure = Pressure(report.wait_estimate_s, self._refused, busy / max(1, len(warm)))
        self._refused = 0
        self.level.tick(table.brownout, falls.deepest(table), pressure)


def open_desk(settings: Settings, tiers: TierStore, pool: Pool, observer: ShadowObserver) -> Desk:
    """The desk the settings describe; `start` sets it going."""
    return Desk(
        tiers=tiers,
        pool=pool,
        recent=Recent(settings.recent_images),
        shadow=Shadow(tiers, pool, observer),
        watcher=Watcher(tiers, settings.tiers_file, settings.tiers_watch_s),
    )

"""The table in force: immutable snapshots, each with its version, its history, and one writer at a time."""

import asyncio
import hashlib
import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pixeltier.service.catalogue import CurvePoint
from pixeltier.service.tasks import Task
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.goals import Resolution, Resolved, resolve, resolve_leniently
from pixeltier.service.tiers.history import KEPT, Kind, VersionLog, VersionRecord, VersionTakenError, now
from pixeltier.service.tiers.schema import Fault, Tier, TierTable, TierTableError

log = logging.getLogger("pixeltier.tiers")

SERVICE = "service"
"""The actor of changes that no operator made by name."""

ATTEMPTS = ("applied", "unchanged", "rejected", "conflict", "not_stored")
"""Ways an attempt to change the table ends; label values of pixeltier_config_reloads_total."""


class Model(Protocol):
    """What the store knows of a model; `pixeltier.service.catalogue.Model` has this shape."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def expectations(self) -> Sequence[CurvePoint]: ...  # noqa: D102


Models = Mapping[Task, Model]
Make = Callable[[TierTable], TierTable]
"""From the table in force to the one that shall be; raises TierTableError."""


Thresholds = Mapping[str, Mapping[str, float]]
"""Bare numbers, by tier and task."""


class UnknownTierError(LookupError):
    """No tier has this name; `known` lists those that do."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no tier {name!r}; the tiers are {', '.join(known)}")
        self.name = name
        self.known = known


class UnknownVersionError(LookupError):
    """There is no such version, or it is no longer kept."""


class ConflictError(Exception):
    """The change is based on another version than the one in force, `current`."""

    def __init__(self, current: int, based_on: int | None) -> None:
        said = (
            "another process changed it meanwhile"
            if based_on is None
            else f"your change is based on {based_on}"
        )
        super().__init__(f"version {current} is in force, {said}")
        self.current = current


class NotStoredError(Exception):
    """The change could not be made durable; the table is as before."""


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes the table, and why. `source` is the SHA-256 of the tier file where it is the origin."""

    actor: str = SERVICE
    kind: Kind = "put"
    reason: str = ""
    request_id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the table. A request holds one from dispatch to answer."""

    version: int
    table: TierTable
    resolution: Resolution
    record: VersionRecord

    @property
    def names(self) -> tuple[str, ...]:
        """Tier names, best first."""
        return self.table.names

    def tier(self, name: str | None) -> Tier:
        """The tier of this name, the default one for None.

        Raises:
            UnknownTierError: with the known names.
        """
        wanted = self.table.default if name is None else name
        for tier in self.table.tiers:
            if tier.name == wanted:
                return tier
        raise UnknownTierError(wanted, self.names)

    def resolved(self, name: str | None, task: Task) -> Resolved:
        """What a tier's rule for one model came to; raises UnknownTierError."""
        return self.resolution[self.tier(name).name][task]

    def threshold(self, name: str | None, task: Task) -> float:
        """The threshold of a tier for one model; raises UnknownTierError."""
        return self.resolved(name, task).threshold


class TierObserver(Protocol):
    """Hears of changes; the metrics do."""

    def set_tiers(self, snapshot: Snapshot) -> None:
        """A new version is in force."""

    def config_attempt(self, result: str) -> None:
        """An attempt to change the table ended as one of ATTEMPTS."""


class TierStore:
    """Holds the snapshot in force. Reading it is one attribute access, so the event loop needs no lock.

    Changes go through `change` one at a time: validated, resolved, stored, then in force for the next dispatch.
    """

    def __init__(
        self,
        table: TierTable | None,
        models: Models | None = None,
        directory: VersionLog | None = None,
        *,
        why: Change | None = None,
    ) -> None:
        """Go on with the newest good version of the directory, else begin with `table` as the first.

        Raises:
            TierTableError: there is no good version, and the table is missing or a goal cannot be resolved.
            OSError: the first version cannot be stored.
        """
        self._models: Models = models or {}
        self._curves = {task: model.expectations for task, model in self._models.items()}
        self._directory = directory
        self._writing = asyncio.Lock()
        self._running: set[asyncio.Task[Snapshot]] = set()
        self._observers: list[TierObserver] = []
        self._source: str | None = None
        self._records = directory.read() if directory is not None else []
        resumed = self._resume(self._records)
        self.resumed = resumed is not None
        self._snapshot = resumed or self._first(table, why or Change(kind="start"))

    def _first(self, table: TierTable | None, why: Change) -> Snapshot:
        if table is None:
            raise TierTableError([Fault("", "there is no good version of the tier table to go on with")])
        first = self._prepare(table, why, self.resolve(table), based_on=None)
        if self._directory is not None:
            self._directory.add(first.record)
        self._records = [*self._records, first.record]
        self._source = first.record.source
        return first

    def _resume(self, stored: Sequence[VersionRecord]) -> Snapshot | None:
        """The newest stored version that is still valid, resolved with the model cards of today."""
        for record in reversed(stored):
            try:
                table = schema.validate(record.document)
            except TierTableError as error:
                facts = {"version": record.version, "why": str(error)}
                log.error("a stored version is no longer valid and is skipped", extra=facts)
                continue
            self._source = record.source
            resolution = resolve_leniently(table, self._curves, record.thresholds)
            return Snapshot(record.version, table, resolution, record)
        return None

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """The version in force now."""
        return self._snapshot

    @property
    def persistent(self) -> bool:
        """Whether the history outlives the process."""
        return self._directory is not None

    @property
    def source(self) -> str | None:
        """SHA-256 of the tier file that was taken over last."""
        return self._source

    @property
    def models(self) -> Models:
        """The models whose curves resolve goals."""
        return self._models

    def history(self) -> list[VersionRecord]:
        """The versions that are kept, oldest first."""
        return list(self._records)

    def version(self, version: int) -> VersionRecord:
        """One kept version; raises UnknownVersionError."""
        place = bisect_left(self._records, version, key=lambda record: record.version)
        if place < len(self._records) and self._records[place].version == version:
            return self._records[place]
        raise UnknownVersionError(f"there is no version {version}")

    def resolve(self, table: TierTable) -> Resolution:
        """What a table's rules come to with the models at hand; raises TierTableError."""
        return resolve(table, self._curves)

    def observe(self, observer: TierObserver) -> None:
        """Have an observer told of every change from now on."""
        self._observers.append(observer)

    # ---- changing ------------------------------------------------------------------------------------

    async def change(
        self, make: Make, why: Change, *, expected: int | None = None, kept: Thresholds | None = None
    ) -> Snapshot:
        """Put another table in force and return its snapshot, or the one in force where nothing differs.

        Once it has begun, a change runs to its end even if the caller is cancelled: what is stored is in force.

        Args:
            make: gives the new table from the one in force.
            expected: the version the caller has seen; None changes whatever is in force.
            kept: thresholds to fall back on, for a table whose goals today's model cards may no longer meet (a
                rollback must always work); without them such a goal is refused.

        Raises:
            ConflictError, TierTableError, NotStoredError: the table is as before.
        """
        task = asyncio.ensure_future(self._change(make, why, expected, kept))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _change(
        self, make: Make, why: Change, expected: int | None, kept: Thresholds | None
    ) -> Snapshot:
        async with self._writing:
            current = self._snapshot
            if expected is not None and expected != current.version:
                self._tell("conflict")
                raise ConflictError(current.version, expected)
            try:
                table = make(current.table)
                resolution = (
                    self.resolve(table) if kept is None else resolve_leniently(table, self._curves, kept)
                )
                prepared = self._prepare(table, why, resolution, based_on=current.version)
            except TierTableError:
                self._tell("rejected")
                raise
            if table == current.table:
                self._source = prepared.record.source
                self._tell("unchanged")
                return current
            await self._store(prepared.record, expected)
            self._install(prepared)
            self._tell("applied")
            return prepared

    def replace(
        self, table: TierTable, why: Change | None = None, *, resolution: Resolution | None = None
    ) -> Snapshot:
        """As `change`, at once and without a loop: for the start of a process, before anything runs beside it.

        Raises:
            TierTableError, OSError: the table is as before.
        """
        found = self.resolve(table) if resolution is None else resolution
        prepared = self._prepare(table, why or Change(), found, based_on=self._snapshot.version)
        if self._directory is not None:
            self._directory.add(prepared.record)
        self._install(prepared)
        return prepared

    def remember_source(self, source: str) -> None:
        """Note that the tier file of this digest needs no taking over."""
        self._source = source

    async def follow(self) -> None:
        """Take over what another process has added to a shared state directory."""
        if self._directory is None or not await asyncio.to_thread(self._directory.newer):
            return
        async with self._writing:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if self._directory is None:
            return
        found = await asyncio.to_thread(self._directory.read, self._snapshot.version)
        resumed = self._resume(found)
        if resumed is not None:
            self._records = [*self._records, *found][-KEPT:]
            self._show(resumed)

    async def _store(self, record: VersionRecord, expected: int | None) -> None:
        if self._directory is None:
            return
        try:
            await asyncio.to_thread(self._directory.add, record)
        except VersionTakenError:
            await self._catch_up()
            self._tell("conflict")
            raise ConflictError(self._snapshot.version, expected) from None
        except OSError as error:
            log.exception("a change of the tier table could not be stored")
            self._tell("not_stored")
            raise NotStoredError(str(error)) from error

    def _prepare(
        self, table: TierTable, why: Change, resolution: Resolution, *, based_on: int | None
    ) -> Snapshot:
        seen = 0 if self._directory is None else self._directory.seen
        record = VersionRecord(
            version=max(based_on or 0, seen) + 1,
            changed_at=now(),
            actor=why.actor,
            kind=why.kind,
            reason=why.reason,
            request_id=why.request_id,
            based_on=based_on,
            source=why.source or self._source,
            models=identities(self._models),
            document=table.document(),
            thresholds=thresholds(resolution),
        )
        return Snapshot(record.version, table, resolution, record)

    def _install(self, snapshot: Snapshot) -> None:
        self._records = [*self._records, snapshot.record][-KEPT:]
        self._source = snapshot.record.source
        self._show(snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        log.info(
            "tier table in force",
            extra={
                "version": snapshot.version,
                "actor": snapshot.record.actor,
                "kind": snapshot.record.kind,
                "reason": snapshot.record.reason,
                "thresholds": thresholds(snapshot.resolution),
            },
        )
        for observer in self._observers:
            observer.set_tiers(snapshot)

    def _tell(self, result: str) -> None:
        for observer in self._observers:
            observer.config_attempt(result)

    def refuse(self) -> None:
        """Count a source that could not even be read as a rejected attempt."""
        self._tell("rejected")


def identities(models: Models) -> dict[str, str]:
    """Names and versions of the models, by task."""
    return {task.value: f"{model.name} {model.version}" for task, model in models.items()}


def thresholds(resolution: Resolution) -> dict[str, dict[str, float]]:
    """The bare numbers of a resolution, by tier and task."""
    return {
        tier: {task.value: one.threshold for task, one in models.items()}
        for tier, models in resolution.items()
    }


def digest(text: str) -> str:
    """What tells one tier file from another."""
    return hashlib.sha256(text.encode()).hexdigest()

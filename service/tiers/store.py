"""The table in force: immutable snapshots, each with its version."""

from dataclasses import dataclass

from service.tasks import Task
from service.tiers.schema import Tier, TierTable


class UnknownTierError(LookupError):
    """No tier has this name; `known` lists those that do."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no tier {name!r}; the tiers are {', '.join(known)}")
        self.name = name
        self.known = known


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the table. A request holds one from dispatch to answer."""

    version: int
    table: TierTable

    @property
    def names(self) -> tuple[str, ...]:
        """Tier names, best first."""
        return tuple(tier.name for tier in self.table.tiers)

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

    def threshold(self, name: str | None, task: Task) -> float:
        """The threshold of a tier for one model; raises UnknownTierError."""
        return self.tier(name).thresholds.of(task)


class TierStore:
    """Holds the snapshot in force. Reading it is one attribute access, so the event loop needs no lock."""

    def __init__(self, table: TierTable) -> None:
        self._snapshot = Snapshot(1, table)

    @property
    def snapshot(self) -> Snapshot:
        """The version in force now."""
        return self._snapshot

    def replace(self, table: TierTable) -> Snapshot:
        """Put a new table in force; the version grows by one."""
        self._snapshot = Snapshot(self._snapshot.version + 1, table)
        return self._snapshot

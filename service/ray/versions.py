"""The tier table's versions, shared through Ray: one keeper in the cluster, every front follows it."""

import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pixeltier.service.tiers.history import KEPT, StateDirectory, VersionRecord, VersionTakenError

KEEPER = "tier-versions"
NAMESPACE = "pixeltier"
"""Where the keeper is found by every job of the cluster, also after the application was deployed anew."""

ANSWER_TIMEOUT_S = 10.0

FORGOTTEN_AFTER_S = 20.0
"""A front that has not said for so long where it listens is gone."""


class Keeper:
    """The versions in memory and, with a state directory, on the disk of the machine it runs on.

    Only it writes, one call at a time, so two fronts can never both make version 7: the second is told that it is
    taken, catches up, and its operator sees the conflict.
    """

    def __init__(self, state_dir: str | None) -> None:
        self._directory = None if state_dir is None else StateDirectory(Path(state_dir))
        self._records = [] if self._directory is None else self._directory.read()
        self._fronts: dict[str, float] = {}

    def announce(self, address: str) -> None:
        """A front listens at `address`, and is alive."""
        self._fronts[address] = time.monotonic()

    def targets(self) -> list[str]:
        """Addresses of the fronts that are alive."""
        now = time.monotonic()
        self._fronts = {at: seen for at, seen in self._fronts.items() if now - seen < FORGOTTEN_AFTER_S}
        return sorted(self._fronts)

    def newest(self) -> int:
        """The highest version number, 0 before the first."""
        return self._records[-1].version if self._records else 0

    def read(self, after: int) -> list[str]:
        """The versions above `after` as JSON, oldest first."""
        return [record.model_dump_json() for record in self._records if record.version > after]

    def add(self, document: str) -> str:
        """Keep a version; `taken`, what went wrong in storing it, or nothing."""
        record = VersionRecord.model_validate_json(document)
        if record.version <= self.newest():
            return "taken"
        if self._directory is not None:
            try:
                self._directory.add(record)
            except (OSError, VersionTakenError) as error:
                return repr(error)
        self._records = [*self._records, record][-KEPT:]
        return ""


def open_keeper(state_dir: str | None) -> Any:
    """The cluster's keeper, made by whoever asks first. It outlives its makers and starts again where it fell."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(Keeper)
    named = actor.options(name=KEEPER, namespace=NAMESPACE, lifetime="detached", get_if_exists=True)
    return named.remote(state_dir)


class SharedVersions:
    """`pixeltier.service.tiers.history.VersionLog` over the keeper. Calls block; the store makes them in threads."""

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper
        self._seen = 0
        self._known: list[VersionRecord] = []

    @property
    def seen(self) -> int:
        """The highest version number read or added here."""
        return self._seen

    def read(self, after: int = 0) -> list[VersionRecord]:
        """The versions above `after`, oldest first."""
        documents: list[str] = self._ask("read", after)
        found = [VersionRecord.model_validate_json(document) for document in documents]
        self._remember(found)
        return found

    def newer(self) -> bool:
        """Whether another front has added versions since. A keeper that lost its memory is given ours back."""
        newest: int = self._ask("newest")
        if newest < self._seen:
            for record in self._known:
                self._ask("add", record.model_dump_json())
        return newest > self._seen

    def add(self, record: VersionRecord) -> None:
        """Keep a version; raises VersionTakenError, OSError."""
        refusal: str = self._ask("add", record.model_dump_json())
        if refusal == "taken":
            raise VersionTakenError
        if refusal:
            raise OSError(refusal)
        self._remember([record])

    def _remember(self, records: list[VersionRecord]) -> None:
        self._known = [*self._known, *(one for one in records if one.version > self._seen)][-KEPT:]
        self._seen = max([self._seen, *(record.version for record in records)])

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(getattr(self._keeper, method).remote(*arguments), timeout=ANSWER_TIMEOUT_S)
        except RayError as error:
            raise OSError(f"the keeper of the tier table's versions does not answer: {error}") from error

"""What a tier table makes of a request: how much of its image is computed."""

from collections.abc import Mapping
from dataclasses import dataclass

from pixeltier.models.outcome import CostLimits
from pixeltier.service.replay.arrivals import Arrival, ReplayError
from pixeltier.service.tasks import CUSTOM_TIER
from pixeltier.service.tiers.goals import Curves, Resolution, resolve
from pixeltier.service.tiers.schema import TierTable


@dataclass(frozen=True, slots=True)
class Effort:
    """A threshold, and the cap on active cells for which it is raised."""

    threshold: float
    max_active_share: float | None = None

    @property
    def limits(self) -> CostLimits:
        """As a job holds them."""
        return CostLimits(active_share=self.max_active_share)


EXACT = Effort(0.0)


class EffortTable:
    """A tier table with its goals resolved by the models' curves."""

    def __init__(self, name: str, table: TierTable, curves: Curves) -> None:
        """Resolve a table; `name` is what messages call it. Raises TierTableError."""
        self.name = name
        self.table = table
        self.resolution: Resolution = resolve(table, curves)

    def tier(self, arrival: Arrival) -> str:
        """The tier that a request is served at; `custom` with a threshold of its own."""
        if arrival.threshold is not None:
            return CUSTOM_TIER
        return arrival.tier or self.table.default

    def effort(self, arrival: Arrival) -> Effort:
        """How much is computed of a request's image.

        Raises:
            ReplayError: the table has no such tier.
        """
        if arrival.threshold is not None:
            return Effort(arrival.threshold)
        tier = self.tier(arrival)
        if tier not in self.resolution:
            known = ", ".join(self.table.names)
            raise ReplayError(f"line {arrival.line}: there is no tier {tier!r} in {self.name} ({known})")
        resolved = self.resolution[tier][arrival.task]
        return Effort(resolved.threshold, resolved.max_active_share)

    def thresholds(self) -> Mapping[str, Mapping[str, float]]:
        """Thresholds by tier and task."""
        return {
            tier: {task.value: resolved.threshold for task, resolved in tasks.items()}
            for tier, tasks in self.resolution.items()
        }

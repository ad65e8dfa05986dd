"""Which faster tier may answer in place of the one that was asked for."""

from pixeltier.service.tiers.schema import Tier, TierTable


def steps(table: TierTable, tier: Tier) -> int:
    """How many tiers a request for this one may fall."""
    return 0 if tier.floor is None else table.names.index(tier.floor) - table.names.index(tier.name)


def deepest(table: TierTable) -> int:
    """The highest level that still changes something."""
    return max(steps(table, tier) for tier in table.tiers)


def fallen(table: TierTable, tier: Tier, level: int) -> Tier:
    """The tier that answers at a level a request for `tier`."""
    place = table.names.index(tier.name)
    return table.tiers[place + min(level, steps(table, tier))]

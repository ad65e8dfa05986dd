"""Everything that a replay tells, as JSON values."""

from dataclasses import asdict
from typing import Any

from pixeltier.service.replay.arrivals import Recording
from pixeltier.service.replay.comparison import Comparison, Conditions, Percentiles
from pixeltier.service.replay.efforts import EffortTable
from pixeltier.service.tiers.patch import ABSENT, Difference, differences


def document_of(
    recording: Recording,
    tables: tuple[EffortTable, EffortTable],
    conditions: Conditions,
    comparison: Comparison,
) -> dict[str, Any]:
    """The conditions, what differs between the tables, and the figures."""
    arrivals, recorded = recording.arrivals, recording.latencies_ms
    current, changed = tables
    return {
        "requests": len(arrivals),
        "images": len({arrival.image for arrival in arrivals}),
        "recorded_s": arrivals[-1].at - arrivals[0].at,
        "recorded_latency_ms": asdict(Percentiles.of(recorded)) if recorded else None,
        "left_out": dict(recording.left_out),
        "far_in_size": recording.far_in_size,
        "conditions": asdict(conditions),
        "changes": [_change(one) for one in differences(current.table.document(), changed.table.document())],
        "thresholds": {"current": current.thresholds(), "changed": changed.thresholds()},
        "longest_queue": {
            "current": comparison.current.played.longest_queue,
            "changed": comparison.changed.played.longest_queue,
        },
        "groups": [
            {"task": task.value, "tier": tier, **compared.document()}
            for (task, tier), compared in comparison.groups().items()
        ],
        "total": comparison.total().document(),
    }


def _change(one: Difference) -> dict[str, Any]:
    sides = {"from": one.before, "to": one.after}
    return {"path": one.path, **{name: value for name, value in sides.items() if value is not ABSENT}}

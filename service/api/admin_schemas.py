"""The JSON bodies of the admin API's answers."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, model_serializer

from pixeltier.service.catalogue import CurvePoint, Model
from pixeltier.service.operations.prediction import CostPrediction
from pixeltier.service.operations.shadow import Summary
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.expectations import Expected, expect
from pixeltier.service.tiers.goals import Resolved
from pixeltier.service.tiers.history import Kind, VersionRecord
from pixeltier.service.tiers.patch import ABSENT, Difference
from pixeltier.service.tiers.schema import TierTable
from pixeltier.service.tiers.store import Snapshot, TierStore

DIGITS = 6


class ExpectedDocument(BaseModel):
    """What the model card's curve says of a threshold."""

    macs_saved: float = Field(examples=[0.498])
    metrics: dict[str, float] = Field(examples=[{"top1": 0.707, "top5": 0.916, "agreement": 0.746}])
    change: dict[str, float] = Field(
        description="Each metric less its value at threshold 0: a loss is negative.",
        examples=[{"top1": -0.004, "top5": -0.001, "agreement": -0.254}],
    )

    @classmethod
    def of(cls, expected: Expected | None, curve: Iterable[CurvePoint]) -> Self | None:
        """From an interpolated point and the curve it lies on."""
        if expected is None:
            return None
        exact = expect(list(curve), 0.0)
        base = exact.metrics if exact is not None else {}
        return cls(
            macs_saved=round(expected.macs_saved, DIGITS),
            metrics={name: round(value, DIGITS) for name, value in expected.metrics.items()},
            change={
                name: round(value - base[name], DIGITS) + 0.0  # no -0.0
                for name, value in expected.metrics.items()
                if name in base
            },
        )


class ResolvedDocument(BaseModel):
    """What a rule came to."""

    threshold: float = Field(examples=[0.55])
    max_active_share: float | None = None
    goal_met: bool = Field(description="False only where another model card can no longer meet a goal.")
    note: str | None = Field(description="What was done about an unmet goal.")
    expected: ExpectedDocument | None = Field(description="Null for a card without a curve.")


class TierModelDocument(ResolvedDocument):
    """One tier for one model."""

    rule: dict[str, float] = Field(description="As in the document.", examples=[{"max_top1_drop": 0.01}])


class TierStateDocument(BaseModel):
    """One tier of the table in force."""

    name: str = Field(examples=["fast"])
    description: str
    floor: str | None
    degradable: bool
    models: dict[str, TierModelDocument]


class PointDocument(BaseModel):
    """One measured point of a curve."""

    threshold: float
    macs_saved: float
    metrics: dict[str, float]


class CurveDocument(BaseModel):
    """Quality against MACs saved, as measured and stored in the model's card."""

    model: str = Field(examples=["resnet18"])
    version: str = Field(examples=["2026.11.0"])
    data: str = Field(description="What it was measured on.", examples=["BSD100"])
    points: list[PointDocument]


class TableDocument(BaseModel):
    """The table in force, what it came to, and how it came about."""

    version: int = Field(examples=[3])
    changed_at: datetime
    actor: str = Field(examples=["alice"])
    kind: Kind
    reason: str
    based_on: int | None
    persistent: bool = Field(description="Whether the history outlives the process.")
    document: TierTable
    tiers: list[TierStateDocument]
    curves: dict[str, CurveDocument]


class DifferenceDocument(BaseModel):
    """One value that differs; `from` or `to` is absent where a key was added or removed."""

    path: str = Field(examples=["tiers.fast.thresholds.classify.threshold"])
    from_: Any = Field(None, alias="from")
    to: Any = None

    @model_serializer(mode="plain")
    def _present_sides(self) -> dict[str, Any]:
        shown = {"path": self.path, "from": self.from_, "to": self.to}
        return {name: value for name, value in shown.items() if value is not ABSENT}

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """From a difference."""
        return cls.model_construct(path=difference.path, from_=difference.before, to=difference.after)


class LatencyDocument(BaseModel):
    """Milliseconds in a worker."""

    p50: float
    p95: float


class RecentDocument(BaseModel):
    """A prediction over the images that came lately."""

    images: int = Field(examples=[128])
    of: str = Field(description="`tier`: images that asked for this tier; `model`: all of the model's.")
    macs_saved: float
    active_share: float
    latency_ms: LatencyDocument | None

    @classmethod
    def of_prediction(cls, prediction: CostPrediction | None) -> Self | None:
        """From a prediction."""
        if prediction is None:
            return None
        took = prediction.latency_ms
        return cls(
            images=prediction.images,
            of=prediction.of,
            macs_saved=round(prediction.macs_saved, DIGITS),
            active_share=round(prediction.active_share, DIGITS),
            latency_ms=None
            if took is None
            else LatencyDocument(p50=round(took.p50, 3), p95=round(took.p95, 3)),
        )


class ForecastDocument(ResolvedDocument):
    """What a rule came to, and what it does to the images that came lately."""

    recent: RecentDocument | None = Field(description="Null before the first image.")


class ShadowDocument(BaseModel):
    """Comparisons of what was served with a candidate threshold."""

    candidate_threshold: float
    comparisons: int
    agreement: float | None = Field(description="Of the first class; null for super-resolution.")
    psnr_db: float | None = Field(description="Mean, 100 for equal images; null for classification.")
    ssim: float | None
    macs_saved_served: float | None
    macs_saved_candidate: float | None

    @classmethod
    def of(cls, summary: Summary | None, candidate: float | None = None) -> Self | None:
        """From a summary; without one, a document of no comparisons where a candidate is set."""
        if summary is not None:
            return cls(
                candidate_threshold=summary.candidate,
                comparisons=summary.comparisons,
                agreement=_rounded(summary.agreement),
                psnr_db=_rounded(summary.psnr_db),
                ssim=_rounded(summary.ssim),
                macs_saved_served=_rounded(summary.macs_saved_served),
                macs_saved_candidate=_rounded(summary.macs_saved_candidate),
            )
        if candidate is None:
            return None
        empty = dict.fromkeys(("agreement", "psnr_db", "ssim", "macs_saved_served", "macs_saved_candidate"))
        return cls(candidate_threshold=candidate, comparisons=0, **empty)


class DryRunModelDocument(BaseModel):
    """One tier for one model, now and as proposed."""

    changed: bool
    current: ForecastDocument | None = Field(description="Null for a tier that does not exist yet.")
    proposed: ForecastDocument
    shadow: ShadowDocument | None = Field(description="Comparisons at the proposed threshold.")


class DryRunTierDocument(BaseModel):
    """One tier of the proposed table."""

    name: str
    models: dict[str, DryRunModelDocument]


class DryRunDocument(BaseModel):
    """What a change would do."""

    based_on: int
    document: TierTable
    changes: list[DifferenceDocument]
    tiers: list[DryRunTierDocument]


class VersionDocument(BaseModel):
    """One version, in a list."""

    version: int
    changed_at: datetime
    actor: str
    kind: Kind
    reason: str
    based_on: int | None
    models: dict[str, str] = Field(examples=[{"classify": "resnet18 2026.11.0"}])


class VersionsDocument(BaseModel):
    """The versions, newest first."""

    current: int
    versions: list[VersionDocument]


class FullVersionDocument(VersionDocument):
    """One version with what it said."""

    document: dict[str, Any]
    thresholds: dict[str, dict[str, float]] = Field(description="As they were resolved then.")


class AuditEntryDocument(BaseModel):
    """Who changed what, when, from what to what, and why."""

    version: int
    changed_at: datetime
    actor: str
    kind: Kind
    reason: str
    request_id: str | None
    from_version: int | None
    changes: list[DifferenceDocument]


class AuditDocument(BaseModel):
    """The audit trail, newest first."""

    entries: list[AuditEntryDocument]


class LiveTierDocument(BaseModel):
    """What one tier did lately."""

    requests: int
    failed: int
    degraded_to: int = Field(description="Of the requests, those that had asked for a better tier.")
    p50_ms: float | None
    p95_ms: float | None
    macs_dense: int
    macs_executed: int
    macs_saved: float | None


class LivePoolDocument(BaseModel):
    """The pool now."""

    ready: bool
    queue_depth: int
    queue_limit: int
    wait_estimate_s: float
    slots: dict[str, str]


class LiveBrownoutDocument(BaseModel):
    """The brownout now."""

    enabled: bool
    level: int
    deepest_level: int
    changed_at: datetime | None


class LiveShadowDocument(BaseModel):
    """The shadow now; models without a candidate are absent."""

    share: float
    models: dict[str, ShadowDocument]


class LiveDocument(BaseModel):
    """What is happening now."""

    window_s: int
    time: datetime
    version: int
    models: dict[str, dict[str, LiveTierDocument]]
    pool: LivePoolDocument
    brownout: LiveBrownoutDocument
    shadow: LiveShadowDocument


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def resolved_values(resolved: Resolved, curve: Iterable[CurvePoint]) -> dict[str, Any]:
    """The fields of a ResolvedDocument."""
    return {
        "threshold": resolved.threshold,
        "max_active_share": resolved.max_active_share,
        "goal_met": resolved.goal_met,
        "note": resolved.note,
        "expected": ExpectedDocument.of(resolved.expected, curve),
    }


def table(snapshot: Snapshot, store: TierStore, models: Mapping[Task, Model]) -> TableDocument:
    """The table in force."""
    record = snapshot.record
    return TableDocument(
        version=snapshot.version,
        changed_at=record.changed_at,
        actor=record.actor,
        kind=record.kind,
        reason=record.reason,
        based_on=record.based_on,
        persistent=store.persistent,
        document=snapshot.table,
        tiers=[
            TierStateDocument(
                name=tier.name,
                description=tier.description,
                floor=tier.floor,
                degradable=tier.degradable,
                models={
                    task.value: TierModelDocument(
                        rule=tier.thresholds.of(task).model_dump(),
                        **resolved_values(snapshot.resolved(tier.name, task), models[task].expectations),
                    )
                    for task in Task
                },
            )
            for tier in snapshot.table.tiers
        ],
        curves={task.value: _curve(model) for task, model in models.items()},
    )


def _curve(model: Model) -> CurveDocument:
    points = sorted(model.expectations, key=lambda point: point.threshold)
    return CurveDocument(
        model=model.name,
        version=model.version,
        data=str(model.card.get("expectations_data", "")),
        points=[
            PointDocument(threshold=p.threshold, macs_saved=p.macs_saved, metrics=dict(p.metrics))
            for p in points
        ],
    )


def version(record: VersionRecord) -> VersionDocument:
    """A version in a list."""
    return VersionDocument.model_validate(record, from_attributes=True)


def full_version(record: VersionRecord) -> FullVersionDocument:
    """A version with its document."""
    return FullVersionDocument.model_validate(record, from_attributes=True)

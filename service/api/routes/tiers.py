"""GET /v1/tiers."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pixeltier.service.api.context import Context
from pixeltier.service.catalogue import Model
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.schema import Tier, json_schema
from pixeltier.service.tiers.store import Snapshot

router = APIRouter(tags=["catalogue"])


class ExpectationDocument(BaseModel):
    """Averages over the calibration images, interpolated at the tier's threshold."""

    macs_saved: float = Field(examples=[0.47])
    metrics: dict[str, float] = Field(
        description="psnr_y and ssim_y, or top1, top5 and agreement.", examples=[{"top1": 0.69, "top5": 0.89}]
    )


class TierOfModel(BaseModel):
    """One tier for one model."""

    threshold: float = Field(examples=[0.5])
    expected: ExpectationDocument | None = Field(description="Absent where the model's card has no curve.")


class TierDocument(BaseModel):
    """One tier."""

    name: str = Field(examples=["balanced"])
    description: str
    models: dict[str, TierOfModel]


class TiersDocument(BaseModel):
    """The table in force, best tier first."""

    version: int = Field(examples=[1])
    default: str = Field(examples=["balanced"])
    admin: bool = Field(description="Whether there is an admin API under /admin/v1.")
    tiers: list[TierDocument]


def _of_model(tier: Tier, model: Model, snapshot: Snapshot) -> TierOfModel:
    resolved = snapshot.resolved(tier.name, model.task)
    expected = resolved.expected
    return TierOfModel(
        threshold=resolved.threshold,
        expected=None
        if expected is None
        else ExpectationDocument(
            macs_saved=round(expected.macs_saved, 6),
            metrics={name: round(value, 6) for name, value in expected.metrics.items()},
        ),
    )


@router.get("/v1/tiers", summary="The quality tiers and what each is expected to save and cost")
async def tiers(context: Context) -> TiersDocument:
    """List the tiers in force, with their calibrated expectations."""
    snapshot = context.tiers.snapshot
    return TiersDocument(
        version=snapshot.version,
        default=snapshot.table.default,
        admin=context.admin.enabled,
        tiers=[
            TierDocument(
                name=tier.name,
                description=tier.description,
                models={
                    task.value: _of_model(tier, context.catalogue.models[task], snapshot) for task in Task
                },
            )
            for tier in snapshot.table.tiers
        ],
    )


@router.get("/v1/tiers/schema", summary="JSON Schema of the tier table's document")
async def tiers_schema() -> dict[str, Any]:
    """What a tier file and the admin API accept, as JSON Schema (draft 2020-12)."""
    return json_schema()

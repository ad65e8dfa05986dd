"""GET /v1/models."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pixeltier.service.api.context import Context
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task

router = APIRouter(tags=["catalogue"])


class ModelDocument(BaseModel):
    """One model: what the service serves it as, and its card."""

    task: Task
    name: str = Field(examples=["srresnet"])
    version: str = Field(examples=["1"])
    route: str = Field(examples=["/v1/super-resolve"])
    max_pixels: int = Field(description="Largest image the service takes for it.", examples=[4194304])
    card: dict[str, Any] = Field(description="The model card that ships with the weights.")
    compressed_card: dict[str, Any] | None = Field(
        None,
        description="That of the weights for images that were compressed with loss, where there are some.",
    )


class ModelsDocument(BaseModel):
    """All models."""

    models: list[ModelDocument]


@router.get("/v1/models", summary="The models and their cards")
async def models(context: Context) -> ModelsDocument:
    """List the models served."""
    return ModelsDocument(
        models=[
            ModelDocument(
                task=task,
                name=model.name,
                version=model.version,
                route=SPECS[task].route,
                max_pixels=SPECS[task].max_pixels(context.settings),
                card=dict(model.card),
                compressed_card=None if model.compressed_card is None else dict(model.compressed_card),
            )
            for task, model in context.catalogue.models.items()
        ]
    )

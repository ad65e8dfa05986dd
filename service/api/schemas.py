"""The JSON bodies of answers."""

from pydantic import BaseModel, Field

from pixeltier.service.catalogue import Model
from pixeltier.service.telemetry.record import RequestRecord


class Macs(BaseModel):
    """What the answer cost, by the project's counting rule."""

    dense: int = Field(
        description="Multiply-adds of the plain dense network on this image.", examples=[1814073344]
    )
    executed: int = Field(
        description="Multiply-adds that were run, everything included.", examples=[962341888]
    )
    saved_ratio: float = Field(description="1 - executed / dense.", examples=[0.469513])


class ModelRef(BaseModel):
    """Which model answered."""

    name: str = Field(examples=["resnet18"])
    version: str = Field(examples=["1"])


class ImportanceDocument(BaseModel):
    """The importance map: a window is computed where its value reaches the threshold."""

    height: int = Field(examples=[2])
    width: int = Field(examples=[2])
    values: list[list[float]] = Field(
        description="Rows of values in [0, 1].", examples=[[[0.1, 0.9], [0.4, 0.2]]]
    )


class AnswerMeta(BaseModel):
    """What every JSON answer says besides its result; the headers say the same."""

    tier: str = Field(examples=["balanced"])
    tier_effective: str = Field(examples=["balanced"])
    threshold: float = Field(examples=[0.5])
    active_share: float = Field(description="Share of the map's cells that were computed.", examples=[0.48])
    macs: Macs
    model: ModelRef
    config_version: int = Field(examples=[1])
    request_id: str = Field(examples=["4f0c1d9be2f34f6f9d6b0f6b8c3c8a51"])
    timings_ms: dict[str, float] = Field(examples=[{"queue": 0.1, "decode": 2.0, "infer": 4.1, "total": 7.9}])
    predicted_ms: float | None = Field(
        description="What the latency model expected `timings_ms.total` to be.", examples=[7.6]
    )


def macs_of(record: RequestRecord) -> Macs | None:
    """What a request's images cost; None where none was computed."""
    if record.macs is None:
        return None
    dense, executed = record.macs
    return Macs(dense=dense, executed=executed, saved_ratio=round(record.saved_ratio or 0.0, 6))


def meta(record: RequestRecord, model: Model) -> AnswerMeta:
    """The common part, from a record whose work is done."""
    work, macs = record.work, macs_of(record)
    if work is None or macs is None:
        raise ValueError("the record has no work yet")
    return AnswerMeta(
        tier=record.tier,
        tier_effective=record.tier_effective,
        threshold=work.threshold,
        active_share=round(work.active_share, 6),
        macs=macs,
        model=ModelRef(name=model.name, version=model.version),
        config_version=record.config_version,
        request_id=record.request_id,
        timings_ms={name: round(ms, 3) for name, ms in record.stages().items()},
        predicted_ms=None if record.predicted_ms is None else round(record.predicted_ms, 3),
    )

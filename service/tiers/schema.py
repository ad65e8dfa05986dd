"""The tier table's document: a strict schema, read from TOML, ordered from the best tier to the fastest."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.tasks import CUSTOM_TIER, NO_TIER, Task

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Threshold = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class TierTableError(ValueError):
    """The document is no valid tier table; the message names the place."""


class Thresholds(BaseModel):
    """One threshold a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    classify: Threshold
    super_resolve: Threshold = Field(alias="super-resolve")

    def of(self, task: Task) -> float:
        """The threshold of one model."""
        return self.classify if task is Task.CLASSIFY else self.super_resolve


class Tier(BaseModel):
    """A named quality."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: TierName
    description: str = Field("", max_length=200)
    thresholds: Thresholds


class TierTable(BaseModel):
    """All tiers, best first. A faster tier never has a lower threshold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: TierName
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) != len(names):
            raise ValueError(f"a tier name stands twice in {', '.join(names)}")
        if reserved := {CUSTOM_TIER, NO_TIER} & set(names):
            raise ValueError(f"the name {reserved.pop()} is reserved")
        if self.default not in names:
            raise ValueError(f"default: there is no tier {self.default} among {', '.join(names)}")
        for task in Task:
            for better, faster in zip(self.tiers, self.tiers[1:], strict=False):
                if faster.thresholds.of(task) < better.thresholds.of(task):
                    raise ValueError(
                        f"{task}: {faster.name} ({faster.thresholds.of(task):g}) stands after {better.name} "
                        f"({better.thresholds.of(task):g}) and must not have a lower threshold"
                    )
        return self


def parse(text: str, *, source: str) -> TierTable:
    """Read a table from TOML.

    Raises:
        TierTableError: with `source` and the offending place.
    """
    try:
        return TierTable.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TierTableError(f"{source}: {error}") from error
    except ValidationError as error:
        places = "; ".join(
            ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"]))) for item in error.errors()
        )
        raise TierTableError(f"{source}: {places}") from error


def load(path: Path | None = None) -> TierTable:
    """The table in `path`, or the packaged one.

    Raises:
        TierTableError: unreadable or invalid.
    """
    if path is None:
        text = resources.files("service.tiers").joinpath("default.toml").read_text(encoding="utf-8")
        return parse(text, source="the packaged tier table")
    try:
        return parse(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TierTableError(f"{path}: {error}") from error

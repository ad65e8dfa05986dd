"""The tier table's document: a strict schema, read from TOML or JSON, ordered from the best tier to the fastest."""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from pixeltier.models.text_files import TextError, invisible_in_toml, loads_toml, read_text
from pixeltier.service.task_specs.registry import SPECS, AnyTaskSpec
from pixeltier.service.tasks import CUSTOM_TIER, NO_TIER, Task

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", examples=["fast"])]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Threshold = Share
Seconds = Annotated[float, Field(ge=0.0, le=3600.0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: where, as `tiers.fast.thresholds.classify`, and what."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class TierTableError(ValueError):
    """The document is not a valid tier table; the message names the places, `faults` has them one by one."""

    def __init__(self, faults: Iterable[Fault], *, source: str = "") -> None:
        self.faults = tuple(faults)
        said = "; ".join(map(str, self.faults))
        super().__init__(f"{source}: {said}" if source else said)


class Rule(BaseModel):
    """How a tier's threshold for one model comes about: a threshold, or goals that the model's curve resolves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Threshold | None = Field(
        None, description="The share of an average image to skip; 0 computes every cell."
    )
    macs_saved: Share | None = Field(
        None, description="Goal: save at least this share of the dense network's MACs, on average."
    )
    max_active_share: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)] | None = Field(
        None, description="Hard cap: never compute more than this share of an image's cells."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        """A bare number is short for a threshold."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return {"threshold": value} if number else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.threshold is None and not self.goals:
            raise ValueError(f"give a threshold or a goal ({', '.join(goal_names(type(self)))})")
        if self.threshold is not None and self.goals:
            raise ValueError(f"give a threshold or goals, not both (threshold and {', '.join(self.goals)})")
        return self

    @property
    def goals(self) -> dict[str, float]:
        """The goals that are set, by name."""
        found = {name: getattr(self, name) for name in goal_names(type(self))}
        return {name: value for name, value in found.items() if value is not None}

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


def _rule_of(spec: AnyTaskSpec) -> type[Rule]:
    """A rule for one model, with the goals that its task has."""
    fields: dict[str, Any] = {
        name: (
            Annotated[float, Field(ge=0.0, le=goal.most, allow_inf_nan=False)] | None,
            Field(None, description=goal.description),
        )
        for name, goal in spec.goals.items()
    }
    name = f"{type(spec).__name__.removesuffix('Spec')}Rule"
    return create_model(
        name,
        __base__=Rule,
        __doc__=f"A rule for {spec.task}; drops are against threshold 0 on the validation images.",
        **fields,
    )


def goal_names(rule: type[Rule]) -> tuple[str, ...]:
    """The goals a kind of rule knows."""
    return tuple(name for name in rule.model_fields if name not in {"threshold", "max_active_share"})


def _or_number(schema: dict[str, Any]) -> None:
    """JSON Schema of a rule's place: the rule, or a bare number."""
    rule = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "number", "minimum": 0, "maximum": 1}, rule]


RULES: Mapping[Task, type[Rule]] = {task: _rule_of(spec) for task, spec in SPECS.items()}
"""The kind of rule of each task's model."""


class _ByTask(BaseModel):
    """One value a model, under the model's name."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    def of(self, task: Task) -> Any:
        """The value of one model."""
        return getattr(self, _field_name(task))


def _field_name(task: Task) -> str:
    return task.name.lower()


if TYPE_CHECKING:

    class Rules(_ByTask):
        """One rule a model."""

        def of(self, task: Task) -> Rule:
            """The rule of one model."""

    class ShadowThresholds(_ByTask):
        """The candidate threshold of each model; null compares nothing."""

        def of(self, task: Task) -> float | None:
            """The candidate of one model."""

else:
    Rules = create_model(
        "Rules",
        __base__=_ByTask,
        __doc__="One rule a model.",
        **{
            _field_name(task): (rule, Field(alias=task.value, json_schema_extra=_or_number))
            for task, rule in RULES.items()
        },
    )
    ShadowThresholds = create_model(
        "ShadowThresholds",
        __base__=_ByTask,
        __doc__="The candidate threshold of each model; null compares nothing.",
        **{_field_name(task): (Threshold | None, Field(default=None, alias=task.value)) for task in SPECS},
    )


class Tier(BaseModel):
    """A named quality."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: TierName
    description: str = Field("", max_length=200)
    thresholds: Rules
    floor: TierName | None = Field(
        None, description="Under pressure a request may fall down to this tier; null: it never falls."
    )
    degradable: bool = Field(
        True, description="Whether requests that do not say (parameter degradable) may fall to the floor."
    )


class Brownout(BaseModel):
    """When the service under pressure answers from faster tiers. Waits are those of the queue, estimated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    enter_wait_s: Seconds = Field(default=0.5, description="A wait above this is pressure.")
    exit_wait_s: Seconds = Field(default=0.1, description="A wait below this is relief.")
    rise_s: Seconds = Field(default=0.5, description="Pressure for this long lowers every tier by one step.")
    fall_s: Seconds = Field(default=5.0, description="Relief for this long takes one step back.")
    longest_fall_s: Seconds = Field(
        default=300.0,
        description="A step back that had to be undone doubles the next wait for it, up to this.",
    )

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if not self.exit_wait_s < self.enter_wait_s:
            raise ValueError("exit_wait_s must be below enter_wait_s: their distance is the hysteresis")
        if not self.rise_s <= self.fall_s <= self.longest_fall_s:
            raise ValueError("rise_s, fall_s and longest_fall_s must not descend")
        return self


class Shadow(BaseModel):
    """Which share of answered requests is run again at a candidate threshold, while nobody waits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Share = 0.0
    thresholds: ShadowThresholds = Field(default_factory=lambda: ShadowThresholds.model_validate({}))


class TierTable(BaseModel):
    """All tiers, best first. A faster tier never has a lower threshold."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Pixeltier tier table")

    default: TierName = Field(description="The tier of requests that name none.")
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=16, description="Best first.")
    brownout: Brownout = Brownout()
    shadow: Shadow = Shadow()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) != len(names):
            raise ValueError(f"duplicate tier name in {', '.join(names)}")
        if reserved := {CUSTOM_TIER, NO_TIER, *type(self).model_fields} & set(names):
            raise ValueError(f"the name {reserved.pop()} is reserved")
        if self.default not in names:
            raise ValueError(f"default: there is no tier {self.default} among {', '.join(names)}")
        for place, tier in enumerate(self.tiers):
            if tier.floor is not None and tier.floor not in names[place:]:
                raise ValueError(f"{tier.name}.floor: {tier.floor} is not a tier at or after {tier.name}")
        for task in Task:
            self._check_thresholds(task)
            self._check_caps(task)
        return self

    def _check_thresholds(self, task: Task) -> None:
        """Those that are written down; goals are checked once they are resolved."""
        written = [(tier.name, rule.threshold) for tier in self.tiers if (rule := tier.thresholds.of(task))]
        known = [(name, threshold) for name, threshold in written if threshold is not None]
        for (better, above), (faster, below) in itertools.pairwise(known):
            if below < above:
                raise ValueError(out_of_order(task, better, above, faster, below))

    def _check_caps(self, task: Task) -> None:
        tightest, owner = 1.0, ""
        for tier in self.tiers:
            cap = tier.thresholds.of(task).max_active_share
            if owner and (cap is None or cap > tightest):
                raise ValueError(
                    f"{task}: {tier.name} stands after {owner} and must not have a looser max_active_share "
                    f"than its {tightest:g}"
                )
            if cap is not None:
                tightest, owner = cap, tier.name

    @property
    def names(self) -> tuple[str, ...]:
        """Tier names, best first."""
        return tuple(tier.name for tier in self.tiers)

    def document(self) -> dict[str, Any]:
        """The document as JSON values, every rule as an object."""
        return self.model_dump(mode="json", by_alias=True)


def out_of_order(task: Task, better: str, above: float, faster: str, below: float) -> str:
    """What is wrong with two thresholds in the wrong order."""
    return (
        f"{task}: {faster} ({below:g}) stands after {better} ({above:g}) and must not have a lower threshold"
    )


def json_schema() -> dict[str, Any]:
    """The document's JSON Schema (draft 2020-12). Order and floors are beyond it; the service checks them."""
    schema = TierTable.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def validate(document: Any, *, source: str = "") -> TierTable:
    """A table from JSON-like values.

    Raises:
        TierTableError: with every place that is wrong; tiers are named, not numbered.
    """
    try:
        return TierTable.model_validate(document)
    except ValidationError as error:
        faults = [Fault(_place(item["loc"], document), _said(item["msg"])) for item in error.errors()]
        raise TierTableError(faults, source=source) from error


def _place(loc: tuple[int | str, ...], document: Any) -> str:
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "tiers" and isinstance(loc[1], int):
        try:
            name = document["tiers"][loc[1]]["name"]
            parts[1] = name if isinstance(name, str) and name.isprintable() else parts[1]
        except (KeyError, TypeError, IndexError):
            pass
    return ".".join(parts)


def _said(message: str) -> str:
    plain = message.removeprefix("Value error, ")
    return "there is no such key here" if plain == "Extra inputs are not permitted" else plain


def parse(text: str, *, source: str) -> TierTable:
    """Read a table from TOML.

    Raises:
        TierTableError: with `source` and the offending places.
    """
    try:
        document = loads_toml(text)
    except TextError as error:
        raise TierTableError([Fault("", str(error))], source=source) from error
    try:
        return validate(document, source=source)
    except TierTableError as error:
        stray = invisible_in_toml(text)  # a description may have some
        if stray is None:
            raise
        raise TierTableError([*error.faults, Fault("", stray)], source=source) from error


def parse_json(body: bytes) -> Any:
    """JSON values of a body; NaN and infinities are not JSON.

    Raises:
        TierTableError: no JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not valid JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise TierTableError([Fault("body", f"this is not valid JSON: {error}")]) from error


def read(path: Path | None = None) -> str:
    """The text of the table in `path`, or of the packaged one; raises TierTableError where it is unreadable."""
    if path is None:
        return resources.files("pixeltier.service.tiers").joinpath("default.toml").read_text(encoding="utf-8")
    try:
        return read_text(path)
    except (OSError, TextError) as error:
        raise TierTableError([Fault("", str(error))], source=str(path)) from error


def load(path: Path | None = None) -> TierTable:
    """The table in `path`, or the packaged one.

    Raises:
        TierTableError: unreadable or invalid.
    """
    return parse(read(path), source="the packaged tier table" if path is None else str(path))

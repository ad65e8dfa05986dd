"""Changes of a document: merge patches in, differences out. Both see the tiers keyed by their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixeltier.service.tiers.schema import Fault, TierTableError

ABSENT = object()
"""What stands on one side of a difference where a key was added or removed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; `before` or `after` is ABSENT where the key exists on one side only."""

    path: str
    before: Any
    after: Any


def apply(document: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """A document with a JSON merge patch (RFC 7396) applied, in which `tiers` is an object keyed by tier name.

    Beyond the RFC: a number for a rule is short for its threshold; a threshold takes the place of the rule's goals and
    a goal that of its threshold, while `max_active_share` stays.

    Raises:
        TierTableError: the patch is not an object, or names a tier that does not exist.
    """
    if not isinstance(patch, dict):
        raise TierTableError([Fault("patch", "a merge patch is an object")])
    tiers = patch.get("tiers", {})
    if not isinstance(tiers, dict):
        raise TierTableError([Fault("tiers", "in a patch the tiers are an object keyed by name")])
    keyed = _keyed(document)
    if unknown := [name for name in tiers if name not in keyed["tiers"]]:
        faults = [
            Fault(f"tiers.{name}", "there is no such tier; PUT a document to add one") for name in unknown
        ]
        raise TierTableError(faults)
    patch = {
        **patch,
        "tiers": {name: _with_rules(tier, keyed["tiers"][name]) for name, tier in tiers.items()},
    }
    merged = _merge(keyed, patch)
    return {**merged, "tiers": list(merged["tiers"].values())}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs between two documents, by path, as `tiers.fast.thresholds.classify.threshold`."""
    first, second = _leaves(_keyed(before)), _leaves(_keyed(after))
    paths = dict.fromkeys([*first, *second])
    found = [Difference(path, first.get(path, ABSENT), second.get(path, ABSENT)) for path in paths]
    changed = [one for one in found if one.before is ABSENT or one.after is ABSENT or one.before != one.after]
    names = [[tier["name"] for tier in document.get("tiers", ())] for document in (before, after)]
    if sorted(names[0]) == sorted(names[1]) and names[0] != names[1]:
        changed.append(Difference("tiers", names[0], names[1]))
    return changed


def _keyed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "tiers": {tier["name"]: tier for tier in document.get("tiers", ())}}


def _with_rules(patch: Any, tier: Mapping[str, Any]) -> Any:
    """A tier's patch whose rules say which of threshold and goals goes."""
    rules = patch.get("thresholds") if isinstance(patch, dict) else None
    if not isinstance(rules, dict):
        return patch
    there = tier["thresholds"]
    return {**patch, "thresholds": {task: _rule(rule, there.get(task, {})) for task, rule in rules.items()}}


def _rule(patch: Any, rule: Mapping[str, Any]) -> Any:
    if isinstance(patch, int | float) and not isinstance(patch, bool):
        patch = {"threshold": patch}
    if not isinstance(patch, dict):
        return patch
    goals = [name for name in rule if name not in {"threshold", "max_active_share"}]
    if patch.get("threshold") is not None:
        return {**dict.fromkeys(goals), **patch}
    if any(
        value is not None for name, value in patch.items() if name not in {"threshold", "max_active_share"}
    ):
        return {"threshold": None, **patch}
    return patch


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _leaves(inner, f"{path}.{key}" if path else key).items()
    }

"""Merge patches and differences of documents."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.tiers import schema
from pixeltier.service.tiers.patch import ABSENT, apply, differences
from pixeltier.service.tiers.schema import TierTableError
from tests.tier_table import TIERS

BASE = schema.parse(TIERS, source="the test's table").document()


def _tier(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(tier for tier in document["tiers"] if tier["name"] == name)


def test_one_number_changes_alone() -> None:
    after = apply(BASE, {"tiers": {"fast": {"thresholds": {"classify": 0.6}}}})
    changed = differences(BASE, after)
    assert [(one.path, one.after) for one in changed] == [("tiers.fast.thresholds.classify.threshold", 0.6)]
    assert [tier["name"] for tier in after["tiers"]] == [tier["name"] for tier in BASE["tiers"]]


def test_goals_and_thresholds_take_each_other_s_place_and_the_cap_stays() -> None:
    goal = {"tiers": {"fast": {"thresholds": {"classify": {"max_top1_drop": 0.1, "max_active_share": 0.5}}}}}
    first = apply(BASE, goal)
    assert _tier(first, "fast")["thresholds"]["classify"] == {"max_top1_drop": 0.1, "max_active_share": 0.5}
    second = apply(first, {"tiers": {"fast": {"thresholds": {"classify": {"macs_saved": 0.2}}}}})
    assert _tier(second, "fast")["thresholds"]["classify"] == {
        "max_top1_drop": 0.1,
        "macs_saved": 0.2,
        "max_active_share": 0.5,
    }
    third = apply(second, {"tiers": {"fast": {"thresholds": {"classify": 0.6}}}})
    assert _tier(third, "fast")["thresholds"]["classify"] == {"threshold": 0.6, "max_active_share": 0.5}
    fourth = apply(third, {"tiers": {"fast": {"thresholds": {"classify": {"max_active_share": None}}}}})
    assert _tier(fourth, "fast")["thresholds"]["classify"] == {"threshold": 0.6}


def test_a_tier_is_removed_and_other_parts_merge() -> None:
    after = apply(BASE, {"tiers": {"high": None}, "brownout": {"enabled": True}, "default": "fast"})
    assert "high" not in [tier["name"] for tier in after["tiers"]]
    assert after["brownout"] == {**BASE["brownout"], "enabled": True}
    assert schema.validate(after).default == "fast"
    gone = {one.path for one in differences(BASE, after) if one.after is ABSENT}
    assert "tiers.high.thresholds.classify.threshold" in gone


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ([], "is an object"),
        ("x", "is an object"),
        ({"tiers": []}, "keyed by name"),
        ({"tiers": {"quick": {}}}, "tiers.quick: there is no such tier"),
    ],
)
def test_what_is_no_patch(patch: Any, said: str) -> None:
    with pytest.raises(TierTableError, match=said):
        apply(BASE, patch)


def test_a_new_order_is_a_difference() -> None:
    turned = {**BASE, "tiers": BASE["tiers"][::-1]}
    (only,) = differences(BASE, turned)
    assert only.path == "tiers"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["tiers", "default", "brownout", "shadow", "fast", "thresholds", "classify", "x"])


@given(
    st.dictionaries(KEYS, st.dictionaries(KEYS, st.dictionaries(KEYS, JSON, max_size=3), max_size=3) | JSON)
)
def test_any_patch_gives_a_valid_table_or_a_refusal_with_places(patch: dict[str, Any]) -> None:
    try:
        table = schema.validate(apply(BASE, patch))
    except TierTableError:
        return
    assert schema.validate(table.document()) == table

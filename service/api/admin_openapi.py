"""JSON Schemas of the bodies that admin routes read themselves, for the OpenAPI document."""

from typing import Any

from pixeltier.service.tiers.schema import TierTable

_REASON = {
    "type": "string",
    "maxLength": 500,
    "description": "Why, for the audit trail; required here or in X-Change-Reason.",
}


def admin_bodies() -> dict[str, Any]:
    """Components by name: the tier table with its parts, and the bodies of changes, rollback and dry-run."""
    table = TierTable.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = table.pop("$defs")
    patch = {
        "type": "object",
        "description": "A JSON merge patch (RFC 7396) in which `tiers` is an object keyed by tier name.",
        "properties": {
            "default": table["properties"]["default"],
            "tiers": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
            "brownout": {"type": ["object", "null"]},
            "shadow": {"type": ["object", "null"]},
            "reason": _REASON,
        },
        "examples": [{"tiers": {"fast": {"thresholds": {"classify": 0.6}}}, "reason": "fast may skip more"}],
    }
    return {
        **parts,
        "TierTable": table,
        "TierTableChange": {**table, "properties": {**table["properties"], "reason": _REASON}},
        "TierTablePatch": patch,
        "TierDryRun": {
            "type": "object",
            "description": "Either of them; neither speaks of the table in force.",
            "properties": {
                "document": {"$ref": "#/components/schemas/TierTable"},
                "patch": {"$ref": "#/components/schemas/TierTablePatch"},
            },
            "additionalProperties": False,
        },
        "TierRollback": {
            "type": "object",
            "properties": {
                "version": {"type": ["integer", "null"], "description": "The one before, if absent."},
                "reason": {**_REASON, "description": "Why; `back to version N` if absent."},
            },
            "additionalProperties": False,
            "examples": [{"version": 2, "reason": "fast lost too much"}],
        },
    }

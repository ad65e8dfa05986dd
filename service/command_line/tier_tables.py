"""The answers of the admin API as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pixeltier.service.command_line.tier_changes import TASKS


def print_json(document: Any) -> int:
    """The answer as it is; returns the exit status."""
    print(json.dumps(document, indent=1))
    return 0


def print_state(found: Mapping[str, Any]) -> None:
    """Which table is in force, and since when."""
    why = f", {found['reason']}" if found["reason"] else ""
    print(
        f"version {found['version']} by {found['actor']} ({found['kind']}{why}), {found['changed_at'][:19]}Z"
    )
    document = found["document"]
    brownout, shadow = document["brownout"], document["shadow"]
    print(
        f"default {document['default']}; brownout {'enabled' if brownout['enabled'] else 'off'}; "
        f"shadow {100 * shadow['share']:g} % of requests"
    )
    if not found["persistent"]:
        print("changes end with the process: no state directory (PIXELTIER_STATE_DIR)")


def columns(curves: Mapping[str, Any], task: str) -> list[str]:
    """What the quality of a task is measured in."""
    points = curves[task]["points"]
    return list(points[0]["metrics"]) if points else []


def state_rows(found: Mapping[str, Any], task: str) -> list[dict[str, str]]:
    """A row a tier: its threshold, what it is expected to do, its rule."""
    rows = []
    for tier in found["tiers"]:
        state = tier["models"][task]
        rule = " ".join(f"{name}={value:g}" for name, value in state["rule"].items())
        note = f"  (! {state['note']})" if state["note"] else ""
        rows.append({"tier": tier["name"], **_expected(state), "rule": rule + note})
    return rows


def _expected(state: Mapping[str, Any]) -> dict[str, str]:
    row = {"threshold": f"{state['threshold']:g}"}
    expected = state["expected"]
    if expected is not None:
        row["MACs saved"] = f"{100 * expected['macs_saved']:.1f} %"
        row |= {name: f"{value:.4g}" for name, value in expected["metrics"].items()}
    return row


def print_prediction(predicted: Mapping[str, Any]) -> None:
    """What a change would do, before and after."""
    for change in predicted["changes"]:
        print(change_text(change))
    for task in TASKS:
        rows: list[dict[str, str]] = []
        for tier in predicted["tiers"]:
            model = tier["models"][task]
            if predicted["changes"] and not model["changed"]:
                continue
            if model["changed"] and model["current"] is not None:
                rows.append({"tier": tier["name"], "": "now", **_forecast(model["current"])})
            rows.append(
                {"tier": tier["name"], "": "then" if model["changed"] else "", **_forecast(model["proposed"])}
            )
            rows[-1] |= _compared(model["shadow"])
        if rows:
            print_table(f"\n{task}", [], rows)


def _forecast(state: Mapping[str, Any]) -> dict[str, str]:
    row = _expected(state)
    recent = state["recent"]
    if recent is not None:
        row["recent images"] = f"{recent['images']}"
        row["recent saved"] = f"{100 * recent['macs_saved']:.1f} %"
        if recent["latency_ms"] is not None:
            row["recent p50 ms"] = f"{recent['latency_ms']['p50']:.1f}"
            row["p95 ms"] = f"{recent['latency_ms']['p95']:.1f}"
    return row


def _compared(shadow: Mapping[str, Any] | None) -> dict[str, str]:
    if shadow is None:
        return {}
    found = {"agreement": "{:.1%} agree", "psnr_db": "{:.2f} dB", "ssim": "SSIM {:.4f}"}
    said = ", ".join(form.format(shadow[name]) for name, form in found.items() if shadow[name] is not None)
    return {"shadow": f"{said} ({shadow['comparisons']} compared)"}


def change_text(change: Mapping[str, Any]) -> str:
    """One changed value, as `PATH: FROM -> TO`."""
    before = json.dumps(change["from"]) if "from" in change else "(absent)"
    after = json.dumps(change["to"]) if "to" in change else "(absent)"
    return f"{change['path']}: {before} -> {after}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Rows in columns as wide as they need to be; `columns` are there even where no row has them."""
    names = list(dict.fromkeys([*(name for row in rows for name in row), *columns]))
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    print(title)
    print("  ".join(f"{name:<{widths[name]}}" for name in names).rstrip())
    for row in rows:
        print("  ".join(f"{row.get(name, ''):<{widths[name]}}" for name in names).rstrip())

"""A replay as text: of each task and tier what is, what would be, the difference, and how alike the answers are."""

from collections.abc import Mapping
from typing import Any

from pixeltier.service.command_line.tier_tables import change_text, print_table

FIGURES: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    ("MACs saved", ("macs_saved",), ".1f", 100.0),
    ("p50 ms", ("latency_ms", "p50"), ".1f", 1.0),
    ("p95 ms", ("latency_ms", "p95"), ".1f", 1.0),
    ("p99 ms", ("latency_ms", "p99"), ".1f", 1.0),
    ("wait p95 ms", ("wait_ms", "p95"), ".1f", 1.0),
    ("utilisation", ("utilisation",), ".1f", 100.0),
    ("late", ("late",), "d", 1.0),
)
"""Column, place in the document, format, and what the figure is multiplied by: shares are shown in percent."""

QUALITY: tuple[tuple[str, str, str, float], ...] = (
    ("agreement", "agreement", ".1f", 100.0),
    ("PSNR dB", "psnr_db", ".2f", 1.0),
    ("SSIM", "ssim", ".4f", 1.0),
)


def print_replay(document: Mapping[str, Any]) -> None:
    """What was played, what differs between the tables, the groups and the total."""
    _print_head(document)
    rows: list[dict[str, str]] = []
    for group in document["groups"]:
        rows += _rows({"task": group["task"], "tier": group["tier"]}, group)
    rows += _rows({"task": "total", "tier": ""}, document["total"])
    print_table("", ["task", "tier"], rows)


def _print_head(document: Mapping[str, Any]) -> None:
    conditions, queue = document["conditions"], document["longest_queue"]
    speed = "" if conditions["speed"] == 1.0 else f" played {conditions['speed']:g} times as fast"
    print(
        f"{_count(document['requests'], 'request')} in {round(document['recorded_s'], 1):g} s{speed}, "
        f"{_count(document['images'], 'image')}; {_count(conditions['workers'], 'worker')}, "
        f"{conditions['overhead_ms']:.1f} ms of overhead a request"
    )
    if conditions["time_factors"]:
        factors = ", ".join(f"{task} x {factor:.2f}" for task, factor in conditions["time_factors"].items())
        print(f"time in a worker as recorded, of what was measured here: {factors}")
    if document["left_out"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in document["left_out"].items())
        print(f"left out: {reasons}")
    if document["far_in_size"]:
        print(
            f"without an image of about its size, the nearest taken: {_count(document['far_in_size'], 'request')}"
        )
    for change in document["changes"]:
        print(change_text(change))
    if (recorded := document["recorded_latency_ms"]) is not None:
        print(f"latency when it was recorded: {_percentiles(recorded)} ms")
        print(f"played with the current table: {_percentiles(document['total']['current']['latency_ms'])} ms")
    print(
        f"longest queue: {queue['current']} with the current table, {queue['changed']} with the changed one"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _percentiles(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in found.items())


def _rows(names: Mapping[str, str], group: Mapping[str, Any]) -> list[dict[str, str]]:
    said = {"requests": f"{group['requests']}"}
    return [
        {**names, "table": "current", **said, **_figures(group["current"], signed="")},
        {"table": "changed", **_figures(group["changed"], signed="")},
        {"table": "difference", **_figures(group["difference"], signed="+")},
        {"table": "each other", **_quality(group["between"], signed="")},
    ]


def _figures(figures: Mapping[str, Any], *, signed: str) -> dict[str, str]:
    row = {}
    for column, place, form, times in FIGURES:
        value: Any = figures
        for name in place:
            value = value[name]
        if value is not None:
            row[column] = _text(value, form, times, signed)
    return row | _quality(figures["to_exact"], signed=signed)


def _quality(quality: Mapping[str, Any], *, signed: str) -> dict[str, str]:
    return {
        column: _text(quality[name], form, times, signed)
        for column, name, form, times in QUALITY
        if quality[name] is not None
    }


def _text(value: float, form: str, times: float, signed: str) -> str:
    shown = value if form == "d" else round(value * times, int(form[1])) + 0.0  # -0.0 becomes 0.0
    percent = " %" if times == 100.0 else ""
    return f"{shown:{signed if shown else ''}{form}}{percent}"

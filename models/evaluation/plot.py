"""The curve as a picture: quality against MACs saved and, where it was measured, against time; rivals as points."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixeltier.models.atomic_files import replacing
from pixeltier.models.evaluation.points import Evaluation, Row

PANELS = {
    "super-resolve": {"psnr_y": "PSNR on luma (dB)", "ssim_y": "SSIM on luma"},
    "classify": {"top1": "top-1 (%)", "top5": "top-5 (%)"},
}
PERCENT = frozenset({"top1", "top5"})
MARKERS = "sD^vPX*"
COLOURS = ("C1", "C3", "C4", "C5", "C6", "C7", "C8", "C9")  # without the curves' blue and green
SUFFIXES = {".png", ".svg", ".pdf"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What quality is drawn against."""

    label: str
    of: Callable[[Row], float | None]


MACS_SAVED = Cost("MACs saved (%)", lambda row: None if row.macs_saved is None else 100 * row.macs_saved)
MILLISECONDS = Cost("milliseconds a photo, batch 1", lambda row: row.milliseconds)


def draw(task: str, evaluation: Evaluation, title: str, path: Path) -> None:
    """Write a picture; the band is the 95 % interval of the difference to the exact tier.

    Raises:
        ImportError: matplotlib is missing; the message says how to get it.
        ValueError: the file's name does not end as a picture's does.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--plot writes {', '.join(sorted(SUFFIXES))}, not {path.name}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install 'pixeltier[evaluate]'") from error
    panels = PANELS[task]
    costs = [MACS_SAVED, *([MILLISECONDS] if any(map(MILLISECONDS.of, evaluation.learned)) else [])]
    figure = Figure(figsize=(5.4 * len(panels), 4.2 * len(costs)), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(len(costs), len(panels), squeeze=False)
    for cost, row in zip(costs, rows, strict=True):
        for axes, (metric, label) in zip(row, panels.items(), strict=True):
            _panel(axes, evaluation, metric, cost)
            axes.set_xlabel(cost.label)
            axes.set_ylabel(label)
            axes.grid(visible=True, alpha=0.3)
    rows[0][0].legend(fontsize="x-small")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150)


def _panel(axes: Any, evaluation: Evaluation, metric: str, cost: Cost) -> None:
    scale = 100 if metric in PERCENT else 1
    learned = _ascending(evaluation.learned, cost)
    x, y = _line(learned, metric, scale, cost)
    axes.plot(x, y, "o-", color="tab:blue", label="learned map", zorder=3)
    band = [
        (place, mean - scale * (gap.value - gap.low), mean + scale * (gap.high - gap.value))
        for row, place, mean in zip(learned, x, y, strict=True)
        if (gap := row.to_exact.get(metric)) is not None
    ]
    if band:
        axes.fill_between(*zip(*band, strict=True), color="tab:blue", alpha=0.15, linewidth=0)
    oracle = _ascending(evaluation.oracle, cost)
    if oracle:
        axes.plot(*_line(oracle, metric, scale, cost), "o--", color="tab:green", label="oracle map")
    for index, row in enumerate(evaluation.rivals):
        place = cost.of(row)
        if metric in row.metrics and place is not None:
            marker, colour = point_style(index)
            axes.plot(place, scale * row.metrics[metric], marker, color=colour, label=row.name)


def point_style(index: int) -> tuple[str, str]:
    """The marker and the colour of a rival; the first 56 differ, as seven and eight have no common divisor."""
    return MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]


def _ascending(rows: list[Row], cost: Cost) -> list[Row]:
    return sorted((row for row in rows if cost.of(row) is not None), key=lambda row: cost.of(row) or 0.0)


def _line(rows: list[Row], metric: str, scale: float, cost: Cost) -> tuple[list[float], list[float]]:
    return [cost.of(row) or 0.0 for row in rows], [scale * row.metrics[metric] for row in rows]

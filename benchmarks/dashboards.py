"""The panels of the dashboards, drawn from a real Prometheus that scraped the real service under load.

    make dashboards-picture

starts the stack on free ports, sends a few minutes of lively traffic (a slow wave, a rush, an operator who moves the
tiers, brownout, the shadow), asks Prometheus what the panels would ask it, and draws docs/images/dashboards.png.
"""

import argparse
import asyncio
import io
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from benchmarks.monitoring import DASHBOARDS, ROOT, Load, Panel, Stack, ask, filled, legend, panels, stack

COLOURS = (
    "#73bf69",
    "#f2cc0c",
    "#5794f2",
    "#ff9830",
    "#e05f6b",
    "#b877d9",
    "#37c2d9",
    "#c0a16b",
    "#8ab8ff",
    "#a0a4ab",
)
PAPER, CARD, INK, FAINT, GRID = "#111217", "#181b1f", "#d8d9dd", "#8e9196", "#2c3036"

COLUMN_IN, UNIT_IN = 0.5, 0.27
"""Inches of one of Grafana's 24 columns, and of one of its height units."""

DPI = 110

CHOSEN = (
    ("Requests", "MACs saved", "95 % are answered within", "Errors", "Late", "Workers busy"),
    ("Dense and executed, super-resolve", "Saved by tier, classify", "Requests by share saved"),
    ("Requests by tier", "95th percentile by stage, classify", "Where the time goes"),
    ("Queue", "Brownout", "Answered from a faster tier"),
    ("Saved, live and promised", "Shadow: MACs saved, served and candidate", "Thresholds, classify"),
)
"""What the README shows: rows of panels by their titles."""

Box = tuple[float, float, float, float]
"""Left, top, width, height in inches from the upper left corner."""

Series = tuple[str, np.ndarray, np.ndarray]


def main() -> None:
    """Run the load, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=320.0, help="of load [320]")
    parser.add_argument("--rate", type=float, default=7.0, help="arrivals a second, on average [7]")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, stack(Path(state), "2s") as running:
        started = time.time()
        load = Load(options.rate, options.seconds)
        asyncio.run(load.send(running))
        source = Source(running, started, time.time())
        time.sleep(6)  # until all of it is scraped
        print("answers by status:", load.statuses)
        boards = {path.stem: panels(path) for path in DASHBOARDS}
        pictures = {name.replace("pixeltier", "dashboard"): whole(board) for name, board in boards.items()}
        pictures["dashboards"] = chosen([panel for board in boards.values() for panel in board])
        for name, (size, places) in pictures.items():
            save(draw(size, places, source), options.out / f"{name}.png")


def save(figure: Figure, path: Path) -> None:
    """Write it with a palette: flat colours take a third of the bytes so."""
    raw = io.BytesIO()
    figure.savefig(raw, facecolor=PAPER)
    Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


class Source:
    """Answers panels' queries over the time of the load."""

    def __init__(self, running: Stack, begin: float, end: float) -> None:
        self._prometheus = running.prometheus
        self.begin, self.end = begin, end
        self._whole = f"{max(1, round(end - begin))}s"

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """A range query, as Grafana sends for a graph."""
        query = filled(expression, interval="16s", whole=self._whole)
        return ask(self._prometheus, "query_range", query=query, start=self.begin, end=self.end, step=2)

    def now(self, expression: str) -> list[dict[str, Any]]:
        """An instant query, as Grafana sends for a single number."""
        query = filled(expression, interval="16s", whole=self._whole)
        return ask(self._prometheus, "query", query=query, time=self.end)


def whole(board: list[Panel]) -> tuple[tuple[float, float], list[tuple[Panel, Box]]]:
    """A dashboard as Grafana lays it out: its size in inches and where each panel goes."""
    places = [
        (
            panel,
            (
                panel.place["x"] * COLUMN_IN,
                panel.place["y"] * UNIT_IN,
                panel.place["w"] * COLUMN_IN,
                panel.place["h"] * UNIT_IN,
            ),
        )
        for panel in board
    ]
    return (24 * COLUMN_IN, max(top + height for _, (_, top, _, height) in places)), places


def chosen(every: list[Panel]) -> tuple[tuple[float, float], list[tuple[Panel, Box]]]:
    """The most telling panels of all dashboards, in rows."""
    by_title = {panel.title: panel for panel in reversed(every)}
    width, top = 12.0, 0.0
    places = []
    for titles in CHOSEN:
        height = 0.95 if by_title[titles[0]].kind == "stat" else 2.1
        across = width / len(titles)
        places += [
            (by_title[title], (place * across, top, across, height)) for place, title in enumerate(titles)
        ]
        top += height
    return (width, top), places


def draw(size: tuple[float, float], places: list[tuple[Panel, Box]], source: Source) -> Figure:
    """All panels in their boxes."""
    mpl.rcParams.update({
        "font.family": "DejaVu Sans", "font.size": 7.5, "text.color": INK, "axes.edgecolor": GRID,
        "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "axes.linewidth": 0.6,
    })  # fmt: skip
    figure = Figure(figsize=size, dpi=DPI, facecolor=PAPER)
    for panel, box in places:
        _panel(figure, panel, box, source)
    return figure


def _fraction(figure: Figure, box: Box) -> tuple[float, float, float, float]:
    """A box in fractions of the figure from its lower left corner, as matplotlib wants it."""
    (left, top, width, height), (across, down) = box, figure.get_size_inches()
    return left / across, 1 - (top + height) / down, width / across, height / down


def _panel(figure: Figure, panel: Panel, box: Box, source: Source) -> None:
    left, top, width, height = box
    x, y, _, h = _fraction(figure, (left + 0.08, top, width, height))
    if panel.kind == "row":
        figure.text(x, y + h / 2, panel.title, fontsize=9.5, fontweight="bold", va="center")
        return
    card = figure.add_axes(_fraction(figure, (left + 0.04, top + 0.04, width - 0.08, height - 0.08)))
    card.set_facecolor(CARD)
    card.set_xticks([])
    card.set_yticks([])
    x, y, _, _ = _fraction(figure, (left + 0.12, top + 0.18, 0, 0))
    figure.text(x, y, panel.title, fontsize=8, va="center")
    inner = _fraction(figure, (left + 0.62, top + 0.36, width - 0.82, height - 0.88))
    if panel.kind == "stat":
        _stat(card, panel, source)
    elif panel.kind == "table":
        _table(card, panel, source)
    elif panel.kind == "heatmap":
        _heatmap(figure.add_axes(inner), panel, source)
    else:
        _graph(figure, panel, box, source)


# ---- kinds of panels ---------------------------------------------------------------------------------


def _stat(card: Axes, panel: Panel, source: Source) -> None:
    shown = [
        (legend(template, one["metric"]), float(one["value"][1]))
        for expression, template in panel.targets
        for one in source.now(expression)
    ]
    for place, (name, value) in enumerate(shown):
        x = (place + 0.5) / len(shown)
        size = 19 if len(shown) < 3 else 15
        text = number(value, panel.unit, panel.decimals)
        card.text(
            x, 0.44, text, ha="center", va="center", fontsize=size, color=COLOURS[0], transform=card.transAxes
        )
        card.text(
            x, 0.16, name, ha="center", va="center", fontsize=7.5, color=FAINT, transform=card.transAxes
        )


def _table(card: Axes, panel: Panel, source: Source) -> None:
    names = ("version", "torch", "isa")
    rows = [one["metric"] for expression, _ in panel.targets for one in source.now(expression)]
    for column, name in enumerate(names):
        x = 0.06 + 0.32 * column
        card.text(x, 0.72, name, fontsize=7.5, color=FAINT, transform=card.transAxes)
        for line, row in enumerate(rows):
            card.text(x, 0.58 - 0.14 * line, row.get(name, ""), fontsize=8.5, transform=card.transAxes)


def _graph(figure: Figure, panel: Panel, box: Box, source: Source) -> None:
    left, top, width, height = box
    found = _series(panel, source)
    across = width - 0.82
    columns = max(
        1, int((across + 0.6) / (0.28 + 0.062 * max((len(name) for name, _, _ in found), default=1)))
    )
    rows = -(-len(found) // columns)
    down = height - 0.36 - 0.32 - 0.105 * rows
    axes = figure.add_axes(_fraction(figure, (left + 0.62, top + 0.36, across, down)))
    if panel.stacked and found:
        times = np.unique(np.concatenate([at for _, at, _ in found]))
        layers = [_aligned(times, at, values) for _, at, values in found]
        names = [name for name, _, _ in found]
        axes.stackplot(times - source.begin, *layers, labels=names, colors=COLOURS, alpha=0.75, lw=0)
    for place, (name, at, values) in enumerate([] if panel.stacked else found):
        promised = name.endswith(("promised", "calibrated", "candidate", "limit"))
        axes.plot(
            at - source.begin, values, color=COLOURS[place % len(COLOURS)], lw=1.3, ls="--" if promised else "-",
            label=name,
        )  # fmt: skip
    _dress(axes, panel, source)
    if found:
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.52 / across, -0.2 / down), ncols=min(columns, len(found)),
            frameon=False, fontsize=6.2, labelcolor=INK, handlelength=0.8, handletextpad=0.35, columnspacing=0.8,
            borderaxespad=0, borderpad=0, labelspacing=0.2,
        )  # fmt: skip


def _series(panel: Panel, source: Source) -> list[Series]:
    """All lines of a panel; those that never have a value are left out, more than ten are the ten highest."""
    found: list[Series] = []
    for expression, template in panel.targets:
        for one in source.over_time(expression):
            at, values = np.array([[float(x) for x in pair] for pair in one["values"]]).T
            values[~np.isfinite(values)] = np.nan
            if not np.all(np.isnan(values)):
                found.append((legend(template, one["metric"]) or "all", at, values))
    if len(found) > 10:
        least = sorted(found, key=lambda one: float(np.nanmax(one[2])))[-10]
        found = [one for one in found if np.nanmax(one[2]) >= np.nanmax(least[2])][:10]
    return found


def _aligned(times: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at other times; where a series has none it adds nothing to a stack."""
    aligned = np.zeros_like(times)
    aligned[np.searchsorted(times, at)] = np.nan_to_num(values)
    return aligned


def _heatmap(axes: Axes, panel: Panel, source: Source) -> None:
    """Buckets of a histogram over time: differences of neighbouring cumulative counts."""
    ((expression, _),) = panel.targets
    rows = [one for one in source.over_time(expression) if one["metric"]["le"] != "+Inf"]
    rows.sort(key=lambda one: float(one["metric"]["le"]))
    bounds = [float(one["metric"]["le"]) for one in rows]
    times = np.array(sorted({float(at) for one in rows for at, _ in one["values"]}))
    counts = np.zeros((len(rows), len(times)))
    for place, one in enumerate(rows):
        at, values = np.array([[float(x) for x in pair] for pair in one["values"]]).T
        counts[place, np.searchsorted(times, at)] = np.nan_to_num(values)
    counts = np.diff(counts, axis=0, prepend=0).clip(min=0)
    seen = np.flatnonzero(counts.sum(axis=1) > 0)
    low, high = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, len(rows))
    colours = mpl.colors.LinearSegmentedColormap.from_list("", [CARD, "#1f60c4", "#8ab8ff", "#ffffff"])
    axes.pcolormesh(
        times - source.begin, np.arange(low, high), counts[low:high], cmap=colours, shading="nearest",
        vmax=max(1.0, float(np.quantile(counts[low:high], 0.99))), rasterized=True,
    )  # fmt: skip
    _dress(axes, panel, source)
    axes.set_ylim(low - 0.5, high - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(
        FuncFormatter(
            lambda y, _: "≤ " + number(bounds[round(y)], panel.unit, None) if 0 <= y < len(bounds) else ""
        )
    )
    axes.grid(visible=False)


def _minutes(x: float, _: object) -> str:
    return f"{int(x) // 60}:{int(x) % 60:02d}" if x > 0 else ""  # at 0 it would touch the other axis' label


def _dress(axes: Axes, panel: Panel, source: Source) -> None:
    axes.set_facecolor(CARD)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=6.8, pad=2)
    axes.set_xlim(0, source.end - source.begin)
    axes.xaxis.set_major_formatter(FuncFormatter(_minutes))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 3, 6]))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=panel.decimals == 0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y, panel.unit, None)))
    low, high = axes.get_ylim()
    if panel.unit == "bytes":
        axes.yaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(high / 5))))
    axes.set_ylim(panel.low if panel.low is not None else low, panel.high if panel.high is not None else high)


# ---- numbers -----------------------------------------------------------------------------------------


def number(value: float, unit: str, decimals: int | None) -> str:
    """A value with its unit, as Grafana writes it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.{decimals or 0}f} %"
    if unit == "s":
        return _seconds(value, decimals)
    name = unit.removeprefix("si:") if unit.startswith("si:") else _SUFFIXES.get(unit, "")
    if unit == "bytes":
        return _scaled(value, decimals, 1024.0, ("", "Ki", "Mi", "Gi"), "B")
    return _scaled(value, decimals, 1000.0, ("", "k", "M", "G", "T", "P"), name)


_SUFFIXES: dict[str, str] = {"reqps": "req/s", "ops": "/s", "dB": "dB"}


def _seconds(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    if abs(value) < 1:
        return f"{value * 1000:.{0 if abs(value) >= 0.01 else 1}f} ms"
    return f"{value:.{1 if decimals is None else decimals}f} s"


def _scaled(value: float, decimals: int | None, step: float, prefixes: tuple[str, ...], unit: str) -> str:
    place = 0
    while abs(value) >= step and place < len(prefixes) - 1:
        value, place = value / step, place + 1
    digits = (
        decimals if decimals is not None else (0 if value == round(value) else 1 if abs(value) >= 1 else 2)
    )
    return f"{value:.{digits}f} {prefixes[place]}{unit}".rstrip()


if __name__ == "__main__":
    main()

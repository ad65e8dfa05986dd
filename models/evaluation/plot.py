"""The curve as a picture: quality against MACs saved, learned and oracle, rivals as points."""

from pathlib import Path
from typing import Any

from models.evaluation.points import Evaluation, Row

PANELS = {
    "super-resolve": {"psnr_y": "PSNR on luma (dB)", "ssim_y": "SSIM on luma"},
    "classify": {"top1": "top-1 (%)", "top5": "top-5 (%)"},
}
PERCENT = frozenset({"top1", "top5"})
MARKERS = "sD^vPX*"
SUFFIXES = {".png", ".svg", ".pdf"}


def draw(task: str, evaluation: Evaluation, title: str, path: Path) -> None:
    """Write a picture; the band is the 95 % interval of the difference to the exact tier.

    Raises:
        ImportError: matplotlib is missing; the message says how to get it.
        ValueError: the file's name ends in something that is no picture.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--plot writes {', '.join(sorted(SUFFIXES))}, not {path.name}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install 'pixeltier[evaluate]'") from error
    panels = PANELS[task]
    figure = Figure(figsize=(5.4 * len(panels), 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, (metric, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _panel(axes, evaluation, metric)
        axes.set_xlabel("MACs saved (%)")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(partial, dpi=150)
    partial.replace(path)


def _panel(axes: Any, evaluation: Evaluation, metric: str) -> None:
    scale = 100 if metric in PERCENT else 1
    learned = _ascending(evaluation.learned)
    x, y = _line(learned, metric, scale)
    axes.plot(x, y, "o-", color="tab:blue", label="learned map", zorder=3)
    band = [
        (saved, mean - scale * (gap.value - gap.low), mean + scale * (gap.high - gap.value))
        for row, saved, mean in zip(learned, x, y, strict=True)
        if (gap := row.to_exact.get(metric)) is not None
    ]
    if band:
        axes.fill_between(*zip(*band, strict=True), color="tab:blue", alpha=0.15, linewidth=0)
    if evaluation.oracle:
        axes.plot(
            *_line(_ascending(evaluation.oracle), metric, scale), "o--", color="tab:green", label="oracle map"
        )
    for index, row in enumerate(evaluation.rivals):
        if metric in row.metrics and row.macs_saved is not None:
            axes.plot(
                100 * row.macs_saved,
                scale * row.metrics[metric],
                MARKERS[index % len(MARKERS)],
                color=f"C{index + 3}",
                label=row.name,
            )


def _ascending(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.macs_saved or 0.0)


def _line(rows: list[Row], metric: str, scale: float) -> tuple[list[float], list[float]]:
    return [100 * (row.macs_saved or 0.0) for row in rows], [scale * row.metrics[metric] for row in rows]

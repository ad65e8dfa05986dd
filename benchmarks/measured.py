"""Rows of the model benchmarks: times of engines that take turns, kept in a file, compared, shown."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pixeltier.models.evaluation.interleaved import Timed, interleaved
from pixeltier.models.measured_choice import machine
from pixeltier.native import cpu_isa

OURS = "pixeltier"
BEST = "best"
PACKAGES = ("torch", "onnxruntime", "openvino", "nncf")
NETWORKS = {"base": "base", "refinement": "refinement", "both": "both networks"}

CaseKey = tuple[str, str, int, int, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one case; ms is the median, low and high the 10th and 90th percentile, cpu_ms the median time of
    all processors together.

    `dtype` is the case's: what every engine was asked for, or `best`; `precision` is what this one computed in.
    `network`: base, refinement or both. `tier` is None where a network ran on every cell, by itself.
    """

    model: str
    size: str
    batch: int
    threads: int
    dtype: str
    engine: str
    network: str
    precision: str
    tier: str | None
    macs_saved: float
    ms: float
    low_ms: float
    high_ms: float
    cpu_ms: float

    @property
    def case(self) -> CaseKey:
        """Rows of one case were measured in one interleaved run."""
        return self.model, self.size, self.batch, self.threads, self.dtype

    @property
    def place(self) -> tuple[str, int, str, int, int]:
        """Where a row stands in the tables; rows of a case keep their order."""
        width, height = self.size.split("x")
        return self.model, -self.threads, self.dtype, self.batch, int(width) * int(height)


@dataclass(frozen=True, slots=True)
class Runner:
    """What takes part in a case."""

    engine: str
    network: str
    precision: str
    run: Timed
    tier: str | None = None
    macs_saved: float = 0.0


def measure(case: CaseKey, runners: Sequence[Runner], seconds: float) -> list[Row]:
    """All of them in turn, until the time is up (five rounds at least)."""
    model, size, batch, threads, dtype = case
    label = f"{model} {size} x{batch} {dtype} {threads} threads"
    times = interleaved([runner.run for runner in runners], seconds, label)
    return [
        Row(
            *case,
            runner.engine,
            runner.network,
            runner.precision,
            runner.tier,
            runner.macs_saved,
            statistics.median(wall := [sample.ms for sample in samples]),
            float(np.percentile(wall, 10)),
            float(np.percentile(wall, 90)),
            statistics.median(sample.cpu_ms for sample in samples),
        )
        for runner, samples in zip(runners, times, strict=True)
    ]


def merged(kept: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """The rows with those of a new run in place of older ones of its cases, in the tables' order."""
    cases = {row.case for row in measured}
    return sorted([row for row in kept if row.case not in cases] + list(measured), key=lambda row: row.place)


def strongest(rows: Sequence[Row], row: Row, network: str) -> Row | None:
    """The fastest rival of a row's case that computes `network` on every cell, in whatever precision it has there."""
    rivals = [
        other
        for other in rows
        if other.engine != OURS and other.case == row.case and other.network == network
    ]
    return min(rivals, key=lambda rival: rival.ms, default=None)


def provenance() -> dict[str, Any]:
    """What the times of this process are good for."""
    return {"processor": machine(), "instruction_set": cpu_isa(), "versions": _versions()}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows and what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**provenance(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """Rows of a file of this machine.

    Raises:
        ValueError: they were measured elsewhere, or in another form: nothing that new rows could stand beside.
    """
    document = json.loads(path.read_text())
    here = machine(), cpu_isa()
    if not isinstance(document, dict):
        raise ValueError(f"{path} is of an older form: measure it anew, without --merge")
    there = document["processor"], document["instruction_set"]
    if there != here:
        raise ValueError(f"{path} was measured on {' with '.join(there)}, this is {' with '.join(here)}")
    return [Row(**row) for row in document["rows"]]


def table(rows: Sequence[Row]) -> str:
    """Markdown, a line a row: how much faster it is than the fastest rival on the same network, and on the refinement
    network alone."""
    lines = [
        "| model | size | batch | threads | dtype | engine | network | computes in | tier | MACs saved "
        "| ms (10 - 90 %) | CPU ms | fastest rival / this | fastest dense refinement / this |",
        "|---" * 14 + "|",
    ]
    for row in rows:
        saved = "" if row.tier is None else f"{row.macs_saved:.1%}"
        lines.append(
            f"| {row.model} | {row.size} | {row.batch} | {row.threads} | {row.dtype} | {row.engine} "
            f"| {NETWORKS[row.network]} | {row.precision} | {row.tier or ''} | {saved} "
            f"| {row.ms:.1f} ({row.low_ms:.1f} - {row.high_ms:.1f}) | {row.cpu_ms:.1f} "
            f"| {_ratio(rows, row, row.network)} | {_ratio(rows, row, 'refinement')} |"
        )
    return "\n".join(lines)


def _ratio(rows: Sequence[Row], row: Row, network: str) -> str:
    rival = strongest(rows, row, network)
    return f"{rival.ms / row.ms:.2f}" if rival else ""


def summary(rows: Sequence[Row]) -> str:
    """Markdown, one line a case: ours, how much faster it is than the strongest rival, and which that is.

    Networks by themselves and `exact` are compared with the same network, tiers with the dense refinement network.
    """
    lines = []
    for name in dict.fromkeys(row.model for row in rows):
        ours = [row for row in rows if row.model == name and row.engine == OURS]
        columns = list(dict.fromkeys(_column(row) for row in ours))
        lines += [f"| {name} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for case in dict.fromkeys(row.case for row in ours):
            _, size, batch, threads, dtype = case
            found = {_column(row): _cell(rows, row) for row in ours if row.case == case}
            label = f"{size}, batch {batch}, {dtype}, {threads} thread{'s' * (threads > 1)}"
            lines.append(f"| {label} | " + " | ".join(found.get(column, "") for column in columns) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _column(row: Row) -> str:
    return row.tier or f"{NETWORKS[row.network]} alone"


def _cell(rows: Sequence[Row], row: Row) -> str:
    """`50 %, 9.1 ms fp32, **1.90x** openvino int8`."""
    saved = "" if row.tier is None else f"{row.macs_saved:.0%}, "
    rival = strongest(rows, row, row.network if row.tier in (None, "exact") else "refinement")
    if rival is None:
        return f"{saved}{row.ms:.1f} ms {row.precision}"
    ratio = f"**{rival.ms / row.ms:.2f}x** {rival.engine} {rival.precision}"
    return f"{saved}{row.ms:.1f} ms {row.precision}, {ratio}"

"""Both models at every tier beside the dense networks in four engines, interleaved in one run.

    python -m benchmarks.models --json benchmarks/results/models.json

Ours goes from uint8 pixels to uint8 pixels or probabilities (importance, plan and composition included), the
rivals from float tensor to float tensor. Every figure is a median over rounds in which each engine runs once.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.pages import write_between
from benchmarks.rivals import ENGINES, PlainResNet18, PlainSRResNet, prepare
from pixeltier.models.budgets import Budget
from pixeltier.models.checkpoints import load_classification, load_super_resolution
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.evaluation.interleaved import Timed, interleaved
from pixeltier.models.host_memory import keep_freed_memory
from pixeltier.models.images import classify_input
from pixeltier.models.inference.dense import frozen_copy
from pixeltier.native import cpu_isa
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.opening import packaged_thresholds

PHOTO = Path(__file__).parents[1] / "docs/samples/astronaut.jpg"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SR_SIZES = [(64, 64), (128, 128), (270, 480)]
BATCHES = [1, 8]
BUDGETS = {"srresnet": (0.1,), "resnet18": (0.5, 0.3)}
"""Shares of the dense MACs that are asked for beside the tiers: what saved MACs are worth at a stated saving."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case; ms is the median, low and high the 10th and 90th percentile."""

    model: str
    size: str
    batch: int
    threads: int
    dtype: str
    engine: str
    tier: str | None
    macs_saved: float
    ms: float
    low_ms: float
    high_ms: float


def main() -> None:
    """Run the cases asked for, print a table, write rows; what was measured so far is kept if the run is ended."""
    options = _options()
    keep_freed_memory()  # as a slot does; torch's own engines gain from it, too
    rows = _kept(options)
    for case in _cases(options):
        measured = case()
        rows = [row for row in rows if _case(row) != _case(measured[0])] + measured
        rows.sort(key=_place)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"\ninstruction set {cpu_isa()}, torch {torch.__version__}, photo {PHOTO.name}")
    print(table(rows))
    if options.plot:
        draw(rows, options.plot)
    if options.readme:
        write_between(options.readme, "models", summary(rows))


def _kept(options: argparse.Namespace) -> list[Row]:
    """With --merge the cases that the file has: engines are compared within a case, and each case is one run."""
    if not (options.merge and options.json and options.json.exists()):
        return []
    return [Row(**row) for row in json.loads(options.json.read_text())]


def _place(row: Row) -> tuple[str, int, str, int, int]:
    """Where a row stands in the tables; rows of a case keep their order."""
    width, height = row.size.split("x")
    return row.model, -row.threads, row.dtype, row.batch, int(width) * int(height)


def _cases(options: argparse.Namespace) -> Iterator[Callable[[], list[Row]]]:
    for threads in options.threads:
        torch.set_num_threads(threads)
        for dtype in options.dtypes:
            if "resnet18" in options.models:
                for batch in options.batches:
                    yield partial(_resnet18, batch, threads, dtype, options)
            if "srresnet" in options.models:
                for height, width in options.sizes:
                    yield partial(_srresnet, height, width, threads, dtype, options)


def table(rows: list[Row]) -> str:
    """Markdown; the last column compares with the fastest rival of the same case."""
    lines = [
        "| model | size | batch | threads | dtype | engine | tier | MACs saved | ms (10 - 90 %) "
        "| fastest rival / this |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rivals = [r.ms for r in rows if r.tier is None and _case(r) == _case(row)]
        ratio = f"{min(rivals) / row.ms:.2f}" if rivals else ""
        saved = "" if row.tier is None else f"{row.macs_saved:.1%}"
        lines.append(
            f"| {row.model} | {row.size} | {row.batch} | {row.threads} | {row.dtype} | {row.engine} "
            f"| {row.tier or ''} | {saved} | {row.ms:.1f} ({row.low_ms:.1f} - {row.high_ms:.1f}) | {ratio} |"
        )
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Markdown, one line a case: the fastest rival, then each tier: MACs saved, median, how much faster it is."""
    lines = []
    for name in dict.fromkeys(row.model for row in rows):
        ours = [row for row in rows if row.model == name and row.tier]
        columns = list(dict.fromkeys(row.tier for row in ours))
        lines += [
            f"| {name} | fastest dense engine | " + " | ".join(map(str, columns)) + " |",
            "|---" * (len(columns) + 2) + "|",
        ]
        for case in dict.fromkeys(_case(row) for row in ours):
            _, size, batch, threads, dtype = case
            rivals = [row for row in rows if _case(row) == case and row.tier is None]
            best = min(rivals, key=lambda row: row.ms, default=None)
            cells = [f"{best.engine} {best.ms:.1f} ms" if best else ""]
            by_tier = {row.tier: row for row in ours if _case(row) == case}
            for column in columns:
                row = by_tier[column]
                ratio = f", **{best.ms / row.ms:.2f}x**" if best else ""
                cells.append(f"{row.macs_saved:.0%}, {row.ms:.1f}{ratio}")
            label = f"{size}, batch {batch}, {dtype}, {threads} thread{'s' * (threads > 1)}"
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def draw(rows: list[Row], path: Path) -> None:
    """Time against MACs saved, both relative to our exact tier, beside the ideal and the fastest rival."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(_case(row) for row in rows))
    threads = max(row.threads for row in rows)
    cases = [case for case in cases if case[3] == threads]
    names = list(dict.fromkeys(case[0] for case in cases))
    figure, axes = pyplot.subplots(1, len(names), figsize=(6 * len(names), 4.5), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot([0, 1], [1, 0], color="0.6", linestyle="--", label="ideal: time falls with MACs")
        for case in (c for c in cases if c[0] == name):
            ours = sorted(
                (r for r in rows if _case(r) == case and r.tier is not None), key=lambda r: r.macs_saved
            )
            exact = next(r.ms for r in ours if r.tier == "exact")
            label = f"{case[1]}, batch {case[2]}, {case[4]}"
            line = axis.plot(
                [r.macs_saved for r in ours], [r.ms / exact for r in ours], marker="o", label=label
            )
            rivals = [r.ms for r in rows if _case(r) == case and r.tier is None]
            if rivals:
                axis.axhline(min(rivals) / exact, color=line[0].get_color(), linewidth=0.8, linestyle=":")
        axis.set(xlabel="MACs saved", ylabel="time / our exact tier's", title=f"{name}, {threads} threads")
        axis.set(xlim=(-0.06, 1), ylim=(0, None))
        axis.legend(fontsize=8, title="dotted: the fastest dense engine", title_fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _case(row: Row) -> tuple[str, str, int, int, str]:
    return row.model, row.size, row.batch, row.threads, row.dtype


def _srresnet(height: int, width: int, threads: int, dtype: str, options: argparse.Namespace) -> list[Row]:
    with Image.open(PHOTO) as image:
        pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    model, card = load_super_resolution()
    resolver = SuperResolver(model, card, dtype)  # type: ignore[arg-type]
    example = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().contiguous() / 255
    ours = {
        tier: (lambda t=limit: resolver.upscale(pixels, t))
        for tier, limit in _tiers(Task.SUPER_RESOLVE).items()
    }
    for ratio in BUDGETS["srresnet"]:
        limit = Budget(ratio)
        ours[f"macs <= {ratio}"] = lambda b=limit: resolver.upscale_within(pixels, 0.0, b)  # type: ignore[misc]
    saved = {tier: run().macs_saved for tier, run in ours.items()}
    network = frozen_copy(PlainSRResNet(model.refinement), torch.float32)
    rivals = _rivals(network, example, dtype, threads, options)
    return _measure("srresnet", f"{width}x{height}", 1, threads, dtype, ours, saved, rivals, options.seconds)


def _resnet18(batch: int, threads: int, dtype: str, options: argparse.Namespace) -> list[Row]:
    with Image.open(PHOTO) as image:
        pixels = [classify_input(image.convert("RGB").rotate(3 * index)) for index in range(batch)]
    model, card = load_classification()
    classifier = Classifier(model, card, dtype)  # type: ignore[arg-type]
    example = torch.randn(batch, 3, 224, 224)
    ours = {
        tier: (lambda t=limit: classifier.classify(pixels, [t] * batch))
        for tier, limit in _tiers(Task.CLASSIFY).items()
    }
    for ratio in BUDGETS["resnet18"]:
        limits = [Budget(ratio)] * batch
        ours[f"macs <= {ratio}"] = lambda b=limits: classifier.classify_within(pixels, [0.0] * batch, b)  # type: ignore[misc]
    saved = {}
    for tier, run in ours.items():
        results = run()
        saved[tier] = 1 - sum(r.macs_executed for r in results) / sum(r.macs_dense for r in results)
    network = frozen_copy(PlainResNet18(model.refinement), torch.float32)
    rivals = _rivals(network, example, dtype, threads, options)
    return _measure("resnet18", "224x224", batch, threads, dtype, ours, saved, rivals, options.seconds)


def _rivals(
    network: torch.nn.Module, example: torch.Tensor, dtype: str, threads: int, options: argparse.Namespace
) -> dict[str, Timed]:
    runs: dict[str, Timed] = {}
    for engine in options.engines:
        run = prepare(engine, network, example, DTYPES[dtype], threads)
        if run is not None:
            runs[engine] = lambda r=run: r(example)  # type: ignore[misc]
    return runs


def _measure(
    model: str,
    size: str,
    batch: int,
    threads: int,
    dtype: str,
    ours: dict[str, Timed],
    saved: dict[str, float],
    rivals: dict[str, Timed],
    seconds: float,
) -> list[Row]:
    cases = [("pixeltier", tier, run) for tier, run in ours.items()]
    cases += [(engine, None, run) for engine, run in rivals.items()]  # type: ignore[misc]
    times = interleaved(
        [run for _, _, run in cases], seconds, f"{model} {size} x{batch} {dtype} {threads} threads"
    )
    return [
        Row(
            model,
            size,
            batch,
            threads,
            dtype,
            engine,
            tier,
            saved[tier] if tier else 0.0,
            statistics.median(samples),
            float(np.percentile(samples, 10)),
            float(np.percentile(samples, 90)),
        )
        for (engine, tier, _), samples in zip(cases, times, strict=True)
    ]


def _tiers(task: Task) -> dict[str, float]:
    return packaged_thresholds(task)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--merge", action="store_true", help="keep the file's rows of cases that do not run now"
    )
    parser.add_argument("--readme", type=Path, help="put the summary between this page's `models` marks")
    parser.add_argument("--plot", type=Path, help="draw time against MACs saved to this PNG")
    parser.add_argument(
        "--models", nargs="+", default=["resnet18", "srresnet"], choices=["resnet18", "srresnet"]
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--sizes", nargs="+", type=_size, default=SR_SIZES, metavar="WxH")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case, at least five rounds")
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(height), int(width)


if __name__ == "__main__":
    main()

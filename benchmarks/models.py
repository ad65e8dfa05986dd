"""Both models at every tier, and their networks one by one, beside dense engines, interleaved in one run.

    python -m benchmarks.models --photos PHOTOS --json benchmarks/results/models.json

Tiers go from uint8 pixels to uint8 pixels or probabilities (importance, plan and composition included), rivals from
float tensor to float tensor. Rivals compute the base network, the refinement network or both with the exact answer, on
every cell. dtype `int8`: OpenVINO quantised by NNCF and ONNX Runtime's static QDQ model, both on --photos; ours
computes in int8 where it has kernels for it and else in its best precision, which its rows name. dtype `best`: every
engine in each precision that it has, all in one run. Every figure is a median over rounds in which each runs once.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases import DTYPES, PHOTO, Choice, classify_cases, resolve_cases
from benchmarks.measured import BEST, NETWORKS, OURS, Row, merged, provenance, read, summary, table, write
from benchmarks.pages import write_between
from benchmarks.rivals import ENGINES
from pixeltier.models.host_memory import keep_freed_memory
from pixeltier.models.training.photos import find_photos

SR_SIZES = [(64, 64), (128, 128), (480, 270)]
BATCHES = [1, 8]


def main(**defaults: object) -> None:
    """Run the cases asked for, print tables, write rows; what was measured so far is kept if the run is ended.

    Args:
        defaults: of options, other than this command's.
    """
    options = _options(defaults)
    keep_freed_memory()  # as a worker does; torch's own engines gain from it, too
    rows = read(options.json) if options.merge and options.json and options.json.exists() else []
    for case in _cases(options):
        rows = merged(rows, case())
        if options.json:
            write(rows, options.json)
    print(f"\n{provenance()}, photo {PHOTO.name}")
    print(table(rows))
    print(f"\n{summary(rows)}")
    if options.plot:
        draw(rows, options.plot)
    if options.readme:
        write_between(options.readme, "models", summary(rows))


def _cases(options: argparse.Namespace) -> Iterator[Callable[[], list[Row]]]:
    photos = find_photos([options.photos]) if options.photos else []
    spread = photos[:: max(1, len(photos) // options.photo_count)][: options.photo_count]
    choice = Choice(options.engines, options.networks, options.seconds, spread, options.weights)
    shapes: list[Iterator[Callable[[int, str], list[Row]]]] = []
    if "resnet18" in options.models:
        shapes.append(classify_cases(options.batches, choice))
    if "srresnet" in options.models:
        shapes.append(resolve_cases(options.sizes, choice))
    for group in shapes:
        for shape in group:  # INT8 models of a shape serve all its threads and dtypes
            for threads in options.threads:
                for dtype in options.dtypes:
                    yield partial(_run, shape, threads, dtype)


def _run(shape: Callable[[int, str], list[Row]], threads: int, dtype: str) -> list[Row]:
    torch.set_num_threads(threads)
    return shape(threads, dtype)


def draw(rows: list[Row], path: Path) -> None:
    """Time against MACs saved, both relative to our exact tier, beside the ideal and the fastest dense refinement."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    threads = max(row.threads for row in rows)
    cases = list(dict.fromkeys(row.case for row in rows if row.threads == threads))
    names = list(dict.fromkeys(case[0] for case in cases))
    figure, axes = pyplot.subplots(1, len(names), figsize=(6 * len(names), 4.5), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot([0, 1], [1, 0], color="0.6", linestyle="--", label="ideal: time falls with MACs")
        for case in (c for c in cases if c[0] == name):
            of_case = [row for row in rows if row.case == case]
            ours = sorted((r for r in of_case if r.tier is not None), key=lambda r: r.macs_saved)
            exact = next(r.ms for r in ours if r.tier == "exact")
            label = f"{case[1]}, batch {case[2]}, {case[4]}"
            line = axis.plot(
                [r.macs_saved for r in ours], [r.ms / exact for r in ours], marker="o", label=label
            )
            rivals = [r.ms for r in of_case if r.engine != OURS and r.network == "refinement"]
            if rivals:
                axis.axhline(min(rivals) / exact, color=line[0].get_color(), linewidth=0.8, linestyle=":")
        axis.set(xlabel="MACs saved", ylabel="time / our exact tier's", title=f"{name}, {threads} threads")
        axis.set(xlim=(-0.25, 1), ylim=(0, None))
        axis.legend(fontsize=8, title="dotted: the fastest dense refinement network", title_fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _options(defaults: dict[str, object]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--merge", action="store_true", help="keep the file's rows of cases that do not run now"
    )
    parser.add_argument("--readme", type=Path, help="put the summary between this page's `models` marks")
    parser.add_argument("--plot", type=Path, help="draw time against MACs saved to this PNG")
    models = ["resnet18", "srresnet"]
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="all; without --photos fp32 and bf16")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--sizes", nargs="+", type=_size, default=SR_SIZES, metavar="WxH")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case, at least five rounds")
    parser.add_argument("--photos", type=Path, help="what INT8 rivals are calibrated on")
    parser.add_argument("--photo-count", type=int, default=304, help="how many of them, spread over all")
    parser.add_argument("--weights", type=Path, help="directory of weights and cards [the packaged ones]")
    parser.set_defaults(**defaults)
    options = parser.parse_args()
    needs_photos = {"int8", BEST}
    if options.dtypes is None:
        options.dtypes = [dtype for dtype in DTYPES if options.photos or dtype not in needs_photos]
    if needs_photos & set(options.dtypes) and not options.photos:
        parser.error("int8 and best need --photos DIR: INT8 rivals are calibrated on photos")
    return options


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()

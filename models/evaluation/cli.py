"""`pixeltier evaluate`: a table on the terminal, rows in a file."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.cards import WEIGHTS, Expectation, load_card, write_card

TierThresholds = Callable[[str], Mapping[str, float]]


def add_commands(commands: Any, tier_thresholds: TierThresholds) -> None:
    """Add `super-resolve` and `classify` to an argparse subparsers object.

    Args:
        tier_thresholds: names and thresholds of a task's tiers; the caller knows the tier table.
    """
    resolve = commands.add_parser(
        "super-resolve", help="PSNR and SSIM (luma, 4-pixel shave) on HR/ and LR_x4/"
    )
    resolve.add_argument("directory", type=Path, metavar="DIR", help="holds HR/ and LR_x4/")
    _add_common(resolve)
    resolve.set_defaults(
        run=lambda options: _or_explain(_super_resolve, options, tier_thresholds("super-resolve"))
    )

    classify = commands.add_parser("classify", help="top-1, top-5 and agreement with the exact tier")
    classify.add_argument(
        "labels", type=Path, metavar="LABELS.csv", help="columns path, imagenet_index[, split]"
    )
    classify.add_argument(
        "--images", type=Path, required=True, metavar="ROOT", help="what the paths start from"
    )
    classify.add_argument(
        "--split", default="val", help="rows to use where there is a split column; all [val]"
    )
    _add_common(classify)
    classify.set_defaults(run=lambda options: _or_explain(_classify, options, tier_thresholds("classify")))


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="F", help="write the rows there as well")
    parser.add_argument(
        "--thresholds",
        type=_numbers,
        metavar="T,T,...",
        help="a curve at these thresholds instead of the tiers",
    )
    parser.add_argument("--weights", type=Path, help="directory of weights and card [the packaged ones]")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--update-card", metavar="NAME", help="store the curve in the card, as measured on data of that name"
    )


def _numbers(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not values or not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError("thresholds lie between 0 and 1, separated by commas")
    return values


def _or_explain(
    command: Callable[[argparse.Namespace, Mapping[str, float]], int],
    options: argparse.Namespace,
    tiers: Mapping[str, float],
) -> int:
    """Run a command; what the user can mend is one line on stderr and status 2, not a traceback."""
    try:
        return command(options, tiers)
    except (OSError, ValueError) as error:
        print(f"pixeltier evaluate: {error}", file=sys.stderr)
        return 2


def _super_resolve(options: argparse.Namespace, tiers: Mapping[str, float]) -> int:
    from models.engine import SuperResolver
    from models.evaluation.super_resolve import evaluate

    resolver = SuperResolver.load(options.weights, options.precision)
    rows = evaluate(resolver, options.directory, _wanted(options, tiers))
    return _report("super-resolve", [asdict(row) for row in rows], options)


def _classify(options: argparse.Namespace, tiers: Mapping[str, float]) -> int:
    from models.engine import Classifier
    from models.evaluation.classify import evaluate, labelled_photos

    photos, labels = labelled_photos(options.labels, options.images, options.split)
    classifier = Classifier.load(options.weights, options.precision)
    rows = evaluate(classifier, photos, labels, _wanted(options, tiers))
    return _report("classify", [asdict(row) for row in rows], options)


def _wanted(options: argparse.Namespace, tiers: Mapping[str, float]) -> list[tuple[str | None, float]]:
    if options.thresholds is not None:
        return [(None, threshold) for threshold in options.thresholds]
    return list(tiers.items())


def _report(task: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> int:
    names = [name for name in rows[0] if name != "tier" or rows[0]["tier"] is not None]
    print("  ".join(f"{name:>10}" for name in names))
    for row in rows:
        print("  ".join(f"{_text(row[name]):>10}" for name in names))
    if options.json is not None:
        partial = options.json.with_name(options.json.name + ".part")
        partial.write_text(json.dumps(list(rows), indent=1) + "\n")
        partial.replace(options.json)
    if options.update_card is not None:
        _update_card(task, rows, options)
    return 0


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _update_card(task: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    directory = options.weights or WEIGHTS
    points = [
        Expectation(
            threshold=row["threshold"],
            macs_saved=round(row["macs_saved"], 5),
            metrics={k: round(v, 5) for k, v in row.items() if k not in ("tier", "threshold", "macs_saved")},
        )
        for row in sorted(rows, key=lambda row: row["threshold"])
    ]
    card = load_card(task, directory)
    write_card(
        card.model_copy(update={"expectations": points, "expectations_data": options.update_card}), directory
    )

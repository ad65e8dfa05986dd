"""Goals against what they then give on real images: each is resolved with the model's card, and measured.

    python -m benchmarks.goals super-resolve DIR macs_saved=0.7 max_psnr_drop_db=0.1
    python -m benchmarks.goals classify LABELS.csv --images ROOT macs_saved=0.5 max_top1_drop=0.01

The images should be the card's own validation images (`expectations_data`): a goal is a promise about those. Exits
with 1 if a goal is missed.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.cards import load_card
from service.tasks import Task
from service.tiers.goals import GoalError, resolve_rule
from service.tiers.schema import ClassifyRule, SuperResolveRule

METRICS = {
    "max_psnr_drop_db": "psnr_y",
    "max_ssim_drop": "ssim_y",
    "max_top1_drop": "top1",
    "max_top5_drop": "top5",
}


def measure(options: argparse.Namespace, thresholds: list[float]) -> dict[float, dict[str, Any]]:
    """The rows of an evaluation, by threshold."""
    wanted = [(None, threshold) for threshold in sorted({0.0, *thresholds})]
    if options.task == "super-resolve":
        from models.engine import SuperResolver
        from models.evaluation import super_resolve

        rows: list[Any] = list(super_resolve.evaluate(SuperResolver.load(), options.data, wanted))
    else:
        from models.engine import Classifier
        from models.evaluation import classify

        photos, labels = classify.labelled_photos(options.data, options.images, options.split)
        rows = list(classify.evaluate(Classifier.load(), photos, labels, wanted))
    return {row.threshold: asdict(row) for row in rows}


def outcome(goal: str, limit: float, row: dict[str, Any], exact: dict[str, Any]) -> tuple[float, bool]:
    """What a goal speaks of, as measured, and whether it is met."""
    if goal in METRICS:
        drop = exact[METRICS[goal]] - row[METRICS[goal]]
        return drop, drop <= limit + 1e-6
    value = row["macs_saved" if goal == "macs_saved" else "agreement"]
    return value, value >= limit - 1e-6


def main() -> int:
    """Resolve, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=[task.value for task in Task])
    parser.add_argument("data", type=Path, help="DIR with HR/ and LR_x4/, or LABELS.csv")
    parser.add_argument("goals", nargs="+", metavar="GOAL=VALUE")
    parser.add_argument("--images", type=Path, help="what the paths of LABELS.csv start from")
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    card = load_card(options.task)
    rule = ClassifyRule if options.task == "classify" else SuperResolveRule
    goals = [(name, float(value)) for name, _, value in (goal.partition("=") for goal in options.goals)]
    resolved = {}
    for goal, limit in goals:
        try:
            resolved[goal, limit] = resolve_rule(rule.model_validate({goal: limit}), card.expectations)
        except GoalError as error:
            print(f"{goal}={limit:g}: {error}", file=sys.stderr)
    rows = measure(options, [one.threshold for one in resolved.values()])
    print("| goal | threshold | expected MACs saved | measured MACs saved | measured goal | met |")
    print("|---|---|---|---|---|---|")
    results = []
    for (goal, limit), one in resolved.items():
        row = rows[one.threshold]
        value, met = outcome(goal, limit, row, rows[0.0])
        expected = one.expected.macs_saved if one.expected is not None else float("nan")
        print(
            f"| {goal} = {limit:g} | {one.threshold:g} | {expected:.4f} | {row['macs_saved']:.4f} "
            f"| {value:.4f} | {'yes' if met else 'NO'} |"
        )
        results.append({"goal": goal, "limit": limit, "value": value, "met": met, **row})
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(one["met"] for one in results) and len(resolved) == len(goals) else 1


if __name__ == "__main__":
    sys.exit(main())

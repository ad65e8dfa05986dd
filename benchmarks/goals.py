"""Goals against what they then give on real images: each is resolved with the model's card, and measured.

    python -m benchmarks.goals super-resolve DIR macs_saved=0.7 max_psnr_drop_db=0.1
    python -m benchmarks.goals classify LABELS.csv --images ROOT macs_saved=0.5 max_top1_drop=0.01

The images should be the card's own validation images (`expectations_data`): a goal is a promise about those. Exits
with 1 if a goal is missed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from pixeltier.models.cards import load_card
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.goals import GoalError, resolve_rule
from pixeltier.service.tiers.schema import RULES

METRICS = {
    "max_psnr_drop_db": "psnr_y",
    "max_ssim_drop": "ssim_y",
    "max_top1_drop": "top1",
    "max_top5_drop": "top5",
}


def measure(options: argparse.Namespace, thresholds: list[float]) -> dict[float, dict[str, float]]:
    """MACs saved and quality over all images, by threshold; 0 is always among them."""
    wanted = sorted({0.0, *thresholds})
    return _super_resolve(options, wanted) if options.task == "super-resolve" else _classify(options, wanted)


def _super_resolve(options: argparse.Namespace, thresholds: list[float]) -> dict[float, dict[str, float]]:
    from pixeltier.models.engine import SuperResolver
    from pixeltier.models.evaluation.metrics import luma, psnr, ssim
    from pixeltier.models.evaluation.super_resolve import image_pairs

    resolver = SuperResolver.load()
    dense, executed = 0, dict.fromkeys(thresholds, 0)
    scores: dict[float, list[tuple[float, float]]] = {threshold: [] for threshold in thresholds}
    for large, small in tqdm(image_pairs(options.data), unit="image"):
        original, image = _pixels(large), _pixels(small)
        for threshold in thresholds:
            result = resolver.upscale(image, threshold)
            height, width = result.image.shape[:2]
            pair = luma(original[:height, :width]), luma(result.image)
            scores[threshold].append((psnr(*pair), ssim(*pair)))
            executed[threshold] += result.macs_executed
        dense += result.macs_dense
    means = {threshold: np.mean(found, axis=0).tolist() for threshold, found in scores.items()}
    return {
        t: {"macs_saved": 1 - executed[t] / dense, "psnr_y": means[t][0], "ssim_y": means[t][1]}
        for t in thresholds
    }


def _classify(options: argparse.Namespace, thresholds: list[float]) -> dict[float, dict[str, float]]:
    from pixeltier.models.engine import Classifier
    from pixeltier.models.evaluation.classify import labelled_photos
    from pixeltier.models.images import classify_input

    photos, labels = labelled_photos(options.data, options.images, options.split)
    classifier = Classifier.load()
    dense, executed = 0, dict.fromkeys(thresholds, 0)
    best: dict[float, list[np.ndarray]] = {threshold: [] for threshold in thresholds}
    for photo in tqdm(photos, unit="photo"):
        with Image.open(photo) as image:
            pixels = classify_input(image.convert("RGB"))
        for threshold in thresholds:
            (result,) = classifier.classify([pixels], [threshold])
            best[threshold].append(np.argsort(-result.probabilities, kind="stable")[:5])
            executed[threshold] += result.macs_executed
        dense += result.macs_dense
    five = {threshold: np.stack(found) for threshold, found in best.items()}
    return {
        t: {
            "macs_saved": 1 - executed[t] / dense,
            "top1": float((five[t][:, 0] == labels).mean()),
            "top5": float((five[t] == labels[:, None]).any(axis=1).mean()),
            "agreement": float((five[t][:, 0] == five[0.0][:, 0]).mean()),
        }
        for t in thresholds
    }


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


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
    rule = RULES[Task(options.task)]
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
        results.append(
            {"goal": goal, "limit": limit, "value": value, "met": met, "threshold": one.threshold, **row}
        )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(one["met"] for one in results) and len(resolved) == len(goals) else 1


if __name__ == "__main__":
    sys.exit(main())

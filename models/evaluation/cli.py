"""`pixeltier evaluate`: a table on the terminal, rows in a file, a picture, thresholds for a tier table."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TierThresholds = Callable[[str], Mapping[str, float]]
INT8_PHOTOS = 300


def add_commands(commands: Any, tier_thresholds: TierThresholds) -> None:
    """Add `super-resolve` and `classify` to an argparse subparsers object.

    Args:
        tier_thresholds: names and thresholds of a task's tiers; the caller knows the tier table.
    """
    resolve = commands.add_parser(
        "super-resolve", help="PSNR and SSIM (luma, 4-pixel shave) on HR/ and LR_x4/"
    )
    resolve.add_argument("directory", type=Path, metavar="DIR", help="holds HR/ and LR_x4/")
    resolve.add_argument(
        "--teacher", type=Path, nargs="+", default=[], metavar="FILE.onnx", help="x4 networks to compare with"
    )
    resolve.add_argument(
        "--rivals", action="store_true", help="also the base, ESPAN, alone in a dense engine"
    )
    resolve.add_argument(
        "--jpeg-quality",
        type=int,
        choices=range(1, 101),
        metavar="Q",
        help="compress the inputs as JPEG of this quality first, 1 to 100",
    )
    _add_common(resolve, "rank windows by the error that the exact output removes, at equal MACs")
    resolve.set_defaults(
        run=lambda options: _or_explain(_super_resolve, options, tier_thresholds("super-resolve"))
    )

    classify = commands.add_parser("classify", help="top-1, top-5 and agreement with the exact tier")
    classify.add_argument(
        "labels", type=Path, metavar="LABELS.csv", help="columns path, class_index or imagenet_index[, split]"
    )
    classify.add_argument(
        "--images", type=Path, required=True, metavar="ROOT", help="what the paths start from"
    )
    classify.add_argument(
        "--split", default="val", help="rows to use where there is a split column; all [val]"
    )
    classify.add_argument(
        "--rivals", action="store_true", help="also the base alone at 224, 192, 160 and 128 pixels a side"
    )
    classify.add_argument(
        "--resnet18",
        type=Path,
        metavar="FILE",
        help="with --rivals: also a plain ResNet-18 (torchvision or timm names) at those sizes",
    )
    classify.add_argument(
        "--int8-photos",
        type=Path,
        metavar="DIR",
        help="with --rivals: also OpenVINO INT8, quantised by NNCF on 300 photos below DIR",
    )
    classify.add_argument(
        "--efficientnet-lite",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="with --rivals: also EfficientNet-Lites of any size, in the public names",
    )
    _add_common(classify, "refine the images whose true class gains most by it, at equal MACs")
    classify.set_defaults(run=lambda options: _or_explain(_classify, options, tier_thresholds("classify")))


def _add_common(parser: argparse.ArgumentParser, oracle: str) -> None:
    parser.add_argument("--json", type=Path, metavar="F", help="write the rows there as well")
    parser.add_argument(
        "--thresholds",
        type=_numbers,
        metavar="T,T,...",
        help="a curve at these thresholds instead of the tiers",
    )
    parser.add_argument("--oracle", action="store_true", help=oracle)
    parser.add_argument(
        "--time",
        type=float,
        metavar="SECONDS",
        help="also milliseconds of one image, everything taking turns for so long",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw the curve: quality against MACs saved"
    )
    parser.add_argument(
        "--suggest-tiers",
        type=_share,
        nargs="+",
        metavar="SHARE",
        help="print the thresholds that save these shares of the MACs on these images, and nothing else (fast)",
    )
    parser.add_argument("--weights", type=Path, help="directory of weights and card [the packaged ones]")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "int8"), default="auto")
    parser.add_argument(
        "--update-card", metavar="NAME", help="store the curve in the card, as measured on data of that name"
    )


def _numbers(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not values or not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError("thresholds lie between 0 and 1, separated by commas")
    return values


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("a share of the MACs lies between 0 and 1, as 0.7")
    return value


def _or_explain(
    command: Callable[[argparse.Namespace, Mapping[str, float]], int],
    options: argparse.Namespace,
    tiers: Mapping[str, float],
) -> int:
    """Run a command; what the user can mend is one line on stderr and status 2, not a traceback."""
    try:
        return command(options, tiers)
    except (OSError, ValueError, ImportError) as error:
        print(f"pixeltier evaluate: {error}", file=sys.stderr)
        return 2


def _super_resolve(options: argparse.Namespace, tiers: Mapping[str, float]) -> int:
    from pixeltier.models.engine import SuperResolver
    from pixeltier.models.evaluation.super_resolve import base_alone, evaluate, low_resolution_images
    from pixeltier.models.evaluation.timing import BASE_ALONE, IMAGES, spread, timed

    resolver = SuperResolver.load(options.weights, options.precision)
    data = options.directory.name
    if options.jpeg_quality is not None:
        data += f", JPEG {options.jpeg_quality}"
    if options.suggest_tiers is not None:
        costs = map(resolver.cost, low_resolution_images(options.directory, options.jpeg_quality))
        return _suggest("super-resolve", costs, options, tiers, data)
    dense = _dense_resolvers(options)
    found = evaluate(
        resolver, options.directory, _wanted(options, tiers), options.oracle, dense, options.jpeg_quality
    )
    if options.time is not None:
        images = spread(list(low_resolution_images(options.directory, options.jpeg_quality)), IMAGES)
        rivals = {
            BASE_ALONE: lambda image: base_alone(resolver, image),
            **{rival.name: rival for rival in dense},
        }
        found = timed(
            found, lambda limit, image: resolver.upscale(image, limit), rivals, images, options.time
        )
    return _report("super-resolve", resolver.card.version, data, found, options)


def _classify(options: argparse.Namespace, tiers: Mapping[str, float]) -> int:
    from pixeltier.models.engine import Classifier
    from pixeltier.models.evaluation.classify import batches, evaluate, labelled_photos
    from pixeltier.models.evaluation.timing import BASE_ALONE, PHOTOS, spread, timed

    photos, labels = labelled_photos(options.labels, options.images, options.split)
    classifier = Classifier.load(options.weights, options.precision)
    if options.suggest_tiers is not None:
        costs = (cost for batch in batches(photos) for cost in classifier.costs(batch))
        return _suggest("classify", costs, options, tiers, options.labels.name)
    dense = _dense_classifiers(options) if options.rivals else []
    found = evaluate(classifier, photos, labels, _wanted(options, tiers), options.oracle, dense)
    if options.time is not None:
        images = [image for batch in batches(spread(photos, PHOTOS)) for image in batch]
        rivals = {
            BASE_ALONE: lambda image: classifier.base_alone([image]),
            **{rival.name: rival for rival in dense},
        }
        found = timed(
            found, lambda limit, image: classifier.classify([image], [limit]), rivals, images, options.time
        )
    loss = (
        _int8_loss(options, tiers, photos, labels) if options.update_card and classifier.card.int8 else None
    )
    return _report("classify", classifier.card.version, options.labels.name, found, options, loss)


def _dense_classifiers(options: argparse.Namespace) -> list[Any]:
    import torch

    from pixeltier.models.checkpoints import load_classification
    from pixeltier.models.evaluation.dense_classifiers import dense_classifiers
    from pixeltier.models.evaluation.timing import spread
    from pixeltier.models.images import read_classify_input
    from pixeltier.models.training.photos import find_photos

    model, _ = load_classification(options.weights)
    paths = [] if options.int8_photos is None else find_photos([options.int8_photos])
    chosen = spread(paths, INT8_PHOTOS)
    photos = [read_classify_input(path) for path in chosen]
    threads = torch.get_num_threads()
    return list(dense_classifiers(model, options.resnet18, options.efficientnet_lite, photos, threads))


def _dense_resolvers(options: argparse.Namespace) -> list[Any]:
    from pixeltier.models import counting
    from pixeltier.models.checkpoints import load_super_resolution
    from pixeltier.models.evaluation.dense_resolvers import dense_resolvers

    model, _ = load_super_resolution(options.weights)
    shape = model.base.shape
    macs = counting.espan(shape.channels, shape.blocks, shape.block_layers, shape.last_block_layers)
    return list(dense_resolvers(model.base if options.rivals else None, macs, options.teacher))


def _wanted(options: argparse.Namespace, tiers: Mapping[str, float]) -> list[tuple[str | None, float]]:
    if options.thresholds is not None:
        return [(None, threshold) for threshold in options.thresholds]
    return list(tiers.items())


def _suggest(
    task: str, costs: Any, options: argparse.Namespace, tiers: Mapping[str, float], data: str
) -> int:
    from dataclasses import asdict

    from pixeltier.models.evaluation.report import write_json
    from pixeltier.models.evaluation.suggestion import as_toml, suggest

    found = suggest(costs, options.suggest_tiers)
    below_exact = [name for name, threshold in tiers.items() if threshold > 0]
    print(as_toml(task, found, below_exact, data))
    if options.json is not None:
        write_json({"task": task, "data": data, "suggestions": [asdict(one) for one in found]}, options.json)
    return 0


def _int8_loss(options: argparse.Namespace, tiers: Mapping[str, float], photos: Any, labels: Any) -> float:
    """Top-1 that the base's int8 loses, the most of all thresholds."""
    from pixeltier.models.engine import Classifier
    from pixeltier.models.evaluation.classify import evaluate

    exact, rounded = (
        evaluate(Classifier.load(options.weights, precision), photos, labels, _wanted(options, tiers)).learned
        for precision in ("fp32", "int8")
    )
    lost = max(a.metrics["top1"] - b.metrics["top1"] for a, b in zip(exact, rounded, strict=True))
    print(f"int8 loses {100 * lost:.2f} points of top-1 at worst")
    return lost


def _report(
    task: str,
    version: str,
    data: str,
    evaluation: Any,
    options: argparse.Namespace,
    int8_loss: float | None = None,
) -> int:
    from pixeltier.models.evaluation import report
    from pixeltier.models.evaluation.plot import draw

    print(report.table(evaluation))
    if options.json is not None:
        report.write_json(report.document(task, version, data, evaluation), options.json)
    if options.update_card is not None:
        report.update_card(task, evaluation, options.update_card, options.weights, int8_loss)
    if options.plot is not None:
        draw(task, evaluation, f"{task} {version} on {data}, {evaluation.images} images", options.plot)
    return 0

"""`pixeltier train`, `pixeltier calibrate` and `pixeltier import-weights`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = ("classify", "super-resolve")


def add_train(commands: Any) -> None:
    """Add `train`, which resumes from its checkpoint where there is one."""
    train = commands.add_parser("train", help="train a model as a configuration file says; resumes by itself")
    train.add_argument("task", choices=TASKS)
    train.add_argument("config", type=Path, metavar="CONFIG.toml", help="see models/configs/")
    train.add_argument("--threads", type=int, help="of torch [all cores]")
    train.set_defaults(run=lambda options: _or_explain(_train, options))


def add_calibrate(commands: Any) -> None:
    """Add `calibrate`, which turns a checkpoint into weights that can be served."""
    calibrate = commands.add_parser(
        "calibrate", help="measure the importance table of a checkpoint; write weights and card"
    )
    calibrate.add_argument("task", choices=TASKS)
    calibrate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.pt")
    calibrate.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders of photos to calibrate on"
    )
    calibrate.add_argument(
        "--limit", type=int, default=500, help="at most that many photos, evenly spread [500]"
    )
    calibrate.add_argument("--out", type=Path, required=True, help="directory for weights and card")
    calibrate.add_argument("--model-version", required=True, help="what answers will name, as 2026.11.1")
    calibrate.add_argument("--data-name", required=True, help="what the card calls the photos")
    calibrate.add_argument("--note", default="", help="for the card: training data and start")
    calibrate.add_argument(
        "--licence",
        default="",
        metavar="SPDX",
        help="of the weights, for the card [that of the shipped ones]",
    )
    calibrate.set_defaults(run=lambda options: _or_explain(_calibrate, options))


def add_import(commands: Any) -> None:
    """Add `import-weights`, which makes somebody's ResNet-18 servable."""
    importing = commands.add_parser(
        "import-weights",
        help="make a torchvision or timm ResNet-18 servable",
        description="Let a torchvision or timm ResNet-18 refine the packaged base, fit the base to it on photos "
        "without labels, calibrate, and write a directory for `pixeltier serve --weights-dir`.",
    )
    importing.add_argument("weights", type=Path, metavar="FILE", help="state dict, .pth or .safetensors")
    importing.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    importing.add_argument(
        "--photos",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="unlabelled photos of the kind that will be served, hundreds to thousands; without any the base's "
        "answer is not used",
    )
    importing.add_argument(
        "--limit", type=int, default=2000, help="at most that many photos, evenly spread [2000]"
    )
    importing.add_argument("--model-version", required=True, metavar="V", help="what answers will name")
    importing.add_argument("--licence", required=True, metavar="SPDX", help="of the weights, for the card")
    importing.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the classes, one a line [ImageNet's 1000]"
    )
    importing.set_defaults(run=lambda options: _or_explain(_import, options))


def _or_explain(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; what the user can mend is one line on stderr and status 2, not a traceback."""
    try:
        return command(options)
    except (OSError, ValueError, ImportError) as error:
        print(f"pixeltier: {error}", file=sys.stderr)
        return 2


def _train(options: argparse.Namespace) -> int:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.task == "classify":
        from pixeltier.models.training.classify import train
    else:
        from pixeltier.models.training.super_resolve import train
    print(f"checkpoint: {train(options.config)}")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from pixeltier.models.training.export import calibrate
    from pixeltier.models.training.photos import find_photos

    card = calibrate(
        options.task,
        options.checkpoint,
        _spread(find_photos(options.photos), options.limit),
        options.out,
        options.model_version,
        options.data_name,
        options.note,
        options.licence,
    )
    print(f"{card.name} {card.version}: weights and card in {options.out}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from pixeltier.models.importing import import_resnet18
    from pixeltier.models.training.photos import find_photos

    photos = _spread(find_photos(options.photos), options.limit) if options.photos else []
    card = import_resnet18(
        options.weights, options.out, photos, options.model_version, options.licence, options.labels
    )
    print(
        f"{card.name} {card.version}, {card.architecture['classes']} classes: weights and card in {options.out}"
    )
    print(f"serve it: pixeltier serve --weights-dir {options.out}")
    return 0


def _spread(photos: list[Path], limit: int) -> list[Path]:
    """At most `limit` photos, evenly from the list."""
    return photos[:: max(1, len(photos) // limit)][:limit]

"""`pixeltier replay`: a recorded day in this process, with the tier table as it is and as it would be.

Needs no running service. The models run as in a worker, so what needs torch is imported by the command itself.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pixeltier.service.command_line.messages import CommandError, refuse
from pixeltier.service.command_line.replay_tables import print_replay
from pixeltier.service.command_line.tier_changes import patch_of, read_document

if TYPE_CHECKING:
    from pixeltier.service.configuration.settings import Settings
    from pixeltier.service.replay.arrivals import Recording
    from pixeltier.service.replay.efforts import EffortTable

T = TypeVar("T")

USUAL_OVERHEAD_MS = 2.0
"""What a request takes besides waiting and its worker where the recording does not say: HTTP and the way to the worker
and back (docs/service.md, "What it adds to the model")."""

DESCRIPTION = """\
Play recorded requests with the tier table as it is and as it would be: latency, MACs and quality of both.

ARRIVALS is a table (CSV with a line of names, or JSON lines) of
  time      seconds, or timestamps as 2026-11-26T10:00:00Z
  task      classify or super-resolve
  tier      empty: the table's default
  image     a file; the path starts at the table, or at --images
  threshold instead of a tier, where the column is there
or the service's own log as JSON, which holds no images: they are drawn from --images, by nearest size."""


def add_replay(commands: Any) -> None:
    """Add `replay` to an argparse subparsers object."""
    parser = commands.add_parser(
        "replay",
        help="what another tier table would have done to a recorded day",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A change is KEY=VALUE as in `pixeltier tiers dry-run`: fast.classify=0.6",
    )
    parser.add_argument("arrivals", type=Path, metavar="ARRIVALS", help="a table, or a log of the service")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="what would be different")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images are")
    parser.add_argument("--tiers", type=Path, metavar="FILE", help="current table [the service's setting]")
    parser.add_argument(
        "--with", dest="changed", type=Path, metavar="FILE", help="changed table, TOML or JSON"
    )
    parser.add_argument("--workers", type=_count, metavar="N", help="workers [as the service would have]")
    parser.add_argument(
        "--overhead-ms",
        type=_not_negative,
        metavar="MS",
        help=f"time of a request besides waiting and its worker [of the log, else {USUAL_OVERHEAD_MS:g}]",
    )
    parser.add_argument(
        "--deadline-ms", type=_above_zero, metavar="MS", help="count requests that take longer"
    )
    parser.add_argument(
        "--times",
        choices=("recorded", "measured"),
        default="recorded",
        help="scale what is measured here to what workers took in the log, if it says so [recorded]",
    )
    parser.add_argument("--speed", type=_above_zero, default=1.0, metavar="X", help="times faster [1]")
    parser.add_argument("--repeats", type=_count, default=3, metavar="N", help="timed runs of each image [3]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the images drawn for a log [0]")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures there as well")
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE", help="the service's settings [PIXELTIER_CONFIG_FILE]"
    )
    parser.set_defaults(run=_or_explain)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {text}")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0, not {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number from 0 on, not {text}")
    return value


def _or_explain(options: argparse.Namespace) -> int:
    from pixeltier.service.configuration.cpus import QuotaExceededError
    from pixeltier.service.configuration.settings import ConfigurationError
    from pixeltier.service.replay.arrivals import ReplayError
    from pixeltier.service.tiers.schema import TierTableError

    try:
        return _replay(options)
    except (CommandError, ConfigurationError, QuotaExceededError, ReplayError, TierTableError) as error:
        return refuse(f"replay: {error}")


def _replay(options: argparse.Namespace) -> int:
    from pixeltier.service.configuration import settings
    from pixeltier.service.replay.reading import read_recording
    from pixeltier.service.worker.startup import settle_process

    service = settings.load(config_file=options.config_file)
    settle_process(service.shape().threads)  # before numpy and torch are imported
    tables = _tables(options, service)
    recording = read_recording(options.arrivals, options.images, options.seed)
    document = _played(recording, tables, service, options)
    print_replay(document)
    if options.json is not None:
        from pixeltier.models.evaluation.report import write_json

        write_json(document, options.json)
    return 0


def _tables(options: argparse.Namespace, service: "Settings") -> "tuple[EffortTable, EffortTable]":
    """The current and the changed table, with their goals resolved."""
    from pixeltier.service import catalogue
    from pixeltier.service.replay.efforts import EffortTable
    from pixeltier.service.tiers import patch, schema

    current = schema.load(options.tiers or service.tiers_file)
    document = current.document() if options.changed is None else read_document(options.changed)
    source = "" if options.changed is None else str(options.changed)
    changed = schema.validate(document, source=source)
    if options.changes:
        changed = schema.validate(patch.apply(changed.document(), patch_of(options.changes)))
    curves = {task: one.expectations for task, one in catalogue.load(service.weights_dir).models.items()}
    return EffortTable("the current table", current, curves), EffortTable(
        "the changed table", changed, curves
    )


def _played(
    recording: "Recording",
    tables: "tuple[EffortTable, EffortTable]",
    service: "Settings",
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Run the images, play the arrivals: everything that is told."""
    from pixeltier.service.replay.comparison import Comparison, Conditions
    from pixeltier.service.replay.document import document_of
    from pixeltier.service.replay.measurement import measure_all, wanted_of
    from pixeltier.service.replay.scaling import time_factors

    wanted = wanted_of(recording.arrivals, *tables)
    measured = dict(_progress(measure_all(wanted, service, options.repeats), len(wanted)))
    factors = time_factors(recording.arrivals, tables[0], measured) if options.times == "recorded" else {}
    conditions = Conditions(
        workers=options.workers or service.shape().slots,
        overhead_ms=_overhead_ms(recording, options),
        speed=options.speed,
        deadline_ms=options.deadline_ms,
        time_factors=factors,
    )
    comparison = Comparison(recording.arrivals, tables, measured, conditions)
    return document_of(recording, tables, conditions, comparison)


def _overhead_ms(recording: "Recording", options: argparse.Namespace) -> float:
    if options.overhead_ms is not None:
        return float(options.overhead_ms)
    return USUAL_OVERHEAD_MS if recording.overhead_ms is None else recording.overhead_ms


def _progress(items: Iterable[T], total: int) -> Iterable[T]:
    from tqdm import tqdm

    found: Iterable[T] = tqdm(items, desc="images", total=total, unit="image", disable=None)
    return found

"""`pixeltier`: one command for the service, its client, its doctor and the models' evaluation.

Imports are local to the commands: `--version` and the client must not wait for a web framework, and the front
process must never meet torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service import __version__
from service.operator_cli import add_tiers

USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(command=arguments[0] if arguments else "")
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return USAGE_ERROR
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def _parser(*, command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pixeltier", description="Compute only on the pixels that matter.")
    parser.add_argument("--version", action="version", version=f"pixeltier {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_serve(commands)
    _add_client_commands(commands)
    add_tiers(commands, _add_connection)
    key = commands.add_parser("key", help="make an API key, and its entry for the key file")
    key.add_argument("name", help="whose key it is, for the log")
    key.set_defaults(run=_key)
    doctor = commands.add_parser("doctor", help="say what this machine has and what would run")
    doctor.set_defaults(run=_doctor)
    evaluate = commands.add_parser("evaluate", help="measure the models on a data set")
    if command == "evaluate":
        from models.evaluation.cli import add_commands

        add_commands(evaluate.add_subparsers(title="tasks", metavar="TASK", required=True), _tier_thresholds)
    from models.training.cli import add_calibrate, add_import, add_train

    add_train(commands)
    add_calibrate(commands)
    add_import(commands)
    return parser


def _tier_thresholds(task: str) -> dict[str, float]:
    from service.tasks import Task
    from service.tiers.opening import packaged_thresholds

    return packaged_thresholds(Task(task))


# ---- serve -------------------------------------------------------------------------------------------


def _add_serve(commands: Any) -> None:
    from service.settings import Settings

    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every option is also an environment variable (--queue-limit: "
        "PIXELTIER_QUEUE_LIMIT) and a key of the configuration file (queue_limit), strongest first.",
    )
    serve.add_argument("--config-file", type=Path, metavar="FILE", help="TOML file with settings")
    serve.add_argument("--workers", type=int, default=1, metavar="1", help="refused above 1; see --slots")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" [{field.default}]"
        serve.add_argument(
            "--" + name.replace("_", "-"),
            dest=f"setting_{name}",
            metavar="VALUE",
            help=f"{field.description}{default}",
        )
    serve.set_defaults(run=_serve)


def _settings_from(options: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {
        name.removeprefix("setting_"): value
        for name, value in vars(options).items()
        if name.startswith("setting_") and value is not None
    }
    if "cors_origins" in values:
        values["cors_origins"] = [origin for origin in str(values["cors_origins"]).split(",") if origin]
    return values


def _serve(options: argparse.Namespace) -> int:
    from service import settings
    from service.api.access import AccessFileError
    from service.api.admin_tokens import TokenFileError
    from service.pool.cpus import QuotaExceededError
    from service.tiers.schema import TierTableError

    if options.workers > 1 or int(os.environ.get("WEB_CONCURRENCY") or 1) > 1:
        return _refuse(
            "--workers above 1 is refused: one front process holds the queue and the metrics. "
            "Use --slots for more worker processes, and more containers beyond one machine."
        )
    try:
        effective = settings.load(_settings_from(options), config_file=options.config_file)
        effective.shape()
        from service.serve import serve

        serve(effective)
    except (
        settings.ConfigurationError,
        AccessFileError,
        TokenFileError,
        QuotaExceededError,
        TierTableError,
    ) as error:
        return _refuse(str(error))
    except FileNotFoundError as error:
        return _refuse(f"a file is missing: {error}")
    return 0


def _refuse(message: str) -> int:
    print(f"pixeltier: {message}", file=sys.stderr)
    return USAGE_ERROR


# ---- client ------------------------------------------------------------------------------------------


def _add_client_commands(commands: Any) -> None:
    health = commands.add_parser("health", help="ask a running service whether it is ready; status 0 if so")
    _add_connection(health)
    health.set_defaults(run=_health)

    classify = commands.add_parser("classify", help="name what images show")
    _add_connection(classify)
    _add_inference(classify)
    classify.add_argument("--top-k", type=int, default=1, help="how many classes to name [1]")
    classify.add_argument("--json", action="store_true", help="one JSON line a file")
    classify.set_defaults(run=_classify)

    upscale = commands.add_parser("upscale", help="enlarge images four times")
    _add_connection(upscale)
    _add_inference(upscale)
    upscale.add_argument(
        "-o", "--output", type=Path, help="file, or folder for several [NAME_x4.png beside each]"
    )
    upscale.add_argument(
        "--format", choices=("png", "webp", "jpeg"), help="format of the result [png, or as --output]"
    )
    upscale.add_argument("--quality", type=int, help="1 to 100, for webp and jpeg")
    upscale.set_defaults(run=_upscale)


def _add_connection(parser: argparse.ArgumentParser) -> None:
    from service.client import DEFAULT_URL

    default = os.environ.get("PIXELTIER_URL", DEFAULT_URL)
    parser.add_argument("--url", default=default, help=f"the service [{default}; PIXELTIER_URL]")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds a file may take, retries included [60]"
    )


def _add_inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--tier", help="quality tier [the service's default]")
    parser.add_argument("--threshold", type=float, help="0 to 1, instead of a tier")
    parser.add_argument(
        "--max-macs-ratio", type=float, metavar="R", help="never more than this share of the dense MACs"
    )
    parser.add_argument(
        "--max-latency-ms", type=float, metavar="MS", help="target for the time in the service"
    )


def _quality(options: argparse.Namespace) -> dict[str, Any]:
    names = ("tier", "threshold", "max_macs_ratio", "max_latency_ms")
    return {name: getattr(options, name) for name in names}


def _client(options: argparse.Namespace) -> Any:
    from service.client import Client

    return Client(options.url, api_key=os.environ.get("PIXELTIER_API_KEY"), timeout_s=options.timeout)


def _health(options: argparse.Namespace) -> int:
    with _client(options) as client:
        ready = client.ready()
    print("ready" if ready else "not ready")
    return 0 if ready else 1


def _progress(files: Sequence[Path]) -> Any:
    from tqdm import tqdm

    return tqdm(files, unit="image", disable=len(files) < 2 or not sys.stderr.isatty())


def _classify(options: argparse.Namespace) -> int:
    import dataclasses
    import json

    from service.client import PixeltierError

    failed = 0
    with _client(options) as client:
        for file in _progress(options.files):
            try:
                answer = client.classify(file, **_quality(options), top_k=options.top_k)
            except (PixeltierError, OSError) as error:
                failed += 1
                print(f"{file}: {error}", file=sys.stderr)
                continue
            if options.json:
                print(json.dumps({"file": str(file), **dataclasses.asdict(answer)}))
                continue
            names = ", ".join(f"{one.label} {100 * one.probability:.1f} %" for one in answer.predictions)
            print(f"{file}: {names}  ({_cost_text(answer.cost)})")
    return 1 if failed else 0


def _upscale(options: argparse.Namespace) -> int:
    from service.client import PixeltierError

    if options.output is not None and len(options.files) > 1 and not options.output.is_dir():
        return _refuse(f"--output must be an existing folder for several files: {options.output}")
    format_ = options.format or _format_of(options.output)
    failed = 0
    with _client(options) as client:
        for file in _progress(options.files):
            try:
                answer = client.upscale(file, **_quality(options), format=format_, quality=options.quality)
                target = _target(file, options.output, format_)
                target.write_bytes(answer.body)
            except (PixeltierError, OSError) as error:
                failed += 1
                print(f"{file}: {error}", file=sys.stderr)
                continue
            print(f"{file} -> {target}  ({_cost_text(answer.cost)})")
    return 1 if failed else 0


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.lower().lstrip(".")
    return {"jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}.get(suffix, "png")


def _target(file: Path, output: Path | None, format_: str) -> Path:
    name = f"{file.stem}_x4.{'jpg' if format_ == 'jpeg' else format_}"
    if output is None:
        return file.with_name(name)
    return output / name if output.is_dir() else output


def _cost_text(cost: Any) -> str:
    return f"tier {cost.tier_effective}, {100 * cost.macs_saved_ratio:.1f} % of the MACs saved"


def _key(options: argparse.Namespace) -> int:
    import re

    from service.api.access import new_key

    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", options.name):
        return _refuse("a name is 1 to 64 letters, digits, dots, dashes or underscores")
    token, stanza = new_key(options.name)
    print(f"# The client's token, shown only now: {token}\n\n{stanza}", end="")
    return 0


# ---- doctor ------------------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    del options
    from service.doctor import examine

    return examine()


if __name__ == "__main__":
    sys.exit(main())

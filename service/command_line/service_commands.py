"""The commands of the service: serve, key, doctor, and the models' evaluation and training.

The client's distribution does not hold this file; where only that is installed, `main` says what brings it.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

from pixeltier.service.command_line.messages import FAILED, refuse


def add_serve(commands: Any) -> None:
    """Add `serve`, with every setting as an option."""
    from pixeltier.service.configuration.list_settings import is_list
    from pixeltier.service.configuration.settings import Settings

    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every option is also an environment variable (--queue-limit: "
        "PIXELTIER_QUEUE_LIMIT) and a key of the configuration file (queue_limit), strongest first.",
    )
    serve.add_argument("--config-file", type=Path, metavar="FILE", help="TOML file with settings")
    serve.add_argument("--workers", type=int, default=1, metavar="1", help="refused above 1; see --slots")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" [{_spelled(field.default)}]"
        serve.add_argument(
            "--" + name.replace("_", "-"),
            dest=f"setting_{name}",
            metavar="VALUE",
            action="append" if is_list(field.annotation) else "store",
            help=f"{field.description}{default}".replace("%", "%%"),
        )
    serve.set_defaults(run=_serve)


def _spelled(value: Any) -> str:
    """A default as the command line spells it."""
    from pixeltier.service.configuration.list_settings import is_list, joined

    return joined(value) if is_list(type(value)) else str(value)


def _settings_from(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name.removeprefix("setting_"): ",".join(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name.startswith("setting_") and value is not None
    }


def _serve(options: argparse.Namespace) -> int:
    from pixeltier.service.api.access import AccessFileError
    from pixeltier.service.configuration import settings
    from pixeltier.service.configuration.cpus import QuotaExceededError
    from pixeltier.service.configuration.token_file import TokenFileError
    from pixeltier.service.server.process_limits import ProcessLimitError
    from pixeltier.service.tiers.schema import TierTableError
    from pixeltier.service.work.pool import StartError

    concurrency = os.environ.get("WEB_CONCURRENCY") or "1"
    if options.workers > 1 or concurrency.strip() not in {"0", "1"}:
        return refuse(
            "--workers above 1 is refused: one front process holds the queue and the metrics. "
            "Use --slots for more worker processes, and more containers beyond one machine."
        )
    try:
        effective = settings.load(_settings_from(options), config_file=options.config_file)
        effective.shape()
        from pixeltier.service.server.serve import serve

        serve(effective)
    except StartError as error:
        return refuse(str(error), FAILED)
    except (
        settings.ConfigurationError,
        AccessFileError,
        TokenFileError,
        ProcessLimitError,
        QuotaExceededError,
        TierTableError,
    ) as error:
        return refuse(str(error))
    except FileNotFoundError as error:
        return refuse(f"a file is missing: {error}")
    return 0


def add_others(commands: Any, *, command: str) -> None:
    """Add what else there is; the options of `evaluate`, which need torch, only where it is the command given."""
    key = commands.add_parser("key", help="make an API key, and its entry for the key file")
    key.add_argument("name", help="whose key it is, for the log")
    key.set_defaults(run=_key)
    doctor = commands.add_parser("doctor", help="say what this machine has and what would run")
    doctor.set_defaults(run=_doctor)
    evaluate = commands.add_parser("evaluate", help="measure the models on a data set")
    if command == "evaluate":
        from pixeltier.models.evaluation.cli import add_commands

        add_commands(evaluate.add_subparsers(title="tasks", metavar="TASK", required=True), _tier_thresholds)
    from pixeltier.service.command_line.replay import add_replay

    add_replay(commands)
    from pixeltier.models.training.cli import add_calibrate, add_import, add_train

    add_train(commands)
    add_calibrate(commands)
    add_import(commands)


def _tier_thresholds(task: str) -> dict[str, float]:
    from pixeltier.service.tasks import Task
    from pixeltier.service.tiers.opening import packaged_thresholds

    return packaged_thresholds(Task(task))


def _key(options: argparse.Namespace) -> int:
    from pixeltier.service.api.access import new_key

    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", options.name):
        return refuse("a name is 1 to 64 letters, digits, dots, dashes or underscores")
    token, stanza = new_key(options.name)
    print(f"# The client's token, shown only now: {token}\n\n{stanza}", end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    del options
    from pixeltier.service.command_line.doctor import examine

    return examine()

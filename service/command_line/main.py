"""`pixeltier`: one command for the service, its client, its doctor and the models' evaluation.

Imports are local to the commands: `--version` and the client must not wait for a web framework, and the front
process must never meet torch.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from pixeltier.service import __version__
from pixeltier.service.command_line import image_commands
from pixeltier.service.command_line.connecting import add_connection, open_client
from pixeltier.service.command_line.messages import FAILED, USAGE_ERROR, complain, one_line, refuse
from pixeltier.service.command_line.tiers import add_tiers

UNREACHABLE = 3
"""`pixeltier health`: nobody answers there, or somebody else; 2 is reserved in image health checks."""
INTERRUPTED = 130
PIPE_CLOSED = 141

SERVICE_COMMANDS = ("serve", "key", "doctor", "replay", "evaluate", "train", "calibrate", "import-weights")
"""Commands of `service_commands`, which the client's distribution does not hold."""

INSTALL = "pip install 'pixeltier[serve]'"

TRACEBACK_VARIABLE = "PIXELTIER_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Whatever fails is one line on stderr."""
    try:
        _tolerate_any_character()
        try:
            return _run(sys.argv[1:] if argv is None else list(argv))
        finally:
            _flush()  # here, where a full disk or a closed pipe can still be told
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _settle_output()
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        _settle_output()
        return _explain(error)


def _run(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command in SERVICE_COMMANDS and not _has_service():
        return refuse(f"{command} needs the service, and only the client is installed: {INSTALL}")
    parser = _parser(command=command)
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return USAGE_ERROR
    return int(options.run(options) or 0)


def _has_service() -> bool:
    """Whether the service is installed, or the client alone."""
    return importlib.util.find_spec("pixeltier.service.server") is not None


def _explain(error: Exception) -> int:
    from pixeltier.service.connection.errors import PixeltierError
    from pixeltier.service.connection.whereabouts import WhereaboutsError

    if isinstance(error, PixeltierError | WhereaboutsError):
        complain(str(error))
        return USAGE_ERROR if isinstance(error, WhereaboutsError) else FAILED
    if isinstance(error, OSError):
        complain(_system_error(error))
        return FAILED
    if isinstance(error, ModuleNotFoundError) and not _has_service():
        return refuse(f"this needs the service, and only the client is installed: {INSTALL}")
    complain(f"{type(error).__name__}: {error} ({TRACEBACK_VARIABLE}=1 shows where)")
    return FAILED


def _system_error(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"


def _tolerate_any_character() -> None:
    """A file's name or a label that the terminal's encoding lacks is shown escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _settle_output() -> None:
    """Drop what cannot be written: the interpreter flushes once more at its end, and would complain once more."""
    try:
        _flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """argparse's own writing of the help drops errors: nothing written, status 0."""

    def print_help(self, file: Any = None) -> None:
        """Write the help."""
        print(self.format_help(), end="", file=file)


def _parser(*, command: str) -> argparse.ArgumentParser:
    parser = _Parser(prog="pixeltier", description="Compute only on the pixels that matter.")
    parser.add_argument("--version", action="version", version=f"pixeltier {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    if _has_service():
        from pixeltier.service.command_line import service_commands

        service_commands.add_serve(commands)
        _add_client_commands(commands)
        add_tiers(commands, add_connection)
        service_commands.add_others(commands, command=command)
    else:
        _add_client_commands(commands)
        add_tiers(commands, add_connection)
        parser.epilog = f"With the service ({INSTALL}) come {', '.join(SERVICE_COMMANDS)}."
    return parser


# ---- client ------------------------------------------------------------------------------------------


def _add_client_commands(commands: Any) -> None:
    health = commands.add_parser(
        "health",
        help="ask a running service whether it is ready; status 0 if so",
        description="Exit status: 0 ready, 1 not ready, 3 it cannot be reached or something else answers there.",
    )
    add_connection(health, timeout_s=5.0)
    health.set_defaults(run=_health)

    image_commands.add(commands)


def _health(options: argparse.Namespace) -> int:
    from pixeltier.service.connection.errors import DEADLINE, NOT_READY, PixeltierError
    from pixeltier.service.connection.errors import UNREACHABLE as NOBODY

    try:
        with open_client(options) as client:
            client.check_ready()
    except PixeltierError as error:
        if error.type == NOT_READY:
            print(f"not ready: {one_line(error.detail)}")
            return FAILED
        said = (
            "cannot be reached" if error.type in {NOBODY, DEADLINE} else "does not answer as Pixeltier does"
        )
        complain(f"the service {said}: {error.detail}")
        return UNREACHABLE
    print("ready")
    return 0

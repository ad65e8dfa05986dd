"""`pixeltier`: one command for the service, its client, its doctor and the models' evaluation.

Imports are local to the commands: `--version` and the client must not wait for a web framework, and the front
process must never meet torch.
"""

import argparse
import contextlib
import importlib.util
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixeltier.service import __version__
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
        add_tiers(commands, _add_connection)
        service_commands.add_others(commands, command=command)
    else:
        _add_client_commands(commands)
        add_tiers(commands, _add_connection)
        parser.epilog = f"With the service ({INSTALL}) come {', '.join(SERVICE_COMMANDS)}."
    return parser


# ---- client ------------------------------------------------------------------------------------------


def _add_client_commands(commands: Any) -> None:
    health = commands.add_parser(
        "health",
        help="ask a running service whether it is ready; status 0 if so",
        description="Exit status: 0 ready, 1 not ready, 3 it cannot be reached or something else answers there.",
    )
    _add_connection(health, timeout_s=5.0)
    health.set_defaults(run=_health)

    classify = commands.add_parser("classify", help="name what images show")
    _add_connection(classify)
    _add_inference(classify)
    classify.add_argument("--top-k", type=int, default=1, help="how many classes to name [1]")
    classify.add_argument("--json", action="store_true", help="one JSON line a file")
    classify.set_defaults(run=_classify)

    upscale = commands.add_parser("upscale", help="enlarge images up to four times")
    _add_connection(upscale)
    _add_inference(upscale)
    upscale.add_argument(
        "-o", "--output", type=Path, help="file, or folder for several [NAME_x4.png beside each]"
    )
    upscale.add_argument(
        "--format", choices=("png", "webp", "jpeg"), help="format of the result [png, or as --output]"
    )
    upscale.add_argument("--quality", type=int, help="1 to 100, for webp and jpeg")
    upscale.add_argument("--scale", type=int, choices=(2, 3, 4), help="how many times larger [4]")
    upscale.add_argument(
        "--quality-of-input",
        choices=("auto", "clean", "compressed"),
        help="weights for clean or for compressed images [auto: by the file]",
    )
    upscale.set_defaults(run=_upscale)


def _add_connection(parser: argparse.ArgumentParser, timeout_s: float = 60.0) -> None:
    parser.add_argument(
        "--url",
        help="the service: http://host:port or unix:/path [PIXELTIER_URL, else where PIXELTIER_UDS, PIXELTIER_HOST, "
        "PIXELTIER_PORT and the configuration file put it, else http://127.0.0.1:8000]",
    )
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE", help="the service's settings [PIXELTIER_CONFIG_FILE]"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=timeout_s,
        metavar="S",
        help=f"seconds that one file or question may take in all, retries included [{timeout_s:g}]",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if math.isnan(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"a time is above 0 seconds, not {text}")
    return value


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


def _shown_as(options: argparse.Namespace, format_: str) -> dict[str, Any]:
    shown = {name: getattr(options, name) for name in ("quality", "scale", "quality_of_input")}
    return {"format": format_, **shown}


def _client(options: argparse.Namespace) -> Any:
    from pixeltier.service.client import Client
    from pixeltier.service.connection.whereabouts import service_url

    url = service_url(options.url, config_file=options.config_file)
    api_key = os.environ.get("PIXELTIER_API_KEY", "").strip()
    return Client(url, api_key=api_key or None, timeout_s=options.timeout)


def _health(options: argparse.Namespace) -> int:
    from pixeltier.service.connection.errors import DEADLINE, NOT_READY, PixeltierError
    from pixeltier.service.connection.errors import UNREACHABLE as NOBODY

    try:
        with _client(options) as client:
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


def _progress(files: Sequence[Path]) -> Any:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that wakes up to redraw: where none can be had, it warns
    return tqdm(files, unit="image", disable=len(files) < 2 or not sys.stderr.isatty())


def _classify(options: argparse.Namespace) -> int:
    import dataclasses
    import json

    from pixeltier.service.client import PixeltierError

    failed = 0
    with _client(options) as client:
        for file in _progress(options.files):
            try:
                answer = client.classify(file, **_quality(options), top_k=options.top_k)
            except (PixeltierError, OSError) as error:
                failed += 1
                _complain_of(file, error)
                continue
            if options.json:
                print(json.dumps({"file": str(file), **dataclasses.asdict(answer)}))
                continue
            names = ", ".join(f"{one.label} {100 * one.probability:.1f} %" for one in answer.predictions)
            print(f"{file}: {names}  ({_cost_text(answer.cost)})")
    return 1 if failed else 0


def _upscale(options: argparse.Namespace) -> int:
    from pixeltier.service.client import PixeltierError

    if options.output is not None and len(options.files) > 1 and not options.output.is_dir():
        return refuse(f"--output must be an existing folder for several files: {options.output}")
    format_ = options.format or _format_of(options.output)
    targets = [_target(file, options.output, format_) for file in options.files]
    for target in targets:
        if targets.count(target) > 1:
            return refuse(f"several files would be written to {target}")
    failed = 0
    with _client(options) as client:
        for file, target in zip(_progress(options.files), targets, strict=True):
            try:
                answer = client.upscale(file, **_quality(options), **_shown_as(options, format_))
            except (PixeltierError, OSError) as error:
                failed += 1
                _complain_of(file, error)
                continue
            try:
                target.write_bytes(answer.body)
            except OSError as error:
                failed += 1
                complain(f"{target}: cannot be written: {error.strerror or error}")
                continue
            print(f"{file} -> {target}  ({_cost_text(answer.cost)})")
    return 1 if failed else 0


def _complain_of(file: Path, error: Exception) -> None:
    reason = (error.strerror or error) if isinstance(error, OSError) else error
    print(f"{one_line(file)}: {one_line(reason)}", file=sys.stderr)


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

"""`pixeltier classify` and `pixeltier upscale`: images of files, by a running service."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pixeltier.service.command_line.connecting import add_connection, open_client
from pixeltier.service.command_line.messages import complain, one_line, refuse

GROUP_IMAGES = 16
GROUP_BYTES = 16 * 2**20
"""What a service takes at once unless it is told otherwise, or half of it."""


def add(commands: Any) -> None:
    """Add both commands."""
    classify = commands.add_parser("classify", help="name what images show")
    add_connection(classify)
    _add_inference(classify)
    classify.add_argument("--top-k", type=int, default=1, help="how many classes to name [1]")
    classify.add_argument("--json", action="store_true", help="one JSON line a file")
    classify.set_defaults(run=_classify)

    upscale = commands.add_parser("upscale", help="enlarge images up to four times")
    add_connection(upscale)
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


def _progress(files: Sequence[Path]) -> Any:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that wakes up to redraw: where none can be had, it warns
    return tqdm(files, unit="image", disable=len(files) < 2 or not sys.stderr.isatty())


@contextlib.contextmanager
def _tiles_bar(file: Path) -> Iterator[Callable[[int, int], None] | None]:
    """A bar over the tiles of one image, where somebody sees it; it comes up with the first news of them."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    bars: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, desc=one_line(file.name), unit="tile", leave=False))
        bars[0].update(done - bars[0].n)

    try:
        yield progress if sys.stderr.isatty() else None
    finally:
        for bar in bars:
            bar.close()


def _classify(options: argparse.Namespace) -> int:
    failed = 0
    with open_client(options) as client, _progress(options.files) as bar:
        for group in _groups(options.files):
            for file, outcome in zip(group, _classified(client, group, options), strict=True):
                if isinstance(outcome, Exception):
                    failed += 1
                    _complain_of(file, outcome)
                else:
                    _show_classes(file, outcome, as_json=options.json)
            bar.update(len(group))
    return 1 if failed else 0


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files that are sent together: every worker of the service then has some, and small ones share batches."""
    group: list[Path] = []
    size = 0
    for file in files:
        own = file.stat().st_size if file.is_file() else 0
        if group and (len(group) == GROUP_IMAGES or size + own > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(file)
        size += own
    if group:
        yield group


def _classified(client: Any, files: Sequence[Path], options: argparse.Namespace) -> list[Any]:
    """Each file's classes, or what is wrong with it."""
    found: dict[Path, Any] = {}
    bodies: dict[Path, bytes] = {}
    for file in files:
        try:
            bodies[file] = file.read_bytes()
        except OSError as error:
            found[file] = error
    asked = _quality(options) | {"top_k": options.top_k}
    found |= zip(bodies, _asked_together(client, list(bodies.values()), asked), strict=True)
    return [found[file] for file in files]


def _asked_together(client: Any, bodies: list[bytes], asked: dict[str, Any]) -> list[Any]:
    """Answers or errors; where the service takes fewer images or bytes at once, by halves."""
    from pixeltier.service.client import PixeltierError

    if not bodies:
        return []
    try:
        return list(client.classify_many(bodies, **asked))
    except PixeltierError as error:
        if len(bodies) == 1 or error.type not in {"payload-too-large", "validation"}:
            return [error for _ in bodies]
    half = len(bodies) // 2
    return [one for part in (bodies[:half], bodies[half:]) for one in _asked_together(client, part, asked)]


def _show_classes(file: Path, answer: Any, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        print(json.dumps({"file": str(file), **dataclasses.asdict(answer)}))
        return
    names = ", ".join(f"{one.label} {100 * one.probability:.1f} %" for one in answer.predictions)
    print(f"{file}: {names}  ({_cost_text(answer.cost)})")


def _upscale(options: argparse.Namespace) -> int:
    if options.output is not None and len(options.files) > 1 and not options.output.is_dir():
        return refuse(f"--output must be an existing folder for several files: {options.output}")
    format_ = options.format or _format_of(options.output)
    targets = [_target(file, options.output, format_) for file in options.files]
    for target in targets:
        if targets.count(target) > 1:
            return refuse(f"several files would be written to {target}")
    asked = _quality(options) | _shown_as(options, format_)
    with open_client(options) as client:
        done = [
            _enlarge(client, file, target, asked)
            for file, target in zip(_progress(options.files), targets, strict=True)
        ]
    return 0 if all(done) else 1


def _enlarge(client: Any, file: Path, target: Path, asked: dict[str, Any]) -> bool:
    """Enlarge one file, with a request of its own: its tiles are a bar, its result is written as it comes."""
    from pixeltier.service.client import PixeltierError

    try:
        with _tiles_bar(file) as progress:
            answer = client.upscale(file, progress=progress, **asked)
    except (PixeltierError, OSError) as error:
        _complain_of(file, error)
        return False
    try:
        target.write_bytes(answer.body)
    except OSError as error:
        complain(f"{target}: cannot be written: {error.strerror or error}")
        return False
    print(f"{file} -> {target}  ({_cost_text(answer.cost)})")
    return True


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

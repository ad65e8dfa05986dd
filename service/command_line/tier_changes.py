"""KEY=VALUE changes of a tier table, or a file, as the admin API takes them."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixeltier.service.command_line.messages import CommandError

TASKS = ("classify", "super-resolve")
TABLE_PARTS = ("brownout", "shadow")


def proposal_of(options: argparse.Namespace, *, needed: bool = True) -> dict[str, Any]:
    """The body of a dry-run: a whole document, a patch, or nothing."""
    if options.file is not None:
        if options.changes:
            raise CommandError("give --file or changes, not both")
        return {"document": read_document(options.file)}
    if options.changes:
        return {"patch": patch_of(options.changes)}
    if needed:
        raise CommandError("say what to change: KEY=VALUE or --file")
    return {}


def read_document(path: Path) -> Any:
    """The values of a table's file, TOML or JSON; raises CommandError where it is unreadable."""
    from pixeltier.models.text_files import TextError, loads_json, loads_toml, read_text

    try:
        text = read_text(path)
        return loads_json(text) if path.suffix == ".json" else loads_toml(text)
    except (OSError, TextError) as error:
        raise CommandError(f"{path}: {error}") from error


def patch_of(changes: Sequence[str]) -> dict[str, Any]:
    """The merge patch of KEY=VALUE changes; raises CommandError where one is malformed."""
    patch: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        path = key.split(".")
        if not equals or not all(path):
            raise CommandError(f"{change!r} is not KEY=VALUE; see pixeltier tiers set --help")
        _place(patch, _full_path(path), _value(text))
    return patch


def _full_path(path: list[str]) -> list[str]:
    """The document's path of a change's key: models stand below `thresholds`, tiers below `tiers`."""
    full: list[str] = []
    for place, part in enumerate(path):
        full += ["thresholds", part] if place == 1 and part in TASKS else [part]
    return full if path[0] in {*TABLE_PARTS, "default"} else ["tiers", *full]


def _place(patch: dict[str, Any], path: list[str], value: Any) -> None:
    inner = patch
    for place, name in enumerate(path[:-1]):
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise CommandError(f"two changes disagree about {'.'.join(path[: place + 1])}")
    if path[-1] in inner:
        raise CommandError(f"two changes of {'.'.join(path)}")
    inner[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

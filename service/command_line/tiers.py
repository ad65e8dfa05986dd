"""`pixeltier tiers`: the operator's desk from a terminal, over the admin API of a running service."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TOKEN_VARIABLE = "PIXELTIER_ADMIN_TOKEN"  # noqa: S105  (a name, not a token)
TOKEN_FILE_VARIABLE = "PIXELTIER_ADMIN_TOKEN_FILE"  # noqa: S105
TASKS = ("classify", "super-resolve")
TABLE_PARTS = ("brownout", "shadow")

CHANGES = """\
A change is KEY=VALUE:
  fast.classify=0.6                          a threshold
  fast.super-resolve.max_psnr_drop_db=0.1    a goal: macs_saved, max_psnr_drop_db, max_ssim_drop,
                                             max_top1_drop, max_top5_drop, min_agreement
  fast.classify.max_active_share=0.5         a hard cap; null takes it away
  fast.floor=fastest  fast.degradable=false  how far the tier may fall under pressure
  default=balanced  brownout.enabled=true  shadow.share=0.05  shadow.classify=0.7
"""


class CommandError(Exception):
    """What the operator can mend; one line on stderr."""


def add_tiers(commands: Any, add_connection: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add `tiers` with its subcommands to an argparse subparsers object."""
    tiers = commands.add_parser("tiers", help="see and change the tier table of a running service")
    actions = tiers.add_subparsers(title="actions", metavar="ACTION", required=True)

    def action(name: str, help_: str, run: Callable[[argparse.Namespace], int], **more: Any) -> Any:
        parser = actions.add_parser(name, help=help_, description=help_, **more)
        parser.set_defaults(run=lambda options: _or_explain(run, options))
        if name not in {"schema", "token"}:
            add_connection(parser)
            parser.add_argument("--token-file", type=Path, help=f"file of the token [{TOKEN_FILE_VARIABLE}]")
            parser.add_argument("--json", action="store_true", help="print the API's answer")
        return parser

    text = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": CHANGES}
    action("show", "the table in force and what each tier is expected to do", _show)
    set_ = action("set", "change the table; says what it does before and after", _set, **text)
    dry = action("dry-run", "what a change would do; nothing changes", _dry_run, **text)
    for parser in (set_, dry):
        parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
        parser.add_argument("--file", type=Path, help="a whole table instead (TOML or JSON)")
    history = action("history", "the versions, newest first, with what each changed", _history)
    history.add_argument("--limit", type=int, default=20, help="how many [20]")
    rollback = action("rollback", "put an older version in force again", _rollback)
    rollback.add_argument(
        "version", type=int, nargs="?", help="the one before the version in force, if absent"
    )
    set_.add_argument("--reason", default="", help="why, for the audit trail; required")
    rollback.add_argument("--reason", default="", help="why, for the audit trail [back to version N]")
    action("schema", "the JSON Schema of a table", _schema)
    token = action("token", "make a line for the file of admin tokens", _token)
    token.add_argument("name", help="whose token it is, for the audit trail")


def _or_explain(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return run(options)
    except CommandError as error:
        print(f"pixeltier tiers: {error}", file=sys.stderr)
    except (LookupError, TypeError, AttributeError) as error:
        if os.environ.get("PIXELTIER_TRACEBACK"):
            raise
        lacking = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(
            f"pixeltier tiers: the answer is not what this command shows ({lacking}); is it from a service of "
            "another version, or from something else?",
            file=sys.stderr,
        )
    return 1


# ---- actions -----------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    with _Desk(options) as desk:
        found = desk.call("GET", "/admin/v1/tiers")
    if options.json:
        return _print_json(found)
    _print_state(found)
    for task in TASKS:
        _print_table(f"\n{task}", _columns(found["curves"], task), _state_rows(found, task))
    return 0


def _set(options: argparse.Namespace) -> int:
    if not options.reason.strip():
        raise CommandError("say why: --reason 'fewer machines at night'; it stands in the history")
    proposal = _proposal(options)
    with _Desk(options) as desk:
        before = desk.call("GET", "/admin/v1/tiers")
        predicted = desk.call("POST", "/admin/v1/tiers:dry-run", proposal)
        if not predicted["changes"]:
            print(f"nothing to change: version {before['version']} says so already")
            return 0
        if not options.json:
            _print_prediction(predicted)
        method, body = (
            ("PUT", proposal["document"]) if "document" in proposal else ("PATCH", proposal["patch"])
        )
        change = {**body, "reason": options.reason}
        after = desk.call(method, "/admin/v1/tiers", change, version=before["version"])
    if options.json:
        return _print_json(after)
    print(f"\nversion {after['version']} is in force; `pixeltier tiers rollback` takes it back")
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    proposal = _proposal(options, needed=False)
    with _Desk(options) as desk:
        predicted = desk.call("POST", "/admin/v1/tiers:dry-run", proposal)
    if options.json:
        return _print_json(predicted)
    _print_prediction(predicted)
    return 0


def _history(options: argparse.Namespace) -> int:
    with _Desk(options) as desk:
        found = desk.call("GET", f"/admin/v1/audit?limit={options.limit}")
    if options.json:
        return _print_json(found)
    for entry in found["entries"]:
        why = f": {entry['reason']}" if entry["reason"] else ""
        print(f"{entry['version']:>5}  {entry['changed_at'][:19]}Z  {entry['actor']} ({entry['kind']}){why}")
        for change in entry["changes"]:
            print(f"       {_change_text(change)}")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    with _Desk(options) as desk:
        before = desk.call("GET", "/admin/v1/tiers")
        body = {"version": options.version, "reason": options.reason or None}
        wanted = {name: value for name, value in body.items() if value is not None}
        after = desk.call("POST", "/admin/v1/tiers:rollback", wanted, version=before["version"])
    if options.json:
        return _print_json(after)
    print(f"version {after['version']} is in force: {after['reason']}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    del options
    from pixeltier.service.tiers.schema import json_schema

    return _print_json(json_schema())


def _token(options: argparse.Namespace) -> int:
    import re
    import secrets

    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", options.name):
        raise CommandError("a name is 1 to 64 letters, digits, dots, dashes or underscores")
    print(f"{options.name}:{secrets.token_urlsafe(32)}")
    return 0


# ---- what is asked for -------------------------------------------------------------------------------


def _proposal(options: argparse.Namespace, *, needed: bool = True) -> dict[str, Any]:
    """The body of a dry-run: a whole document, a patch, or nothing."""
    if options.file is not None:
        if options.changes:
            raise CommandError("give --file or changes, not both")
        return {"document": _read_document(options.file)}
    if options.changes:
        return {"patch": patch_of(options.changes)}
    if needed:
        raise CommandError("say what to change: KEY=VALUE or --file")
    return {}


def _read_document(path: Path) -> Any:
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


# ---- the API -----------------------------------------------------------------------------------------


class _Desk:
    """Calls of the admin API; problems become CommandErrors."""

    def __init__(self, options: argparse.Namespace) -> None:
        # Not at the top: every command would wait for it.
        from pixeltier.service.connection.errors import PixeltierError
        from pixeltier.service.connection.exchange import Connection
        from pixeltier.service.connection.whereabouts import service_url

        url = service_url(options.url, config_file=options.config_file)
        token = _read_token(options.token_file)
        try:
            self._connection = Connection(url, api_key=token)
        except PixeltierError as error:
            what = "the token" if error.type == "invalid-key" else "the service"
            raise CommandError(f"{what}: {error.detail}") from error
        self._timeout_s: float = options.timeout

    def __enter__(self) -> "_Desk":
        return self

    def __exit__(self, *_: object) -> None:
        from pixeltier.service.connection import background_loop

        background_loop.run(self._connection.close())

    def call(self, method: str, path: str, body: Any = None, *, version: int | None = None) -> Any:
        from pixeltier.service.connection import answers, background_loop
        from pixeltier.service.connection.deadline import Attempts
        from pixeltier.service.connection.errors import PixeltierError

        headers = {} if version is None else {"If-Match": f'"{version}"'}
        attempts = Attempts(self._timeout_s, retries=0)  # a change is not made twice
        sending = self._connection.send(method, path, attempts, json=body, headers=headers)
        try:
            return answers.json_object(background_loop.run(sending))
        except PixeltierError as error:
            raise self._explained(error, path) from error

    def _explained(self, error: Any, path: str) -> CommandError:
        if error.status == 404 and path == "/admin/v1/tiers" and error.type == "not-found":
            return CommandError("this service has no admin API: start it with PIXELTIER_ADMIN_TOKEN_FILE")
        if "type" not in error.document:
            return CommandError(
                error.detail if error.status == 0 else f"{self._connection.url}: {error.detail}"
            )
        errors = [one for one in error.document.get("errors") or () if isinstance(one, dict)]
        places = "".join(f"\n  {one.get('field')}: {one.get('message')}" for one in errors)
        return CommandError(f"{places or error.detail}\n{error.document.get('help', '')}".rstrip())


def _read_token(path: Path | None) -> str:
    from pixeltier.service.configuration import token_file

    if path is None and (token := os.environ.get(TOKEN_VARIABLE, "").strip()):
        if (stray := token_file.stray(token)) is not None:
            raise CommandError(f"{TOKEN_VARIABLE}: {stray}: copy the token anew")
        return token
    given = path or (Path(named) if (named := os.environ.get(TOKEN_FILE_VARIABLE)) else None)
    if given is None:
        raise CommandError(f"give the token in {TOKEN_VARIABLE}, or its file by --token-file")
    try:
        return token_file.read(given).tokens[0][1]
    except token_file.TokenFileError as error:
        raise CommandError(str(error)) from error


# ---- what is shown -----------------------------------------------------------------------------------


def _print_json(document: Any) -> int:
    print(json.dumps(document, indent=1))
    return 0


def _print_state(found: Mapping[str, Any]) -> None:
    why = f", {found['reason']}" if found["reason"] else ""
    print(
        f"version {found['version']} by {found['actor']} ({found['kind']}{why}), {found['changed_at'][:19]}Z"
    )
    document = found["document"]
    brownout, shadow = document["brownout"], document["shadow"]
    print(
        f"default {document['default']}; brownout {'enabled' if brownout['enabled'] else 'off'}; "
        f"shadow {100 * shadow['share']:g} % of requests"
    )
    if not found["persistent"]:
        print("changes end with the process: no state directory (PIXELTIER_STATE_DIR)")


def _columns(curves: Mapping[str, Any], task: str) -> list[str]:
    points = curves[task]["points"]
    return list(points[0]["metrics"]) if points else []


def _state_rows(found: Mapping[str, Any], task: str) -> list[dict[str, str]]:
    rows = []
    for tier in found["tiers"]:
        state = tier["models"][task]
        rule = " ".join(f"{name}={value:g}" for name, value in state["rule"].items())
        note = f"  (! {state['note']})" if state["note"] else ""
        rows.append({"tier": tier["name"], **_expected(state), "rule": rule + note})
    return rows


def _expected(state: Mapping[str, Any]) -> dict[str, str]:
    row = {"threshold": f"{state['threshold']:g}"}
    expected = state["expected"]
    if expected is not None:
        row["MACs saved"] = f"{100 * expected['macs_saved']:.1f} %"
        row |= {name: f"{value:.4g}" for name, value in expected["metrics"].items()}
    return row


def _print_prediction(predicted: Mapping[str, Any]) -> None:
    for change in predicted["changes"]:
        print(_change_text(change))
    for task in TASKS:
        rows: list[dict[str, str]] = []
        for tier in predicted["tiers"]:
            model = tier["models"][task]
            if predicted["changes"] and not model["changed"]:
                continue
            if model["changed"] and model["current"] is not None:
                rows.append({"tier": tier["name"], "": "now", **_forecast(model["current"])})
            rows.append(
                {"tier": tier["name"], "": "then" if model["changed"] else "", **_forecast(model["proposed"])}
            )
            rows[-1] |= _compared(model["shadow"])
        if rows:
            _print_table(f"\n{task}", [], rows)


def _forecast(state: Mapping[str, Any]) -> dict[str, str]:
    row = _expected(state)
    recent = state["recent"]
    if recent is not None:
        row["recent images"] = f"{recent['images']}"
        row["recent saved"] = f"{100 * recent['macs_saved']:.1f} %"
        if recent["latency_ms"] is not None:
            row["recent p50 ms"] = f"{recent['latency_ms']['p50']:.1f}"
            row["p95 ms"] = f"{recent['latency_ms']['p95']:.1f}"
    return row


def _compared(shadow: Mapping[str, Any] | None) -> dict[str, str]:
    if shadow is None:
        return {}
    found = {"agreement": "{:.1%} agree", "psnr_db": "{:.2f} dB", "ssim": "SSIM {:.4f}"}
    said = ", ".join(form.format(shadow[name]) for name, form in found.items() if shadow[name] is not None)
    return {"shadow": f"{said} ({shadow['comparisons']} compared)"}


def _change_text(change: Mapping[str, Any]) -> str:
    before = json.dumps(change["from"]) if "from" in change else "(absent)"
    after = json.dumps(change["to"]) if "to" in change else "(absent)"
    return f"{change['path']}: {before} -> {after}"


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    names = list(dict.fromkeys([*(name for row in rows for name in row), *columns]))
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    print(title)
    print("  ".join(f"{name:<{widths[name]}}" for name in names).rstrip())
    for row in rows:
        print("  ".join(f"{row.get(name, ''):<{widths[name]}}" for name in names).rstrip())

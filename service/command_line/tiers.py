"""`pixeltier tiers`: the operator's desk from a terminal, over the admin API of a running service."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixeltier.service.command_line.admin_client import TOKEN_FILE_VARIABLE, AdminClient
from pixeltier.service.command_line.messages import CommandError
from pixeltier.service.command_line.tier_changes import TASKS, proposal_of
from pixeltier.service.command_line.tier_tables import (
    change_text,
    columns,
    print_json,
    print_prediction,
    print_state,
    print_table,
    state_rows,
)

CHANGES = """\
A change is KEY=VALUE:
  fast.classify=0.6                          a threshold
  fast.super-resolve.max_psnr_drop_db=0.1    a goal: macs_saved, max_psnr_drop_db, max_ssim_drop,
                                             max_top1_drop, max_top5_drop, min_agreement
  fast.classify.max_active_share=0.5         a hard cap; null takes it away
  fast.floor=fastest  fast.degradable=false  how far the tier may fall under pressure
  default=balanced  brownout.enabled=true  shadow.share=0.05  shadow.classify=0.7
"""


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
    with AdminClient(options) as desk:
        found = desk.call("GET", "/admin/v1/tiers")
    if options.json:
        return print_json(found)
    print_state(found)
    for task in TASKS:
        print_table(f"\n{task}", columns(found["curves"], task), state_rows(found, task))
    return 0


def _set(options: argparse.Namespace) -> int:
    if not options.reason.strip():
        raise CommandError("say why: --reason 'fewer machines at night'; it stands in the history")
    proposal = proposal_of(options)
    with AdminClient(options) as desk:
        before = desk.call("GET", "/admin/v1/tiers")
        predicted = desk.call("POST", "/admin/v1/tiers:dry-run", proposal)
        if not predicted["changes"]:
            print(f"nothing to change: version {before['version']} says so already")
            return 0
        if not options.json:
            print_prediction(predicted)
        method, body = (
            ("PUT", proposal["document"]) if "document" in proposal else ("PATCH", proposal["patch"])
        )
        change = {**body, "reason": options.reason}
        after = desk.call(method, "/admin/v1/tiers", change, version=before["version"])
    if options.json:
        return print_json(after)
    print(f"\nversion {after['version']} is in force; `pixeltier tiers rollback` takes it back")
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    proposal = proposal_of(options, needed=False)
    with AdminClient(options) as desk:
        predicted = desk.call("POST", "/admin/v1/tiers:dry-run", proposal)
    if options.json:
        return print_json(predicted)
    print_prediction(predicted)
    return 0


def _history(options: argparse.Namespace) -> int:
    with AdminClient(options) as desk:
        found = desk.call("GET", f"/admin/v1/audit?limit={options.limit}")
    if options.json:
        return print_json(found)
    for entry in found["entries"]:
        why = f": {entry['reason']}" if entry["reason"] else ""
        print(f"{entry['version']:>5}  {entry['changed_at'][:19]}Z  {entry['actor']} ({entry['kind']}){why}")
        for change in entry["changes"]:
            print(f"       {change_text(change)}")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    with AdminClient(options) as desk:
        before = desk.call("GET", "/admin/v1/tiers")
        body = {"version": options.version, "reason": options.reason or None}
        wanted = {name: value for name, value in body.items() if value is not None}
        after = desk.call("POST", "/admin/v1/tiers:rollback", wanted, version=before["version"])
    if options.json:
        return print_json(after)
    print(f"version {after['version']} is in force: {after['reason']}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    del options
    from pixeltier.service.tiers.schema import json_schema

    return print_json(json_schema())


def _token(options: argparse.Namespace) -> int:
    import re
    import secrets

    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", options.name):
        raise CommandError("a name is 1 to 64 letters, digits, dots, dashes or underscores")
    print(f"{options.name}:{secrets.token_urlsafe(32)}")
    return 0

"""Calls of the admin API from a terminal."""

import argparse
import os
from pathlib import Path
from typing import Any

from pixeltier.service.command_line.messages import CommandError

TOKEN_VARIABLE = "PIXELTIER_ADMIN_TOKEN"  # noqa: S105  (a name, not a token)
TOKEN_FILE_VARIABLE = "PIXELTIER_ADMIN_TOKEN_FILE"  # noqa: S105


class AdminClient:
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

    def __enter__(self) -> "AdminClient":
        return self

    def __exit__(self, *_: object) -> None:
        from pixeltier.service.connection import background_loop

        background_loop.run(self._connection.close())

    def call(self, method: str, path: str, body: Any = None, *, version: int | None = None) -> Any:
        """The JSON object of an answer.

        Args:
            version: what the change is made to; another one in force is a conflict.

        Raises:
            CommandError: the service cannot be reached, or says no.
        """
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

"""Where the service of this machine's configuration is: the one answer for every command that talks to it."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixeltier.service.configuration.service_links import service_links

URL_VARIABLE = "PIXELTIER_URL"
CONFIG_FILE_VARIABLE = "PIXELTIER_CONFIG_FILE"
HOST, PORT, SOCKET = "host", "port", "uds"
_DEFAULTS = {HOST: "127.0.0.1", PORT: "8000", SOCKET: ""}


class WhereaboutsError(ValueError):
    """It cannot be told where the service is; the message says what to do."""


def service_url(
    url: str | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """The URL of the service: what was given, else where the service's own settings put it.

    Args:
        url: the flag `--url`; else PIXELTIER_URL.
        config_file: as `pixeltier serve --config-file`; else PIXELTIER_CONFIG_FILE.
        environment: the variables. PIXELTIER_HOST, PIXELTIER_PORT and PIXELTIER_UDS are stronger than the file,
            each for itself, as they are for the service.

    Raises:
        WhereaboutsError: a file that cannot be read, or a setting that names no place.
    """
    links = service_links(environment, "PIXELTIER_")
    # As the service does: in any case, and without what Kubernetes sets.
    named = {name.upper(): value for name, value in environment.items() if name not in links}
    given = url or named.get(URL_VARIABLE)
    if given:
        return given
    place = _settings(config_file, named)
    if place[SOCKET]:
        return f"unix:{place[SOCKET]}"
    return f"http://{_reachable(place[HOST])}:{_port(place[PORT])}"


def _settings(config_file: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    named = environment.get(CONFIG_FILE_VARIABLE)
    path = config_file or (Path(named) if named else None)
    file = _read(path) if path else {}
    return {
        name: environment.get(f"PIXELTIER_{name.upper()}") or str(file.get(name, default))
        for name, default in _DEFAULTS.items()
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise WhereaboutsError(f"configuration file {path}: {error}; or give --url") from error


def _reachable(host: str) -> str:
    """A host to connect to where `host` is one to listen on: all addresses of a machine include the loopback."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]" if address.version == 6 else str(address)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > 65535:
        raise WhereaboutsError(f"the service's port is set to {text[:64]!r}, which is not a port; give --url")
    if int(text) == 0:
        raise WhereaboutsError("the service's port is set to 0, any free one; give --url")
    return int(text)

"""The variables that Kubernetes puts into a container for each Service of its namespace ("service links").

A Service named `pixeltier` or `pixeltier-...` gives names with our prefix: PIXELTIER_SERVICE_HOST,
PIXELTIER_PORT=tcp://10.0.0.7:80, PIXELTIER_PREDICTOR_PORT_80_TCP_ADDR. They are not settings, though one of them has
the name of one. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

import ipaddress
import re
from collections.abc import Mapping

# The shortest name of a Service that fits: ..._PORT_80_TCP_PORT is a part of a port, not of another Service.
_OF_PORT = re.compile(r"(?:_[A-Z0-9_]+?)??_PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?P<part>PROTO|PORT|ADDR))?)?")
_NAMED_PORT = re.compile(r"_SERVICE_PORT(?:_[A-Z0-9_]+)?")
_HOST = "_SERVICE_HOST"


def service_links(environment: Mapping[str, str], prefix: str) -> frozenset[str]:
    """The names in the environment that are service links of Services whose names begin with the prefix.

    Names and values must both be what Kubernetes writes: `PIXELTIER_PORT=8000` is a setting, and
    `PIXELTIER_HTTP_PORT=8000` is nothing known.

    Args:
        prefix: of variables, with its underscore: "PIXELTIER_".
    """
    ours = {name: value for name, value in environment.items() if name.startswith(prefix)}
    hosts = {name for name, value in ours.items() if name.endswith(_HOST) and _is_address(value)}
    services = [name.removesuffix(_HOST) for name in hosts]
    ports = {
        name for name, value in ours.items() if _is_of_port(name.removeprefix(prefix.rstrip("_")), value)
    }
    named = {
        name
        for name, value in ours.items()
        for service in services
        if name.startswith(service)
        and _NAMED_PORT.fullmatch(name.removeprefix(service))
        and value.isdecimal()
    }
    return frozenset(hosts | ports | named)


def _is_of_port(name: str, value: str) -> bool:
    """Whether this is [_SERVICE]_PORT, ..._PORT_80_TCP or one of its parts, with the value of one."""
    found = _OF_PORT.fullmatch(name)
    if found is None:
        return False
    match found["part"]:
        case "PROTO":
            return value in {"tcp", "udp", "sctp"}
        case "PORT":
            return value.isdecimal()
        case "ADDR":
            return _is_address(value)
    return re.fullmatch(r"(?:tcp|udp|sctp)://\S+:\d+", value) is not None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True

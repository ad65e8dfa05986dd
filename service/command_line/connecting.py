"""How commands find the service that they ask."""

import argparse
import math
import os
from pathlib import Path
from typing import Any


def add_connection(parser: argparse.ArgumentParser, timeout_s: float = 60.0) -> None:
    """Add the flags that say where the service is and how long to wait."""
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


def open_client(options: argparse.Namespace) -> Any:
    """The client that the flags describe."""
    from pixeltier.service.client import Client
    from pixeltier.service.connection.whereabouts import service_url

    url = service_url(options.url, config_file=options.config_file)
    api_key = os.environ.get("PIXELTIER_API_KEY", "").strip()
    return Client(url, api_key=api_key or None, timeout_s=options.timeout)

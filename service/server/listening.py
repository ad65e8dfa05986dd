"""The sockets the service listens on: TCP on every address of the host, or a Unix one."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeltier.service.configuration.settings import ConfigurationError, Settings

UDS_MODE = 0o666
"""The folder decides who may connect."""


@contextmanager
def listening_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bound sockets; they are closed in the end, and a Unix socket's file removed.

    Raises:
        ConfigurationError: the address is taken, not of this machine, or not to be bound.
    """
    sockets = _tcp(settings.host, settings.port) if settings.uds is None else [_unix(settings.uds)]
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def names(sockets: list[socket.socket]) -> list[str]:
    """What to connect to, for the log."""
    found = []
    for one in sockets:
        if one.family == socket.AF_UNIX:
            found.append(f"unix:{one.getsockname()}")
            continue
        host, port = one.getsockname()[:2]
        both = one.family == socket.AF_INET6 and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        found.append(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        if both:
            found[-1] += " (IPv6 and IPv4)"
    return found


def _tcp(host: str, port: int) -> list[socket.socket]:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"host: {host!r} is not an address of this machine: {error}") from error
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, kind, protocol, _, wanted in dict.fromkeys(addresses):
            one = undo.enter_context(socket.socket(family, kind, protocol))
            # A free port is chosen once, for all addresses.
            at = (wanted[0], sockets[0].getsockname()[1] if sockets else port, *wanted[2:])
            try:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not _is_any(str(at[0])))
                one.bind(at)
            except OSError as error:
                raise ConfigurationError(
                    f"host, port: cannot listen on {host} port {port}: {error}"
                ) from error
            sockets.append(one)
        undo.pop_all()
    return sockets


def _is_any(address: str) -> bool:
    """`::`: such a socket takes IPv4 too, so that one address serves both."""
    return ipaddress.ip_address(address.partition("%")[0]).is_unspecified


def _unix(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        one.bind(str(path))
        path.chmod(UDS_MODE)
    except OSError as error:
        one.close()
        raise ConfigurationError(f"uds: cannot listen on {path}: {error}") from error
    return one


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that is gone; never one that answers, nor any other file."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another process listens there")

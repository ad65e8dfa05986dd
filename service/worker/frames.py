"""How jobs and answers cross between the front process and a worker: pickles in frames, large images beside them.

A frame is its head, a pickle, then the bodies of those items whose images are large: they are neither copied into the
pickle nor out of it. Both ends are our own processes, so a pickle is never a stranger's.
"""

import dataclasses
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

HEAD = struct.Struct("<QI")
"""Bytes of the pickle, and how many bodies follow; then their lengths, `LENGTH` each."""

LENGTH = struct.Struct("<Q")

BESIDE_BYTES = 128 * 1024
"""Bodies from this size on travel beside the pickle."""

Buffer = bytes | bytearray | memoryview


class ClosedError(ConnectionError):
    """The other end is gone."""


def pack(items: Sequence[Any]) -> list[Buffer]:
    """A frame of items, as buffers to be sent one after the other."""
    inside: list[Any] = []
    bodies: list[Buffer] = []
    places: list[int] = []
    for place, item in enumerate(items):
        body = getattr(item, "body", b"")
        if len(body) >= BESIDE_BYTES:
            places.append(place)
            bodies.append(body)
            inside.append(dataclasses.replace(item, body=b""))
        else:
            inside.append(item)
    pickled = pickle.dumps((inside, places), pickle.HIGHEST_PROTOCOL)
    head = HEAD.pack(len(pickled), len(bodies)) + b"".join(LENGTH.pack(len(body)) for body in bodies)
    return [head + pickled, *bodies]


def unpack(pickled: Buffer, bodies: Sequence[Buffer]) -> list[Any]:
    """The items of a frame."""
    items, places = pickle.loads(pickled)  # noqa: S301 - from our own process
    for place, body in zip(places, bodies, strict=True):
        items[place] = dataclasses.replace(items[place], body=bytes(body))
    found: list[Any] = items
    return found


def send(connection: socket.socket, items: Sequence[Any]) -> None:
    """Send a frame; blocks until it is on its way."""
    for buffer in pack(items):
        connection.sendall(buffer)


def receive(connection: socket.socket) -> list[Any]:
    """Wait for a frame.

    Raises:
        ClosedError: the other end is gone.
    """
    length, count = HEAD.unpack(_exactly(connection, HEAD.size))
    lengths = [LENGTH.unpack(_exactly(connection, LENGTH.size))[0] for _ in range(count)]
    pickled = _exactly(connection, length)
    return unpack(pickled, [_exactly(connection, size) for size in lengths])


def _exactly(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    left = memoryview(buffer)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise ClosedError("the other end of the pipe is gone")
        left = left[count:]
    return buffer

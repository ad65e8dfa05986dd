"""The page's files, read once into memory. Their digest is part of their address, so browsers may keep them."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".md": "text/plain; charset=utf-8",
}

COMPRESSED = frozenset({".html", ".css", ".js", ".svg", ".md"})

PLACE = "@assets@"
"""Stands in index.html where the address of the files comes."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and compressed where that helps; `etag` is quoted."""

    body: bytes
    gzipped: bytes | None
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Console:
    """The whole page: its document, and the files below `/console/{digest}/` by their path."""

    digest: str
    index: Asset
    files: Mapping[str, Asset]


def load() -> Console:
    """Read the packaged files."""
    bodies = dict(sorted(_walk(resources.files("pixeltier.service.console"), "")))
    whole = hashlib.sha256()
    for path, body in bodies.items():
        whole.update(f"{path}\0{len(body)}\0".encode() + body)
    digest = whole.hexdigest()[:16]
    index = bodies.pop("index.html").replace(PLACE.encode(), f"console/{digest}".encode())
    return Console(
        digest, _asset("index.html", index), {path: _asset(path, body) for path, body in bodies.items()}
    )


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in MEDIA_TYPES:
            yield prefix + entry.name, entry.read_bytes()


def _asset(path: str, body: bytes) -> Asset:
    suffix = _suffix(path)
    gzipped = gzip.compress(body, 9, mtime=0) if suffix in COMPRESSED else None
    return Asset(body, gzipped, MEDIA_TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:24]}"')


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""

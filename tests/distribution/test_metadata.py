"""What a wheel and a source distribution say of themselves: licences of all they hold, and the torch they need."""

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from fnmatch import fnmatch
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from pixeltier.models.cards import FILE_NAMES, load_card

ROOT = Path(__file__).parents[2]
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")

CODE = (
    "*.py",
    "*.pyi",
    "*.proto",
    "*.binpb",
    "*.typed",
    "*.toml",
    "*.css",
    "*.js",
    "*.html",
    "*.svg",
    "*.md",
    "*/models/weights/*.json",
)
"""Files under the licence of the code; every other one must stand in NOTICE."""

WITHOUT_TEXT = {"CC-BY-NC-4.0", "CC-PDM-1.0"}
"""Creative Commons asks for the link that NOTICE has, not for the text."""


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def source_metadata(built: Path) -> Message:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        (member,) = [one for one in opened.getmembers() if re.fullmatch(r"[^/]+/PKG-INFO", one.name)]
        file = opened.extractfile(member)
        assert file is not None
        return message_from_bytes(file.read())


def _torch(of: Message) -> list[str]:
    needed = of.get_all("Requires-Dist", [])
    return sorted(line for line in needed if re.match(r"torch\b", line))


def _identifiers(expression: str) -> set[str]:
    return set(re.findall(r"[\w.-]+", expression)) - {"AND", "OR", "WITH"}


def _notice_entries() -> dict[str, str]:
    """From NOTICE: each file and the licence that the line below its name gives."""
    entries = {}
    lines = NOTICE.splitlines()
    for line, below in pairwise(lines):
        if re.match(r"(models|service|docs)/", line):
            entries |= {name: below.strip().split(", http")[0] for name in line.split(", ")}
    return entries


def test_a_wheel_is_bound_to_the_torch_it_was_built_with(metadata: Message) -> None:
    major, minor = version("torch").split("+")[0].split(".")[:2]
    assert _torch(metadata) == [f"torch=={major}.{minor}.*", "torch>=2.11"]


def test_source_is_good_for_any_torch_and_says_that_a_wheel_is_not(source_metadata: Message) -> None:
    assert _torch(source_metadata) == ["torch>=2.11"]
    assert source_metadata.get_all("Dynamic") == ["Requires-Dist"]


def test_the_licence_covers_code_photos_and_weights(metadata: Message, source_metadata: Message) -> None:
    named = _identifiers(metadata["License-Expression"])
    assert named >= {"Apache-2.0", "CC0-1.0", "CC-PDM-1.0"}
    for task in FILE_NAMES:
        assert _identifiers(load_card(task).licence) <= named, task
    assert source_metadata["License-Expression"] == metadata["License-Expression"]
    assert named == {"Apache-2.0"} | {
        one for entry in _notice_entries().values() for one in _identifiers(entry)
    }


def test_every_file_has_a_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    entries = _notice_entries()
    named = _identifiers(metadata["License-Expression"])
    packaged = [name for name in wheel.namelist() if ".dist-info/" not in name]
    others = [name for name in packaged if not any(fnmatch(name, pattern) for pattern in CODE)]
    assert len(packaged) > 150
    assert {Path(name).suffix for name in others} == {".safetensors", ".txt", ".jpg", ".png"}
    for name in (path.removeprefix("pixeltier/") for path in others):
        assert name in entries, f"{name} stands nowhere in NOTICE"
        assert _identifiers(entries[name]) <= named, name
    for task, stem in FILE_NAMES.items():
        assert entries[f"models/weights/{stem}.safetensors"] == load_card(task).licence


def test_licences_have_their_texts(wheel: zipfile.ZipFile, metadata: Message) -> None:
    files = metadata.get_all("License-File", [])
    assert {"LICENSE", "NOTICE"} <= set(files)
    for file in files:
        assert [name for name in wheel.namelist() if name.endswith(f".dist-info/licenses/{file}")], file
    for identifier in _identifiers(metadata["License-Expression"]) - {"Apache-2.0"} - WITHOUT_TEXT:
        assert f"LICENSES/{identifier}.txt" in files, f"add LICENSES/{identifier}.txt"
    assert "creativecommons.org/publicdomain/mark/1.0" in NOTICE


def test_the_image_says_the_same(metadata: Message) -> None:
    label = re.search(r'image\.licenses="([^"]*)"', (ROOT / "Dockerfile").read_text())
    assert label is not None
    assert label[1] == metadata["License-Expression"]


def test_a_card_without_an_spdx_expression_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "denoiser.json").write_text('{"licence": "free for friends"}')
    script = (
        f"import sys, pathlib; sys.path.insert(0, {str(ROOT / 'distribution')!r}); import dynamic_metadata as m; "
        f"m.weights_licences(pathlib.Path({str(tmp_path)!r}))"
    )
    refused = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "denoiser.json: licence is 'free for friends', not an SPDX expression" in refused.stderr

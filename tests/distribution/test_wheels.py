"""How the wheel of the sources is cut in two; without the extension, which changes nothing here."""

import ast
import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from tests.distribution.conftest import ROOT

FOR_THE_SERVICE_ALONE = {
    ("pixeltier/service/command_line/main.py", "pixeltier.service.command_line.service_commands"),
    ("pixeltier/service/command_line/tiers.py", "pixeltier.service.tiers.schema"),
}
"""Imports inside functions that answer with what to install where the service is not."""


@pytest.fixture(scope="module")
def whole(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def parts(whole: Path, wheels: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    client, service = wheels.split(whole, tmp_path_factory.mktemp("parts"))
    return client, service


def _contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def _package(path: Path) -> dict[str, bytes]:
    return {name: data for name, data in _contents(path).items() if ".dist-info/" not in name}


def _metadata(path: Path) -> Metadata:
    (text,) = (data for name, data in _contents(path).items() if name.endswith(".dist-info/METADATA"))
    return Metadata.from_email(text, validate=True)


def test_every_file_is_in_one_of_them(whole: Path, parts: tuple[Path, Path]) -> None:
    client, service = (_package(part) for part in parts)
    assert not client.keys() & service.keys()
    assert client | service == _package(whole)
    assert {Path(name).suffix for name in client} == {".py", ".typed"}


def test_the_client_imports_nothing_that_it_does_not_hold(parts: tuple[Path, Path]) -> None:
    """Imports within functions too: a command that fails only when it is used is as bad."""
    files = _package(parts[0])
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files}
    missing = set()
    for name, data in files.items():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(data)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pixeltier"):
                for alias in node.names:
                    whole_name = f"{node.module}.{alias.name}"
                    if not {whole_name, node.module} & modules or _is_module(whole_name) - modules:
                        missing.add((name, whole_name if _is_module(whole_name) else str(node.module)))
            if isinstance(node, ast.Import):
                assert not [one for one in node.names if one.name.startswith("pixeltier.")]
    assert missing == FOR_THE_SERVICE_ALONE


def _is_module(name: str) -> set[str]:
    """The name, if a file or folder of the sources makes it a module."""
    path = ROOT / name.removeprefix("pixeltier.").replace(".", "/")
    return {name} if path.is_dir() or path.with_suffix(".py").is_file() else set()


def test_what_the_client_needs(parts: tuple[Path, Path]) -> None:
    said = _metadata(parts[0])
    needed = [one for one in said.requires_dist or [] if one.marker is None]
    assert sorted(map(str, needed)) == ["httpx>=0.28", "tqdm>=4.67"]
    assert said.name == "pixeltier"
    assert said.license_expression == "Apache-2.0"
    assert said.license_files == ["LICENSE", "NOTICE"]


def test_each_extra_of_the_client_brings_the_service(parts: tuple[Path, Path]) -> None:
    client, service = (_metadata(part) for part in parts)
    extras = client.provides_extra or []
    assert {"serve", "train", "evaluate", "otel", "ray"} <= set(extras)
    for extra in extras:
        (brought,) = (
            one
            for one in client.requires_dist or []
            if one.marker is not None and one.marker.evaluate({"extra": extra})
        )
        wanted = "pixeltier-serve" if extra == "serve" else f"pixeltier-serve[{extra}]"
        assert str(brought).split(";")[0].strip() == f"{wanted}=={client.version}"
        assert extra == "serve" or extra in (service.provides_extra or [])


def test_what_the_service_needs(whole: Path, parts: tuple[Path, Path]) -> None:
    said, built = _metadata(parts[1]), _metadata(whole)
    assert said.name == "pixeltier-serve"
    needed = set(said.requires_dist or [])
    assert needed == set(built.requires_dist or []) | {Requirement(f"pixeltier=={said.version}")}
    assert said.license_expression == built.license_expression
    assert said.license_files == built.license_files


@pytest.mark.parametrize("part", [0, 1], ids=["client", "service"])
def test_the_record_lists_every_file_with_its_digest(parts: tuple[Path, Path], part: int) -> None:
    contents = _contents(parts[part])
    (record,) = (name for name in contents if name.endswith(".dist-info/RECORD"))
    listed = {row[0]: row[1:] for row in csv.reader(io.StringIO(contents[record].decode()))}
    assert listed.keys() == contents.keys()
    for name, (digest, size) in listed.items():
        if name != record:
            made = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={made}", len(contents[name])), name


def test_only_the_client_has_the_command(parts: tuple[Path, Path]) -> None:
    client, service = ({name.split(".dist-info/")[-1] for name in _contents(part)} for part in parts)
    assert "entry_points.txt" in client
    assert "entry_points.txt" not in service


def test_the_same_wheel_gives_the_same_bytes(
    whole: Path, parts: tuple[Path, Path], wheels: ModuleType, tmp_path: Path
) -> None:
    again = wheels.split(whole, tmp_path)
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in parts]


def _changed(whole: Path, folder: Path, *, name: str = "", drop: str = "", add: str = "") -> Path:
    path = folder / (name or whole.name)
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in _contents(whole).items():
            if file != drop:
                archive.writestr(file, data)
        if add:
            archive.writestr(add, b"")
    return path


def test_a_file_of_the_client_that_is_gone_is_named(whole: Path, wheels: ModuleType, tmp_path: Path) -> None:
    lacking = _changed(whole, tmp_path, drop="pixeltier/service/client.py")
    with pytest.raises(ValueError, match=r"lacks.*pixeltier/service/client\.py"):
        wheels.split(lacking, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_a_name_beside_the_package_is_refused(whole: Path, wheels: ModuleType, tmp_path: Path) -> None:
    leaking = _changed(whole, tmp_path, add="service/__init__.py")
    with pytest.raises(ValueError, match=r"holds \['service/__init__\.py'\]"):
        wheels.split(leaking, tmp_path / "parts")


def test_a_part_is_not_cut_again(parts: tuple[Path, Path], wheels: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a wheel of pixeltier"):
        wheels.split(parts[1], tmp_path)
    with pytest.raises(ValueError, match="lacks"):
        wheels.split(_changed(parts[0], tmp_path, drop="pixeltier/client.py"), tmp_path)

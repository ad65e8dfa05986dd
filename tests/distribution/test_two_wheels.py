"""Client alone and client with service, installed by pip from the wheels into empty environments."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.distribution.conftest import ROOT, run
from tests.distribution.environments import Environment, empty, provide
from tests.e2e.conftest import Served, serve

pytestmark = pytest.mark.timeout(900)

SAMPLE = ROOT / "docs" / "samples" / "chelsea.jpg"
HINT = "pip install 'pixeltier[serve]'"


@pytest.fixture(scope="module")
def given(whole_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make wheel` fills, from the same command."""
    folder = tmp_path_factory.mktemp("given")
    run([sys.executable, str(ROOT / "distribution" / "wheels.py"), str(whole_wheel), str(folder)], folder)
    return folder


def _needs(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        needed = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    return [line for line in needed if "extra ==" not in line]


def _wheel(given: Path, name: str) -> Path:
    (found,) = given.glob(f"{name}-*.whl")
    return found


@pytest.fixture(scope="module")
def client(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install pixeltier` and nothing else."""
    environment = empty(tmp_path_factory.mktemp("client") / "env")
    provided = provide(environment, _needs(_wheel(given, "pixeltier")))
    assert len(provided) < 12, provided
    before = {path.name for path in environment.site.iterdir()}
    environment.install(given, "pixeltier")
    added = {path.name for path in environment.site.iterdir()} - before
    assert added == {"pixeltier", "pixeltier-0.1.0.dist-info"}
    return environment


def _with_service(given: Path, folder: Path) -> Environment:
    environment = empty(folder)
    provide(environment, _needs(_wheel(given, "pixeltier_serve")))
    before = {path.name for path in environment.site.iterdir()}
    environment.install(given, "pixeltier[serve]")
    added = {path.name for path in environment.site.iterdir()} - before
    assert added == {"pixeltier", "pixeltier-0.1.0.dist-info", "pixeltier_serve-0.1.0.dist-info"}
    return environment


@pytest.fixture(scope="module")
def both(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install 'pixeltier[serve]'`."""
    return _with_service(given, tmp_path_factory.mktemp("both") / "env")


@pytest.fixture(scope="module")
def served(both: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PYTHONPATH", raising=False)
        with serve(folder / "log", interpreter=both.python) as running:
            yield running


def test_the_wheels_say_what_they_run_on(given: Path) -> None:
    assert _wheel(given, "pixeltier").name == "pixeltier-0.1.0-py3-none-any.whl"
    found = re.fullmatch(
        r"pixeltier_serve-0\.1\.0-cp311-abi3-manylinux_2_(\d+)_(x86_64|aarch64)(\.\S+)?\.whl",
        _wheel(given, "pixeltier_serve").name,
    )
    assert found is not None, _wheel(given, "pixeltier_serve").name
    assert int(found[1]) <= 28, "torch's own wheels run on glibc 2.28"


def test_the_extension_asks_for_torch_and_brings_no_library(given: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(_wheel(given, "pixeltier_serve")) as archive:
        libraries = [name for name in archive.namelist() if re.search(r"\.so(\.|$)", name)]
        assert libraries == ["pixeltier/native/_C.abi3.so"]
        archive.extract(libraries[0], tmp_path)
    binary = str(tmp_path / libraries[0])
    needed = re.findall(r"NEEDED.*\[(.*?)\]", run(["readelf", "-d", binary], tmp_path))
    assert {"libc10.so", "libtorch_cpu.so"} <= set(needed)
    assert not [name for name in needed if "gomp" in name or "omp" in name or "python" in name]
    undefined = run(["nm", "-D", "--undefined-only", binary], tmp_path)
    assert set(re.findall(r" U (_?Py\w+)", undefined)) == {"PyModule_Create2"}, "only of the stable interface"


def test_the_client_stands_alone(client: Environment) -> None:
    said = client.succeed(
        "python",
        "-c",
        "from importlib.util import find_spec; from pixeltier.client import Client; print(Client.__module__);"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'pydantic', 'service', 'models', 'native')"
        " if find_spec(name)], find_spec('pixeltier.native'))",
    )
    assert said.splitlines() == ["pixeltier.service.client", "[] None"]
    checked = client.pip("check")
    assert checked.returncode == 0, checked.stdout
    assert client.succeed("pixeltier", "--version") == "pixeltier 0.1.0\n"


def test_the_clients_help_says_what_is_there(client: Environment, both: Environment) -> None:
    alone, whole = client.succeed("pixeltier", "--help"), both.succeed("pixeltier", "--help")
    commands = [set(re.findall(r"^ {4}([a-z-]+)(?: |$)", text, re.MULTILINE)) for text in (alone, whole)]
    assert commands[0] == {"health", "classify", "upscale", "tiers"}
    said = re.search(r"With the service \((.*?)\) come (.*)\.", " ".join(alone.split()))
    assert said is not None
    assert said[1] == HINT
    assert set(said[2].split(", ")) == commands[1] - commands[0]
    assert HINT not in whole


@pytest.mark.parametrize(
    "command",
    [["serve"], ["serve", "--help"], ["doctor"], ["key", "a"], ["evaluate"], ["train"], ["tiers", "schema"]],
    ids=" ".join,
)
def test_a_command_of_the_service_says_what_to_install(client: Environment, command: list[str]) -> None:
    done = client.run("pixeltier", *command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert HINT in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_client_asks_a_running_service(client: Environment, served: Served, tmp_path: Path) -> None:
    named = client.succeed("pixeltier", "classify", str(SAMPLE), "--url", served.url, "--tier", "fast")
    assert "cat" in named
    assert "% of the MACs saved" in named
    picture = tmp_path / "out.png"
    client.succeed(
        "pixeltier", "upscale", str(SAMPLE), "--url", served.url, "--tier", "fast", "-o", str(picture)
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    script = (
        "import sys; from pathlib import Path; from pixeltier.client import Client\n"
        f"with Client({served.url!r}) as client:\n"
        f"    print(client.classify(Path({str(SAMPLE)!r})).predictions[0].label, 'torch' in sys.modules)"
    )
    assert client.succeed("python", "-c", script).split()[-1] == "False"
    refused = client.run("pixeltier", "tiers", "show", "--url", served.url)
    assert "PIXELTIER_ADMIN_TOKEN" in refused.stderr


def test_the_service_is_the_installed_one(both: Environment) -> None:
    where = (
        "from pixeltier import client, models, native, service\n"
        "print(*(one.__file__ for one in (client, models, native, native._C, service)))"
    )
    for path in both.succeed("python", "-c", where).split():
        assert Path(path).is_relative_to(both.folder), path
    checked = both.pip("check")
    assert checked.returncode == 0, checked.stdout


def test_the_client_outlives_the_service(given: Path, tmp_path: Path) -> None:
    """No file belongs to both: taking one away leaves the other whole."""
    environment = _with_service(given, tmp_path / "env")
    removed = environment.pip("uninstall", "--yes", "pixeltier-serve")
    assert removed.returncode == 0, removed.stderr
    assert not (environment.site / "pixeltier" / "native").exists()
    environment.succeed("python", "-c", "from pixeltier.client import Client")
    assert HINT in environment.run("pixeltier", "serve").stderr
    assert environment.pip("uninstall", "--yes", "pixeltier").returncode == 0
    assert not (environment.site / "pixeltier").exists()
    assert not (environment.folder / "bin" / "pixeltier").exists()


def test_the_service_alone_brings_the_client_of_its_version(given: Path, tmp_path: Path) -> None:
    environment = empty(tmp_path / "env")
    provide(environment, _needs(_wheel(given, "pixeltier_serve")))
    only = tmp_path / "only"
    only.mkdir()
    (only / _wheel(given, "pixeltier_serve").name).symlink_to(_wheel(given, "pixeltier_serve"))
    refused: subprocess.CompletedProcess[str] = environment.pip(
        "install", "--no-index", "--find-links", str(only), "pixeltier-serve"
    )
    assert refused.returncode != 0
    assert "pixeltier==0.1.0" in refused.stderr
    environment.install(given, "pixeltier-serve")
    assert (environment.folder / "bin" / "pixeltier").exists()

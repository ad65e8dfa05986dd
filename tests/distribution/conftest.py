"""What the sources build: without the extension in a second, with it in minutes; and the two wheels made of it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"

WITHOUT_EXTENSION = """
import sys
from scikit_build_core.build import build_sdist, build_wheel
build_sdist(sys.argv[1])
build_wheel(sys.argv[1], {"wheel.cmake": "false", "wheel.platlib": "true"})
"""
"""Its compilation takes minutes and adds one file of our own code."""


def run(command: list[str], folder: Path) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and a wheel without the extension."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-c", WITHOUT_EXTENSION, str(folder)], ROOT)
    return folder


@pytest.fixture(scope="session")
def whole_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the source distribution; compiles for a minute or two."""
    folder = tmp_path_factory.mktemp("whole")
    run([sys.executable, "-c", SOURCE, str(folder)], ROOT)
    (source,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheels() -> ModuleType:
    """distribution/wheels.py, which no package holds."""
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "distribution" / "wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module

"""Source distribution, wheel, empty environment: one package is added, and it serves from any directory."""

import sys
from pathlib import Path

import httpx
import pytest

from tests.distribution.conftest import run
from tests.e2e.conftest import serve

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "chelsea.jpg"


@pytest.fixture(scope="module")
def installed(whole_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip makes of the source distribution, without what it depends on."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(whole_wheel)], folder)
    return folder / "site"


@pytest.mark.timeout(900)
def test_one_package_is_added(installed: Path) -> None:
    found = {path.name for path in installed.iterdir()}
    assert found == {"pixeltier", "pixeltier-0.1.0.dist-info", "bin"}
    packages = {path.name for path in (installed / "pixeltier").iterdir() if path.name != "__pycache__"}
    assert packages == {"__init__.py", "client.py", "models", "native", "py.typed", "service"}
    sources = [path for path in installed.rglob("*") if path.suffix in {".cpp", ".h", ".cu"}]
    assert not sources


@pytest.mark.timeout(900)
def test_the_installed_package_serves(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the working directory nor the development install has a say: PYTHONPATH comes before both."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [one for one in sys.meta_path if 'ScikitBuild' not in type(one).__name__]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{tmp_path}")
    where = (
        "from pixeltier import native, service; print(service.__file__, native.__file__, native._C.__file__)"
    )
    for path in run([sys.executable, "-c", where], tmp_path).split():
        assert Path(path).is_relative_to(installed), path
    with serve(tmp_path / "log") as served:
        answer = httpx.post(f"{served.url}/v1/classify", content=SAMPLE.read_bytes(), timeout=60)
        assert answer.status_code == 200, answer.text
        enlarged = httpx.post(
            f"{served.url}/v1/super-resolve?tier=fast", content=SAMPLE.read_bytes(), timeout=60
        )
        assert enlarged.headers["content-type"] == "image/png"
        assert "<title>" in httpx.get(f"{served.url}/", follow_redirects=True).text
    client = "from pixeltier.client import Client; print(Client.__module__)"
    assert run([sys.executable, "-c", client], tmp_path).strip() == "pixeltier.service.client"

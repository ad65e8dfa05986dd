"""An extension of another torch is refused with both versions and the command that mends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixeltier import native
from pixeltier.native import _build_info, binary_interface
from pixeltier.native.binary_interface import ExtensionError

HERE = binary_interface.minor_version(torch.__version__)


def test_the_one_at_hand_is_right() -> None:
    assert str(torch.__version__) == _build_info.TORCH_VERSION
    assert native._C.__name__ == "pixeltier.native._C"


@pytest.mark.parametrize(
    "version", [f"{HERE}.0", f"{HERE}.7+cu130", f"{HERE}.0.dev20261101+cpu", f"{HERE}.0a0+git1"]
)
def test_patches_and_builds_of_one_minor_version_agree(version: str) -> None:
    binary_interface.check(version, cuda=False)


@pytest.mark.parametrize(
    ("version", "wanted"), [("2.11.1+cpu", "2.11"), (f"{HERE}9.0", f"{HERE}9"), ("3.0.0", "3.0")]
)
def test_another_minor_version(version: str, wanted: str) -> None:
    with pytest.raises(ExtensionError) as refused:
        binary_interface.check(version, cuda=False)
    said = str(refused.value)
    assert version in said
    assert torch.__version__ in said
    assert said.endswith(f"Run: {sys.executable} -m pip install 'torch=={wanted}.*'")
    assert refused.value.name == "pixeltier.native._C"


def test_kernels_for_cuda_need_a_torch_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ExtensionError, match=r"has no CUDA\. Run: .*'torch==.*'"):
        binary_interface.check(torch.__version__, cuda=True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    binary_interface.check(torch.__version__, cuda=True)


def _fake(package: Path, build_info: str | None, extension: bytes | None) -> subprocess.CompletedProcess[str]:
    """Import a `pixeltier.native` that holds these files instead of the installed ones."""
    package.mkdir(parents=True)
    for name in ("__init__.py", "binary_interface.py"):
        (package / name).write_bytes((Path(native.__file__).with_name(name)).read_bytes())
    if build_info is not None:
        (package / "_build_info.py").write_text(build_info)
    if extension is not None:
        (package / f"_C{Path(str(native._C.__file__)).suffixes[0]}.so").write_bytes(extension)
    # -S: the installed package is found by hooks of site-packages, which then come last.
    first = str(package.parents[1])
    script = (
        f"import sys; sys.path.insert(0, {first!r}); sys.path += {site_packages()!r}; import pixeltier.native"
    )
    return subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False)


def site_packages() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def test_a_wrong_version_is_refused_before_the_library_is_loaded(tmp_path: Path) -> None:
    info = 'TORCH_VERSION = "2.11.0+cpu"\nCUDA = False\n'
    refused = _fake(tmp_path / "pixeltier" / "native", info, b"no library at all")
    assert "ExtensionError" in refused.stderr
    assert "was built with torch 2.11.0+cpu and runs with torch 2.11.* only" in refused.stderr
    assert f"but torch {torch.__version__} is installed" in refused.stderr
    assert "no library" not in refused.stderr


@pytest.mark.parametrize("build_info", [f'TORCH_VERSION = "{HERE}.0"\nCUDA = False\n', None])
@pytest.mark.parametrize("extension", [b"no library at all", None])
def test_a_damaged_or_missing_extension(
    tmp_path: Path, build_info: str | None, extension: bytes | None
) -> None:
    refused = _fake(tmp_path / "pixeltier" / "native", build_info, extension)
    assert "ExtensionError: Pixeltier's extension cannot be loaded with torch" in refused.stderr
    assert "Build it again, in the source folder:" in refused.stderr

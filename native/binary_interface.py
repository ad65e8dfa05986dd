"""Whether the torch at hand is the one that the compiled extension was built for.

torch's C++ interface changes from one minor version to the next. An extension of another one dies on an undefined
symbol at best; here the user is told both versions and what mends it, before it is loaded.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch


class ExtensionError(ImportError):
    """The compiled extension cannot be used with the torch installed; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, name="pixeltier.native._C")


def minor_version(version: str) -> str:
    """The first two numbers of a version: "2.13" of "2.13.0+cpu"."""
    found = re.match(r"\d+\.\d+", version)
    return found[0] if found else version


def check(built_with: str, *, cuda: bool) -> None:
    """Refuse a torch that the extension was not built for.

    Args:
        built_with: torch.__version__ at the build.
        cuda: whether the extension has kernels for CUDA, and so needs a torch that has CUDA.

    Raises:
        ExtensionError: another minor version, or no CUDA where it is needed.
    """
    wanted, found = minor_version(built_with), str(torch.__version__)
    pip = f"{sys.executable} -m pip install"
    if minor_version(found) != wanted:
        raise ExtensionError(
            f"Pixeltier's extension was built with torch {built_with} and runs with torch {wanted}.* only, "
            f"but torch {found} is installed. Run: {pip} 'torch=={wanted}.*'"
        )
    if cuda and torch.version.cuda is None:
        raise ExtensionError(
            f"Pixeltier's extension was built with CUDA for torch {built_with}, but torch {found} has no CUDA. "
            f"Run: {pip} --force-reinstall --no-deps 'torch=={built_with}'"
        )


def load() -> ModuleType:
    """Load the compiled extension, which registers its ops.

    Raises:
        ExtensionError: it was built for another torch, is damaged, or was never built.
    """
    try:
        from pixeltier.native import _build_info

        check(_build_info.TORCH_VERSION, cuda=_build_info.CUDA)
        return importlib.import_module("pixeltier.native._C")
    except ExtensionError:
        raise
    except (ImportError, OSError) as error:
        raise ExtensionError(
            f"Pixeltier's extension cannot be loaded with torch {torch.__version__}: {error}. Build it again, in the "
            f"source folder: {sys.executable} -m pip install --force-reinstall --no-deps --no-build-isolation ."
        ) from error

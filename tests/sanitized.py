"""Run the kernel tests on a build with the address and undefined behaviour sanitizers: `make sanitize`.

The development install would answer the import first; it is set aside here.
"""

import sys
from pathlib import Path

import pytest


def main() -> int:
    """Import the instrumented build from the folder that the first argument names, then run the tests."""
    folder = Path(sys.argv[1]).resolve()
    sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
    sys.path.insert(0, str(folder))
    import torch  # noqa: F401  its libraries are found by being there already

    from pixeltier import native

    if not Path(native.__file__).is_relative_to(folder):
        raise RuntimeError(f"native came from {native.__file__}, not from {folder}")
    return pytest.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

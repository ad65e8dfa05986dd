"""What every test may use."""

import os
import signal

import pytest

# A shell lets what it starts in the background ignore Ctrl-C, and so would every process of these tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no PIXELTIER_* variable of the shell, except the kernels' choice."""
    for name in list(os.environ):
        if name.startswith("PIXELTIER_") and name != "PIXELTIER_ISA":
            monkeypatch.delenv(name)

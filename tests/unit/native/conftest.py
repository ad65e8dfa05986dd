"""What the native tests share: thread counts are put back, instruction sets are those of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("native", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("native")


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)

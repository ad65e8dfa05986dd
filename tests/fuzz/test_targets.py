"""A short, seeded run of every fuzz target; `make fuzz` runs them longer."""

from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.run import inputs
from tests.fuzz.targets import TARGETS

MUTATED = 400


@pytest.mark.parametrize("name", TARGETS)
def test_neighbours_of_good_inputs(name: str) -> None:
    for data in islice(inputs(TARGETS[name], seed=20261121), MUTATED):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name].run(data)

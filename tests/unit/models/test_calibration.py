"""Calibrated importance is the share of calibration logits below."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.models.calibration import MOST, Calibration, quantile_knots


def test_a_share_t_of_the_calibration_data_lies_below_t() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20_000).exp()
    importance = Calibration(quantile_knots(logits))(logits)
    for t in (0.1, 0.5, 0.9, 0.95):
        assert float((importance < t).float().mean()) == pytest.approx(t, abs=0.004)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=50))
def test_monotone_and_within_zero_and_one(values: list[float]) -> None:
    torch.manual_seed(1)
    calibrate = Calibration(quantile_knots(torch.randn(1000)))
    importance = calibrate(torch.tensor(sorted(values)))
    assert bool((importance.diff() >= 0).all())
    assert float(importance.min()) >= 0
    assert float(importance.max()) < 1


def test_constant_logits_are_no_error() -> None:
    calibrate = Calibration(quantile_knots(torch.zeros(300)))
    assert calibrate(torch.tensor([-1.0, 1.0])).tolist() == [0.0, MOST]


def test_a_threshold_of_one_leaves_nothing() -> None:
    """However far beyond the calibration data a logit is."""
    importance = Calibration([float(value) for value in range(257)])(torch.tensor([256.0, 300.0, 1e30]))
    assert not bool((importance >= 1.0).any())
    assert bool((importance >= 0.9999).all())


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Calibration([1.0, 0.0])
    with pytest.raises(ValueError, match="finite"):
        quantile_knots(torch.full((300,), float("nan")))

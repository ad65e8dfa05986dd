"""PSNR and SSIM against their definitions."""

import math

import numpy as np
import pytest

from pixeltier.models.evaluation.metrics import luma, psnr, ssim


def test_luma_is_bt601_studio_range() -> None:
    image = np.zeros((12, 12, 3), np.uint8)
    assert luma(image).shape == (4, 4)
    assert luma(image)[0, 0] == pytest.approx(16)
    assert luma(np.full_like(image, 255))[0, 0] == pytest.approx(235, abs=0.01)


def test_psnr_of_a_known_error() -> None:
    a = np.full((20, 20), 100.0)
    assert psnr(a, a + 5) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(a, a) == math.inf


def test_ssim_equals_its_definition_on_one_window() -> None:
    random = np.random.default_rng(0)
    a, b = random.uniform(0, 255, (2, 11, 11))
    position = np.arange(11) - 5
    kernel = np.exp(-(position**2) / 4.5)
    weights = np.outer(kernel, kernel) / kernel.sum() ** 2
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    cov = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (
        (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    assert ssim(a, b) == pytest.approx(expected)
    assert ssim(a, a) == pytest.approx(1)

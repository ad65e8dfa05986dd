"""PSNR and SSIM on luma, as super-resolution papers measure them."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float64]
SHAVE = 4
"""Pixels at each border that x4 results are not judged on, as papers have it."""

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def luma(image: Pixels, shave: int = SHAVE) -> Luma:
    """ITU-R BT.601 studio luma (16 to 235) of RGB [H, W, 3] without a border of `shave` pixels."""
    weights = np.array([65.481, 128.553, 24.966])
    inner = image[shave : image.shape[0] - shave, shave : image.shape[1] - shave]
    return np.asarray(16 + inner @ weights / 255, dtype=np.float64)


def psnr(a: Luma, b: Luma) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinite for equal images."""
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(a: Luma, b: Luma) -> float:
    """Mean structural similarity (Wang et al., 2004): Gaussian window of 11, sigma 1.5, valid part only."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(np.mean(numerator / denominator))


def _blur(image: Luma) -> Luma:
    position = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-(position**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, SSIM_WINDOW, axis=axis)
        image = windows @ kernel
    return image

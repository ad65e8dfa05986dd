"""Training of the super-resolver: the packed step equals the masked network, runs resume, checkpoints can be served."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixeltier.models.checkpoints import load_super_resolution
from pixeltier.models.engine import SuperResolver
from pixeltier.models.networks.masks import expand_from_windows
from pixeltier.models.training import super_resolve
from pixeltier.models.training.export import calibrate
from pixeltier.models.training.packed import refine_packed, unpack_pixels
from pixeltier.models.training.photos import PatchSampler, Photo, shrink
from pixeltier.models.training.super_resolve_config import SuperResolveConfig
from tests.unit.models.networks import photo_like, super_resolution
from tests.unit.models.training import (
    SMALL,
    assert_same,
    interrupted,
    moved,
    upscaling,
    weights_of,
)


def test_packed_step_equals_the_masked_network() -> None:
    model = super_resolution(SMALL).double().requires_grad_(True)
    x = torch.rand(2, 3, 13, 18, dtype=torch.float64)
    mask = expand_from_windows(torch.rand(2, 1, 4, 5) > 0.5, 4, 13, 18)
    context = model.base.features(x).detach()
    masked = model.refinement(x, context, mask.double())
    packed = unpack_pixels(refine_packed(model.refinement, x, context, mask[:, 0], torch.float64), mask[:, 0])
    torch.testing.assert_close(packed, masked)
    assert masked.abs().max() > 0.1

    weights = torch.randn_like(masked)
    parameters = list(model.refinement.parameters())
    for a, b in zip(
        torch.autograd.grad((packed * weights).sum(), parameters, retain_graph=True),
        torch.autograd.grad((masked * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_super_resolver_that_was_interrupted_ends_bit_for_bit_the_same(
    tmp_path: Path, photos: Path
) -> None:
    runs = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        config = upscaling(tmp_path / name, photos)
        if name == "whole":
            runs.append(weights_of(super_resolve.train(config)))
        else:
            runs.append(weights_of(interrupted(super_resolve.train, config, super_resolve, at=2)))
    assert_same(*runs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_super_resolver_learns_and_can_be_served(tmp_path: Path, photos: Path, dtype: str) -> None:
    torch.manual_seed(7)
    start = tmp_path / "start.pt"
    model = super_resolution(SMALL)
    torch.save({"ema": model.state_dict()}, start)
    checkpoint = super_resolve.train(
        upscaling(
            tmp_path,
            photos,
            seed_weights=str(start),
            steps=2,
            base_learning_rate=0.0,
            base_steps=0,
            dtype=dtype,
        )
    )
    state = weights_of(checkpoint)
    changed = moved(model.state_dict(), state["model"])
    assert not [name for name in changed if name.startswith("base.")]  # a rate of 0 keeps the base
    assert not [name for name in moved(model.state_dict(), state["ema"]) if name.startswith("base.")]
    assert {"refinement.head.weight", "refinement.tail.weight", "importance.0.weight"} <= changed

    out = tmp_path / "weights"
    card = calibrate("super-resolve", checkpoint, sorted(photos.iterdir()), out, "0.0.1", "five photos")
    assert load_super_resolution(out)[1] == card
    assert card.calibration == sorted(card.calibration)
    resolver = SuperResolver.load(out, "fp32")
    assert resolver.upscale(np.zeros((5, 6, 3), np.uint8), 0.5).image.shape == (20, 24, 3)


def test_a_refinement_that_starts_at_random_adds_nothing() -> None:
    config = SuperResolveConfig(photos=[], out="", shape=asdict(SMALL))
    model = super_resolve._build(config)
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        assert torch.equal(model(x), model.base(x)[1])


def test_the_gain_of_a_window_is_its_error_removed() -> None:
    hr = torch.zeros(1, 3, 32, 32)
    base, output = hr.clone(), hr.clone()
    base[..., :16, :16] = 0.2  # the refinement mends the first window ...
    output[..., 16:, 16:] = 0.1  # ... and spoils the last
    gain = super_resolve._window_gain(base, output, hr, window=4)
    assert gain.flatten().tolist() == pytest.approx([25 * 0.2, 0, 0, -25 * 0.1])


def test_compressed_patches_are_the_same_places_after_jpeg() -> None:
    smooth = Image.fromarray(photo_like(50, 60, seed=3)).resize((480, 400), Image.Resampling.BICUBIC)
    hr = np.asarray(smooth)
    photo = Photo(hr, shrink(hr), None)

    def damage(*quality: int) -> float:
        lr, large, _ = PatchSampler([photo], 24, seed=5, jpeg_quality=quality).batch(6)
        reduced = torch.nn.functional.interpolate(large, scale_factor=0.25, mode="bicubic", antialias=True)
        return float((lr - reduced)[:, :, 2:-2, 2:-2].abs().mean())

    assert damage() < damage(95, 95) < damage(20, 40) < 0.05

"""Networks of random weights whose answers depend on what they see, and directories of weights made of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pixeltier.models.calibration import KNOTS
from pixeltier.models.cards import FILE_NAMES, ModelCard, write_card
from pixeltier.models.checkpoints import save_weights
from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    ClassificationShape,
    base_input,
    window_grid,
)
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.native import reference

RESIDUAL_ENDS = ("conv2", "project")
"""Layers that end a residual branch, whose outputs would grow from block to block."""


def lively(model: nn.Module, seed: int = 0) -> None:
    """Random weights that keep the size of features from layer to layer: torch's own let them fade to the biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, layer in model.named_modules():
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            gain = 0.5 if name.endswith(RESIDUAL_ENDS) else 2.0
            deviation = (gain / layer.weight[0].numel()) ** 0.5
            layer.weight.copy_(deviation * torch.randn(layer.weight.shape, generator=generator))
            if layer.bias is not None:
                layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))


def classification(shape: ClassificationShape | None = None, seed: int = 0) -> ClassificationNetwork:
    """A classifier whose doubt differs between images as much as its evidence does between places."""
    model = ClassificationNetwork(shape)
    lively(model, seed)
    with torch.no_grad():
        weights = model.combination.base_weights, model.combination.refinement_weights
        for values, last in zip(weights, (0.4, 0.8), strict=True):
            values.copy_(torch.linspace(1.0, last, len(values)))
    return model.eval().requires_grad_(False)


def super_resolution(shape: SuperResolutionShape | None = None, seed: int = 0) -> SuperResolutionNetwork:
    """A super-resolver whose images lie mostly in [0, 1], with a residual that can be seen."""
    model = SuperResolutionNetwork(shape)
    lively(model, seed)
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.base.head.weight.mul_(2)  # the gates halve what is small
        context, image = model.base(x)
        model.base.to_pixels.weight.mul_(0.2 / image.std())
        bias = model.base.to_pixels.bias
        assert bias is not None
        bias.add_(0.5)
        model.refinement.tail.weight.mul_(0.1 / model.refinement(x, context).std())
    return model.eval().requires_grad_(False)


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]: smooth, with detail in some places only."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (max(1, height // 6), max(1, width // 6), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def as_images(pixels: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255


def as_pixel_rows(image: Tensor) -> Tensor:
    """[N, 3, 4H, 4W] to the 4x4 pixels of each cell, [N * H * W, 48], RGB last."""
    count, _, height, width = image.shape
    cells = image.view(count, 3, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
    return cells.reshape(-1, 48)


def composed(x: Tensor, image: Tensor) -> Tensor:
    """What is given out where the networks say `image` [N, 3, 4H, 4W] of x [N, 3, H, W]: uint8 [N, 4H, 4W, 3]."""
    return reference.compose(x, as_pixel_rows(image))


def knots_of(logits: Tensor) -> list[float]:
    """A calibration that spreads these logits over [0, 1]."""
    return torch.quantile(logits.flatten().double(), torch.linspace(0, 1, KNOTS).double()).tolist()


def classify_logits(model: ClassificationNetwork, pixels: np.ndarray) -> Tensor:
    """Importance logits of uint8 [N, H, W, 3], as plain torch has them."""
    x = as_images(pixels)
    with torch.inference_mode():
        _, features, logits = model.base.all_features(base_input(x))
        return model.window_logits(logits, features, window_grid(*x.shape[2:], model.shape.window))


def card_of(
    model: ClassificationNetwork | SuperResolutionNetwork, knots: list[float], **changes: Any
) -> ModelCard:
    """What belongs to a model of these tests."""
    task = "classify" if isinstance(model, ClassificationNetwork) else "super-resolve"
    card = ModelCard(
        task=task,
        name=FILE_NAMES[task],
        version="0.0.1",
        architecture=asdict(model.shape),
        window=model.shape.window,
        macs_dense_rule="of the plain network",
        calibration=knots,
        calibration_data="noise",
        expectations=[],
        expectations_data="",
        training={"note": "random"},
        licence="none",
    )
    return card.model_copy(update=changes)


def write_weights(
    directory: Path,
    classifier: ClassificationNetwork | None = None,
    resolver: SuperResolutionNetwork | None = None,
) -> Path:
    """Both tasks' files: of the given models, or of small random ones."""
    classifier = classifier or classification()
    seen = np.stack([photo_like(224, 224, seed) for seed in range(3)])
    save_weights("classify", classifier.state_dict(), directory)
    write_card(card_of(classifier, knots_of(classify_logits(classifier, seen))), directory)
    resolver = resolver or super_resolution(SuperResolutionShape(base_blocks=2, blocks=2))
    with torch.inference_mode():
        logits = resolver.window_logits(resolver.base.features(as_images(photo_like(96, 96)[None])))
    save_weights("super-resolve", resolver.state_dict(), directory)
    write_card(card_of(resolver, knots_of(logits)), directory)
    return directory

"""Training of the classifier's refinement, of what its answer is worth, and of how both answers combine.

No labels are needed: what teachers say of an image is learnt, on every photo there is. Each batch mixes exact images
with images at random budgets (the sandwich rule, arXiv 1903.05134). The base stays as it is unless it has a rate.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from pixeltier.models.networks.classification import (
    ClassificationNetwork,
    active_share,
    base_input,
    refinement_input,
    stage_masks,
    window_grid,
)
from pixeltier.models.networks.layout import channels_last
from pixeltier.models.training.class_balance import draw_probabilities, seen_classes
from pixeltier.models.training.classify_config import ClassifyConfig, TeacherConfig
from pixeltier.models.training.classify_photos import AugmentedBatches, gather_photos, mixed
from pixeltier.models.training.frozen_base import FrozenEfficientNetLite
from pixeltier.models.training.least_squares import LinearFit
from pixeltier.models.training.loop import (
    TrainingBudget,
    averaged,
    cosine,
    deterministic,
    read_config,
    resume,
    save,
)
from pixeltier.models.training.muon import Muon
from pixeltier.models.training.start import REFINEMENT, start_classification
from pixeltier.models.training.teachers import OwnStart, Teachers


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Losses of one step, for the progress bar."""

    combined: Tensor
    alone: Tensor
    doubt: Tensor


def train(config_path: Path) -> Path:
    """Train as the configuration says, resuming from its checkpoint where there is one.

    Returns:
        The checkpoint; its `ema` entry holds the weights to ship.
    """
    config = read_config(config_path, ClassifyConfig, teachers=TeacherConfig)
    device = torch.device(config.device)
    torch.manual_seed(config.random_seed)
    base = Path(config.base_weights) if config.base_weights else None
    model, fresh = start_classification(Path(config.start_weights), base, config.shape)
    if not model.shape.base_answers:
        raise ValueError(
            f"the base of {config.start_weights} does not answer: import the network with photos"
        )
    teacher: nn.Module = OwnStart(copy.deepcopy(model))
    if config.teachers:
        teacher = Teachers(config.teachers, model.shape.classes)
    model, teacher = channels_last(model).to(device), teacher.to(device).eval()
    photos = gather_photos(config.labels, config.images, config.photos)
    base_of = model.base.all_features if config.base_learning_rate else FrozenEfficientNetLite(model.base)
    probabilities = _draw_probabilities(photos, base_of, config, device)
    checkpoint = Path(config.out) / "checkpoint.pt"
    if config.fitted_views and not checkpoint.exists():
        views = AugmentedBatches(photos, config.batch, config.random_seed + 1, probabilities=probabilities)
        _fit_last_layer(model, teacher, views, config, device)

    optimiser = _optimiser(model, fresh, config)
    peaks = [group["lr"] for group in optimiser.param_groups]
    average = averaged(model, config.ema_decay)
    budget = TrainingBudget(config.steps, config.minutes)
    step = resume(checkpoint, model, optimiser, average, budget)
    batches = AugmentedBatches(
        photos, config.batch, config.random_seed, first=step, probabilities=probabilities
    )
    generator = torch.Generator()

    budget.start()
    bar = tqdm(initial=step, unit="step", mininterval=10, total=None if config.minutes else config.steps)
    with deterministic(device):
        while (progress := budget.progress(step)) < 1:
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * cosine(progress)
            # A run that was interrupted goes on as if it was not.
            generator.manual_seed(config.random_seed + step)
            x = mixed(batches.next(), config.mixed_share, generator).to(device)
            losses = _losses(model, base_of, teacher, x, config, generator)
            optimiser.zero_grad(set_to_none=True)
            total = losses.combined + config.alone_weight * losses.alone + config.doubt_weight * losses.doubt
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            average.update_parameters(model)
            bar.update()
            if step % 10 == 0:
                bar.set_postfix({name: f"{value:.3f}" for name, value in _named(losses)}, refresh=False)
            if step % config.checkpoint_every == 0:
                save(checkpoint, config, model, optimiser, average, budget, step)
    bar.close()
    batches.close()
    save(checkpoint, config, model, optimiser, average, budget, step)
    return checkpoint


def _named(losses: StepLosses) -> list[tuple[str, float]]:
    return [(name, getattr(losses, name).item()) for name in ("combined", "alone", "doubt")]


def _optimiser(model: ClassificationNetwork, fresh: frozenset[str], config: ClassifyConfig) -> Muon:
    trained = _trained_layers(model, config)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name == "importance.spread":  # chosen at calibration
            rate = 0.0
        elif name.startswith("base."):
            rate = config.base_learning_rate
        elif name.startswith(("importance.", "combination.")):
            rate = config.combination_learning_rate
        elif not name.startswith(trained):
            rate = 0.0
        else:
            rate = config.fresh_learning_rate if name in fresh else config.learning_rate
        parameter.requires_grad_(rate > 0)
        if rate > 0:
            groups.setdefault(rate, []).append(parameter)
    return Muon([{"params": group, "lr": rate} for rate, group in groups.items()])


def _trained_layers(model: ClassificationNetwork, config: ClassifyConfig) -> tuple[str, ...]:
    """Beginnings of the names of the refinement's parameters that are trained."""
    known = {name for name, _ in model.refinement.named_modules() if name}
    if unknown := sorted(set(config.trained_layers) - known):
        raise ValueError(
            f"trained_layers: the refinement has no {', '.join(unknown)}; it has, for one, layer4.1"
        )
    return tuple(f"{REFINEMENT}{layer}." for layer in config.trained_layers) or (REFINEMENT,)


def _losses(
    model: ClassificationNetwork,
    base_of: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    teacher: nn.Module,
    x: Tensor,
    config: ClassifyConfig,
    generator: torch.Generator,
) -> StepLosses:
    dtype = getattr(torch, config.dtype)
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
        wanted = teacher(x).float()
        context, features, base = base_of(base_input(x))
        masks = _random_masks(model, base.detach().float(), features.detach().float(), x, config, generator)
        stem = model.refinement.stem(refinement_input(x))
        taken = context if model.shape.context else None
        trunk = model.refinement.trunk(stem, taken, [mask.to(stem.dtype) for mask in masks])
        refined = model.refinement.classify(trunk).float()
    base = base.float()
    answer = model.combination(base, refined, active_share(masks)).log_softmax(1)
    of_answer = _divergence(wanted, answer)
    gain = _divergence(wanted, base.detach().log_softmax(1)) - of_answer.detach()
    exact = slice(0, _exact_images(len(x), config))
    return StepLosses(
        combined=of_answer.mean(),
        alone=_divergence(wanted, refined.log_softmax(1)).mean(),
        doubt=F.smooth_l1_loss(model.importance.doubt(base.detach())[exact], gain[exact]),
    )


def _divergence(wanted: Tensor, answer: Tensor) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities [N, classes] from the wanted ones, in nats [N]."""
    return F.kl_div(answer, wanted, reduction="none", log_target=True).sum(1)


def _exact_images(count: int, config: ClassifyConfig) -> int:
    return max(1, round(config.exact_share * count))


def _random_masks(
    model: ClassificationNetwork,
    logits: Tensor,
    features: Tensor,
    x: Tensor,
    config: ClassifyConfig,
    generator: torch.Generator,
) -> list[Tensor]:
    """Masks of the four stages: some images exact, the others at log-uniform shares of their best windows."""
    count, (height, width) = len(x), x.shape[2:]
    with torch.no_grad():
        scores = model.window_logits(logits, features, window_grid(height, width, model.shape.window))
    order = scores.flatten(1).argsort(1).argsort(1).float()
    importance = (order / (order.shape[1] - 1)).view_as(scores)
    low, high = math.log(config.min_keep), math.log(config.max_keep)
    keep = torch.exp(low + (high - low) * torch.rand(count, generator=generator)).to(x.device)
    keep[: _exact_images(count, config)] = 1.0
    rows, columns = (-(-size // 4) for size in (height, width))
    return stage_masks(importance, 1 - keep, model.shape.window, rows, columns)


def _draw_probabilities(
    photos: list[Path],
    base_of: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    config: ClassifyConfig,
    device: torch.device,
) -> npt.NDArray[np.float64] | None:
    if not config.evenness:
        return None
    seen = seen_classes(lambda x: base_of(x)[2], photos, Path(config.out) / "classes.npz", device)
    return draw_probabilities(seen, config.evenness)


@torch.no_grad()
def _fit_last_layer(
    model: ClassificationNetwork,
    teacher: nn.Module,
    batches: AugmentedBatches,
    config: ClassifyConfig,
    device: torch.device,
) -> None:
    """Solve the refinement's last layer: its exact features to the teachers' log-probabilities."""
    refinement = model.refinement
    fit = LinearFit(refinement.fc.in_features, refinement.fc.out_features)
    dtype = getattr(torch, config.dtype)
    for _ in tqdm(range(-(-config.fitted_views // config.batch)), desc="last layer", unit="batch"):
        x = batches.next().to(device)
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
            context = model.base.all_features(base_input(x))[0] if model.shape.context else None
            trunk = refinement.trunk(refinement.stem(refinement_input(x)), context, None)
            wanted = teacher(x).float()
        fit.add(trunk.mean(dim=(2, 3)).float(), wanted)
    batches.close()
    fit.solve(refinement.fc)

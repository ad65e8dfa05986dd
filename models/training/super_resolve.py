"""Training of the super-resolver: base, importance and sparse refinement.

Each step runs the packed sparse network at a random budget, and every few steps the exact one as well: the
sandwich rule of slimmable networks (Yu & Huang, arXiv 1903.05134), with its most expensive pass thinned out.
The base is trained on its own loss, in cheap further steps as well, and enters the sums detached. Importance is
regressed to the true gain, the squared error that the refinement removes from each window.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pixeltier.models.networks import espan
from pixeltier.models.networks.layout import channels_last
from pixeltier.models.networks.masks import expand_from_windows, pool_to_windows, top_share_mask
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.models.training.hint_phase import follow_hints
from pixeltier.models.training.loop import (
    TrainingBudget,
    averaged,
    cosine,
    deterministic,
    read_config,
    read_state,
    resume,
    save,
    shape_of,
)
from pixeltier.models.training.muon import Muon
from pixeltier.models.training.packed import refine_packed, unpack_pixels
from pixeltier.models.training.photos import OnnxTeacher, PatchSampler, find_photos, load_photos
from pixeltier.models.training.super_resolve_config import DISTANCES, SuperResolveConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Losses of one step, for the progress bar."""

    base: Tensor
    exact: Tensor
    sparse: Tensor
    importance: Tensor

    def total(self) -> Tensor:
        """The sum that is minimised."""
        return self.base + self.exact + self.sparse + 0.2 * self.importance


def train(config_path: Path) -> Path:
    """Train as the configuration says, resuming from its checkpoint where there is one.

    Returns:
        The checkpoint; its `ema` entry holds the weights to ship.
    """
    config = read_config(config_path, SuperResolveConfig)
    device = torch.device(config.device)
    model = channels_last(_build(config)).to(device)
    teacher = OnnxTeacher(Path(config.teacher), torch.get_num_threads()) if config.teacher else None
    paths = find_photos(map(Path, config.photos))
    photos = load_photos(paths, teacher, Path(config.out) / "guides", config.sizes)
    checkpoint = Path(config.out) / "checkpoint.pt"
    if config.hints and not checkpoint.exists():
        follow_hints(model, config, photos, device)

    optimiser = _optimiser(model, config)
    peaks = [group["lr"] for group in optimiser.param_groups]  # a checkpoint holds rates that have fallen
    average = averaged(model, config.ema_decay)
    budget = TrainingBudget(config.steps, config.minutes)
    step = resume(checkpoint, model, optimiser, average, budget)
    sampler = PatchSampler(photos, config.patch, config.random_seed, config.jpeg_quality)
    generator = torch.Generator()

    budget.start()
    bar = tqdm(initial=step, unit="step", mininterval=10, total=None if config.minutes else config.steps)
    with deterministic(device):
        while (progress := budget.progress(step)) < 1:
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * cosine(progress)
            sampler.restart(config.random_seed + step)  # a run that was interrupted goes on as if it was not
            generator.manual_seed(config.random_seed + step)
            for _ in range(config.base_steps):
                _descend(_base_loss(model, sampler, config, device), model, optimiser)
            with_exact = step % config.exact_every == 0
            losses = _step_losses(model, sampler, config, generator, device, with_exact)
            _descend(losses.total(), model, optimiser)
            step += 1
            average.update_parameters(model)
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(
                    {name: f"{value.item():.4f}" for name, value in _named(losses)}, refresh=False
                )
            if step % config.checkpoint_every == 0:
                save(checkpoint, config, model, optimiser, average, budget, step)
    bar.close()
    save(checkpoint, config, model, optimiser, average, budget, step)
    return checkpoint


def _named(losses: StepLosses) -> list[tuple[str, Tensor]]:
    return [(name, getattr(losses, name)) for name in ("base", "exact", "sparse", "importance")]


def _build(config: SuperResolveConfig) -> SuperResolutionNetwork:
    torch.manual_seed(config.random_seed)
    model = SuperResolutionNetwork(shape_of(SuperResolutionShape, config.shape))
    state = read_state(Path(config.seed_weights), "super-resolve") if config.seed_weights else {}
    if config.base_weights:
        published = espan.from_public(read_state(Path(config.base_weights), "super-resolve")).state_dict()
        state |= {f"base.{name}": value for name, value in published.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected:
        raise ValueError(f"the start has weights that this network does not: {sorted(unexpected)}")
    if not any(name.startswith("base.") for name in state):
        log.warning("the base starts at random: name its published weights as `base_weights`")
    # A refinement that starts at random adds nothing yet, so that `exact` is never worse than the base.
    if any(name.startswith("refinement.") for name in missing):
        for parameter in model.refinement.tail.parameters():
            torch.nn.init.zeros_(parameter)
    return model


def _optimiser(model: SuperResolutionNetwork, config: SuperResolveConfig) -> torch.optim.Optimizer:
    tail = config.tail_learning_rate or config.learning_rate
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        network, layer = name.split(".")[:2]
        rate = tail if layer.split("_")[0] in ("up1", "up2", "tail") else config.learning_rate
        rates = {"importance": config.importance_learning_rate, "base": config.base_learning_rate}
        groups.setdefault(rates.get(network, rate), []).append(parameter)
    settings: list[dict[str, Any]] = [{"params": group, "lr": rate} for rate, group in groups.items()]
    return Muon(settings) if config.optimiser == "muon" else torch.optim.Adam(settings, betas=(0.9, 0.99))


def _descend(loss: Tensor, model: SuperResolutionNetwork, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _base_loss(
    model: SuperResolutionNetwork, sampler: PatchSampler, config: SuperResolveConfig, device: torch.device
) -> Tensor:
    """A step of the base alone costs a tenth of a whole one."""
    lr, hr, guide = (t.to(device) for t in sampler.batch(config.base_patches))
    dtype = getattr(torch, config.dtype)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        image = model.base(lr)[1].float()
    distance = DISTANCES[config.loss]
    return distance(image, hr) + config.guide_weight * distance(image, guide)


def _step_losses(
    model: SuperResolutionNetwork,
    sampler: PatchSampler,
    config: SuperResolveConfig,
    generator: torch.Generator,
    device: torch.device,
    with_exact: bool,
) -> StepLosses:
    exact_patches = config.exact_patches if with_exact else 0
    lr, hr, guide = (t.to(device) for t in sampler.batch(exact_patches + config.sparse_patches))
    dtype = getattr(torch, config.dtype)
    exact = slice(0, exact_patches)
    sparse = slice(exact_patches, None)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        with torch.set_grad_enabled(config.base_learning_rate > 0):
            context, image = model.base(lr)
        logits = model.window_logits(context.detach()).float()
        full = model.refinement(lr[exact], context[exact]) if with_exact else image[exact]
    image = image.float()
    fixed = image.detach()

    def distance(output: Tensor, rows: slice) -> Tensor:
        of_pixels = DISTANCES[config.loss]
        return of_pixels(output, hr[rows]) + config.guide_weight * of_pixels(output, guide[rows])

    exact_output = fixed[exact] + full.float()  # empty on a step without exact patches
    gain = _window_gain(fixed[exact], exact_output.detach(), hr[exact], model.shape.window)
    windows = _sampled_windows(logits[sparse].detach(), config, generator)
    mask = expand_from_windows(windows, model.shape.window, lr.shape[2], lr.shape[3])[:, 0]
    pixels = refine_packed(model.refinement, lr[sparse], context[sparse], mask, dtype)
    sparse_output = fixed[sparse] + unpack_pixels(pixels, mask).float()
    sparse_gain = _window_gain(fixed[sparse], sparse_output.detach(), hr[sparse], model.shape.window)

    # Only active cells differ from the detached base. Divided by their share, the loss would be their mean, and the few
    # cells of a small budget would drown the gradient of all others in noise; by its root, their noise is the same.
    share = mask.float().mean()
    constant = distance(fixed[sparse], sparse)
    sparse_loss = (distance(sparse_output, sparse) - constant) / share.sqrt() + constant
    predicted = torch.cat([logits[exact].flatten(), logits[sparse][windows]])
    target = torch.cat([gain.flatten(), sparse_gain[windows]])
    return StepLosses(
        base=distance(image, slice(None)),
        exact=distance(exact_output, exact) if with_exact else constant.new_zeros(()),
        sparse=sparse_loss,
        importance=F.smooth_l1_loss(predicted, target),
    )


def _sampled_windows(logits: Tensor, config: SuperResolveConfig, generator: torch.Generator) -> Tensor:
    """Windows of one random budget, log-uniform; some noise lets unlikely windows be tried."""
    low, high = math.log(config.min_keep), math.log(config.max_keep)
    keep = math.exp(low + (high - low) * torch.rand((), generator=generator).item())
    noise = 0.1 * torch.randn(logits.shape, generator=generator).to(logits)
    return top_share_mask(logits + noise, keep)


def _window_gain(base: Tensor, output: Tensor, hr: Tensor, window: int) -> Tensor:
    """Signed root of the squared error that the refinement removes from each window, in units of 1/25 of the range."""
    before = (base - hr).square().mean(dim=1, keepdim=True)
    after = (output - hr).square().mean(dim=1, keepdim=True)
    removed = pool_to_windows(before - after, SCALE * window)
    return 25 * removed.sign() * removed.abs().sqrt()

"""The first phase of a training of SRResNet with hints: the refinement learns what a teacher computes inside."""

from pathlib import Path

import torch
from tqdm import tqdm

from pixeltier.models.networks.super_resolution import SuperResolutionNetwork
from pixeltier.models.training.hints import Hints, HintTeacher
from pixeltier.models.training.loop import TrainingBudget, averaged, cosine, resume, save
from pixeltier.models.training.muon import Muon
from pixeltier.models.training.photos import PatchSampler, Photo
from pixeltier.models.training.super_resolve_config import SuperResolveConfig

FORCED_SHARE = 0.6
"""Share of the steps in which each group of blocks reads the teacher's features; then they read each other's."""

FITTED_PATCHES = 64
"""Patches from which units are measured and the first tail is solved."""


def follow_hints(
    model: SuperResolutionNetwork, config: SuperResolveConfig, photos: list[Photo], device: torch.device
) -> None:
    """Start the refinement anew, as a copy of what the teacher computes; resumes from `hints.pt` in `config.out`.

    Raises:
        ValueError: the hints do not fit the network, or the teacher does not have them.
    """
    teacher = HintTeacher(Path(config.teacher), config.hints, torch.get_num_threads())
    fitted = PatchSampler(photos, config.patch, config.random_seed).batch(FITTED_PATCHES)[0].to(device)
    hints = Hints(model, teacher, fitted)
    hints.prepare(model, fitted)
    optimiser = Muon([{"params": list(model.refinement.body.parameters()), "lr": config.hint_learning_rate}])
    dtype = getattr(torch, config.dtype)
    average = averaged(model, 0.98)
    budget = TrainingBudget(config.hint_steps)
    checkpoint = Path(config.out) / "hints.pt"
    step = resume(checkpoint, model, optimiser, average, budget)
    sampler = PatchSampler(photos, config.patch, config.random_seed + 1)
    budget.start()
    with tqdm(initial=step, total=config.hint_steps, desc="hints", unit="step", mininterval=10) as bar:
        while (progress := budget.progress(step)) < 1:
            optimiser.param_groups[0]["lr"] = config.hint_learning_rate * cosine(progress)
            sampler.restart(config.random_seed + 1 + step)
            lr = sampler.batch(config.hint_patches)[0].to(device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                missed = hints.missed(model, lr, chained=progress >= FORCED_SHARE)
            optimiser.zero_grad()
            missed.sum().backward()
            torch.nn.utils.clip_grad_norm_(model.refinement.body.parameters(), 5.0)
            optimiser.step()
            step += 1
            average.update_parameters(model)
            bar.update()
            if step % 20 == 0:
                bar.set_postfix_str(" ".join(f"{share:.3f}" for share in missed.tolist()), refresh=False)
            if step % config.checkpoint_every == 0:
                save(checkpoint, config, model, optimiser, average, budget, step)
    save(checkpoint, config, model, optimiser, average, budget, step)
    model.load_state_dict(average.module.state_dict())
    hints.fit_tail(model, fitted)

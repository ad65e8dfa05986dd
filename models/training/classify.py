"""Training of ResNet-18 to work on active cells only, distilled from its own dense self.

Each batch mixes exact images with images at random budgets (the sandwich rule, arXiv 1903.05134). The teacher
is the network as it was at the start, so no labels are needed and every photo can serve. Importance learns
from the teacher's class activation map (Zhou et al., arXiv 1512.04150), the backbone from the distillation.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from models.networks.layout import channels_last
from models.networks.masks import standard_scores
from models.networks.resnet18 import ResNet18, stage_scores
from models.training.classify_photos import AugmentedBatches, gather_photos
from models.training.loop import (
    AveragedWeights,
    Budget,
    cosine,
    read_config,
    resume,
    save,
)
from models.training.start import start_resnet18


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """One training, read from TOML; paths are relative to the current directory."""

    start_weights: str
    out: str
    labels: str = ""
    images: str = ""
    photos: list[str] = field(default_factory=list)
    shape: dict[str, int] = field(default_factory=dict)
    steps: int = 20_000
    minutes: float = 0.0
    batch: int = 32
    exact_share: float = 0.25
    min_keep: float = 0.1
    max_keep: float = 0.8
    importance_only: float = 0.1
    learning_rate: float = 3e-5
    importance_learning_rate: float = 1e-3
    importance_weight: float = 0.3
    ema_decay: float = 0.998
    checkpoint_every: int = 100
    random_seed: int = 1
    dtype: str = "bfloat16"
    device: str = "cpu"


def train(config_path: Path) -> Path:
    """Train as the configuration says, resuming from its checkpoint where there is one.

    Returns:
        The checkpoint; its `ema` entry holds the weights to ship.
    """
    config = read_config(config_path, ClassifyConfig)
    device = torch.device(config.device)
    teacher = channels_last(_start(config)).to(device).requires_grad_(False)
    model = channels_last(_start(config)).to(device)
    learner = [p for name, p in model.named_parameters() if name.startswith("importance.")]
    backbone = [p for name, p in model.named_parameters() if not name.startswith("importance.")]
    optimiser = torch.optim.AdamW(
        [
            {"params": backbone, "lr": config.learning_rate},
            {"params": learner, "lr": config.importance_learning_rate},
        ],
        weight_decay=0.0,
    )
    average = AveragedWeights(model, config.ema_decay)
    budget = Budget(config.steps, config.minutes)
    checkpoint = Path(config.out) / "checkpoint.pt"
    step = resume(checkpoint, model, optimiser, average, budget)
    photos = gather_photos(config.labels, config.images, config.photos)
    batches = AugmentedBatches(photos, config.batch, config.random_seed + step)
    generator = torch.Generator().manual_seed(config.random_seed + step)

    budget.start()
    bar = tqdm(initial=step, unit="step", mininterval=10, total=None if config.minutes else config.steps)
    while (progress := budget.progress(step)) < 1:
        frozen = progress < config.importance_only
        optimiser.param_groups[0]["lr"] = 0.0 if frozen else config.learning_rate * cosine(progress)
        optimiser.param_groups[1]["lr"] = config.importance_learning_rate * cosine(progress)
        map_loss, distillation = _losses(model, teacher, batches.next().to(device), config, frozen, generator)
        optimiser.zero_grad(set_to_none=True)
        (config.importance_weight * map_loss + distillation).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        average.update(model, step)
        bar.update()
        if step % 10 == 0:
            bar.set_postfix(map=f"{map_loss.item():.3f}", kl=f"{float(distillation):.3f}", refresh=False)
        if step % config.checkpoint_every == 0:
            save(checkpoint, config, model, optimiser, average, budget, step)
    bar.close()
    batches.close()
    save(checkpoint, config, model, optimiser, average, budget, step)
    return checkpoint


def _start(config: ClassifyConfig) -> ResNet18:
    torch.manual_seed(config.random_seed)
    return start_resnet18(Path(config.start_weights), config.shape)


def _losses(
    model: ResNet18,
    teacher: ResNet18,
    images: Tensor,
    config: ClassifyConfig,
    frozen: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    dtype = getattr(torch, config.dtype)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        with torch.no_grad():
            features = teacher.trunk(teacher.stem(images), None)
            wanted = teacher.classify(features).float()
        stem = model.stem(images)
        logits = model.importance.logits(stem.detach()).float()
    target = _activation_map(features.float(), teacher, wanted, (logits.shape[2], logits.shape[3]))
    map_loss = F.binary_cross_entropy_with_logits(logits, target)
    if frozen:
        return map_loss, map_loss.new_zeros(())
    masks = _random_masks(standard_scores(logits.detach()), stem, model.shape.window, config, generator)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = model.classify(model.trunk(stem, [mask.to(dtype) for mask in masks])).float()
    return map_loss, F.kl_div(
        output.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True
    )


def _activation_map(features: Tensor, teacher: ResNet18, logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Each window's rank in [0, 1] within its image by how much it argues for the classes the teacher sees."""
    weights = logits.softmax(1) @ teacher.fc.weight
    evidence = torch.einsum("nchw,nc->nhw", features, weights)[:, None]
    evidence = F.interpolate(evidence, size=size, mode="bilinear", align_corners=False)
    rank = evidence.flatten(1).argsort(1).argsort(1).float()
    return (rank / (rank.shape[1] - 1)).view_as(evidence)


def _random_masks(
    scores: Tensor, stem: Tensor, window: int, config: ClassifyConfig, generator: torch.Generator
) -> list[Tensor]:
    """Masks of the four stages: some images exact, the others at log-uniform budgets of the batch's cells.

    Importance is the rank of a score within the batch: what calibration makes of it afterwards.
    """
    count = scores.shape[0]
    low, high = math.log(config.min_keep), math.log(config.max_keep)
    keep = torch.exp(low + (high - low) * torch.rand(count, generator=generator)).to(scores.device)
    keep[: round(config.exact_share * count)] = 1.0
    order = scores.flatten().argsort()
    importance = torch.empty_like(order, dtype=torch.float32)
    importance[order] = torch.linspace(0, 1, len(order), device=scores.device)
    importance = importance.view_as(scores)
    best = importance.flatten(1).amax(1)
    threshold = torch.minimum(1 - keep, best)
    masks = []
    for stage in stage_scores(importance, window, stem.shape[2], stem.shape[3]):
        reach = torch.minimum(threshold, stage.flatten(1).amax(1)).view(-1, 1, 1, 1)
        masks.append((stage >= reach).float())
    return masks

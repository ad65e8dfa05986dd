"""What a training of the super-resolver is told."""

from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F

from pixeltier.models.training.loop import check_dtype, check_keep

DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True, slots=True)
class SuperResolveConfig:
    """One training, read from TOML; paths are relative to the current directory.

    `sizes`: each photo is seen at these multiples of its own size; the smaller, the sharper and the freer of the
    artefacts of compression.

    `jpeg_quality`: least and most; inputs are compressed as JPEG, each at a quality between them. They are clean where
    there is none.

    `tail_learning_rate`: of the layers after the body, whose inputs are large beside the residual that they yield;
    `learning_rate` where it is 0.

    `base_weights`: ESPAN's published file, to start the base from; `seed_weights` then need not hold one.

    `base_learning_rate`: the base stays as it is where it is 0.

    `loss`: `l1` learns faster from afar; `l2`, the error that PSNR measures, is for the end.

    `hints`: names of tensors inside the teacher. Where there are any, the refinement starts anew as a copy of the
    teacher's (`pixeltier.models.training.hints`): `hint_steps` of `hint_patches` patches, before the first of `steps`.
    """

    photos: list[str]
    out: str
    seed_weights: str = ""
    base_weights: str = ""
    teacher: str = ""
    shape: dict[str, int] = field(default_factory=dict)
    sizes: list[float] = field(default_factory=lambda: [1.0])
    jpeg_quality: list[int] = field(default_factory=list)
    steps: int = 100_000
    minutes: float = 0.0
    patch: int = 48
    exact_patches: int = 8
    sparse_patches: int = 16
    exact_every: int = 3
    base_steps: int = 0
    base_patches: int = 16
    min_keep: float = 0.03
    max_keep: float = 0.5
    optimiser: Literal["muon", "adam"] = "muon"
    learning_rate: float = 2e-4
    tail_learning_rate: float = 0.0
    base_learning_rate: float = 0.0
    importance_learning_rate: float = 1e-3
    loss: Literal["l1", "l2"] = "l1"
    guide_weight: float = 0.5
    hints: list[str] = field(default_factory=list)
    hint_steps: int = 2000
    hint_patches: int = 10
    hint_learning_rate: float = 4e-3
    ema_decay: float = 0.998
    checkpoint_every: int = 200
    random_seed: int = 1
    dtype: str = "bfloat16"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: names the key.
        """
        check_dtype(self.dtype)
        check_keep(self.min_keep, self.max_keep)
        if self.loss not in DISTANCES:
            raise ValueError(f"loss {self.loss!r} is unknown; known are {', '.join(DISTANCES)}")
        if min(self.exact_patches, self.sparse_patches) < 1:
            raise ValueError(
                "a step needs patches of both kinds: exact_patches and sparse_patches start at 1"
            )
        if self.jpeg_quality and not (
            len(self.jpeg_quality) == 2 and 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100
        ):
            raise ValueError(f"jpeg_quality is [least, most] between 1 and 100, not {self.jpeg_quality}")
        if self.hints and not self.teacher:
            raise ValueError("hints are tensors of a teacher: name its ONNX file as `teacher`")

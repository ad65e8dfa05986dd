"""What a training of the classifier is told."""

from dataclasses import dataclass, field

from pixeltier.models.training.loop import check_dtype, check_keep


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """A public EfficientNet-Lite to distil from.

    `view`: the side of the square that it was trained on; `width` and `depth` as in `EfficientNetLiteShape`.
    """

    weights: str
    view: int = 224
    width: float = 1.0
    depth: float = 1.0


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """One training, read from TOML; paths are relative to the current directory.

    `start_weights`: weights of ours, a checkpoint, or a ResNet-18 (torchvision or timm names) to start the refinement
    from; convolutions that it lacks start at zero. `base_weights`: the public EfficientNet-Lite0; weights of ours have
    a base already.

    `teachers`: their mean log-probabilities are learnt; those of the network as it was at the start where there are
    none.

    `evenness`: 0 draws every photo alike, 1 every class that the base sees in them alike.

    `trained_layers`: of the refinement, as `layer4.1` or `fc`; the others stay as they are. All are trained where none
    is named. What is trained on photos of few classes forgets the others.

    `fitted_views`: from so many views the refinement's last layer is solved by least squares before the first step;
    0 keeps it.
    """

    start_weights: str
    out: str
    base_weights: str = ""
    labels: str = ""
    images: str = ""
    photos: list[str] = field(default_factory=list)
    teachers: list[TeacherConfig] = field(default_factory=list)
    shape: dict[str, int] = field(default_factory=dict)
    steps: int = 20_000
    minutes: float = 0.0
    batch: int = 32
    evenness: float = 0.0
    mixed_share: float = 0.35
    exact_share: float = 0.4
    min_keep: float = 0.1
    max_keep: float = 0.9
    trained_layers: list[str] = field(default_factory=list)
    fitted_views: int = 0
    learning_rate: float = 1e-4
    fresh_learning_rate: float = 5e-4
    combination_learning_rate: float = 3e-3
    base_learning_rate: float = 0.0
    alone_weight: float = 0.3
    doubt_weight: float = 0.1
    ema_decay: float = 0.998
    checkpoint_every: int = 100
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
        if not 0 <= self.evenness <= 1:
            raise ValueError(f"evenness lies between 0 and 1, not {self.evenness}")

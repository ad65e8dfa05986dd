"""What crosses the pipe between the front process and a worker. Plain and free of torch and numpy."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pixeltier.models.outcome import UNLIMITED, CostLimits, Infeasible, Outcome
from pixeltier.service.tasks import Task

OutputFormat = Literal["png", "webp", "jpeg"]

InputQuality = Literal["clean", "compressed"]
"""What weights for super-resolution are made for."""

RejectionKind = Literal["undecodable-image", "image-too-large", "output-too-large"]


@dataclass(frozen=True, kw_only=True)
class RequestJob:
    """What a request asks for: one compressed image, at this threshold or, within limits, the lowest one above it."""

    task: ClassVar[Task]

    body: bytes
    threshold: float
    max_pixels: int
    importance: bool = False
    limits: CostLimits = UNLIMITED


@dataclass(frozen=True, kw_only=True)
class ClassifyJob(RequestJob):
    """Name the best classes."""

    task = Task.CLASSIFY

    top_k: int


@dataclass(frozen=True, slots=True)
class TargetSize:
    """How large an enlargement is wanted: so many times the image, or a width or height, the other side in proportion;
    with both, exactly these.
    """

    scale: int = 4
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class SuperResolveJob(RequestJob):
    """Enlarge the image and compress the result."""

    task = Task.SUPER_RESOLVE

    format: OutputFormat
    quality: int
    max_output_pixels: int
    target: TargetSize = TargetSize()
    quality_of_input: InputQuality | None = None
    """By the file where it is None."""


@dataclass(frozen=True, slots=True)
class CompareJob:
    """Run one image at the threshold it was served at and at a candidate; nobody waits for it."""

    task: Task
    body: bytes
    served: float
    candidate: float
    max_pixels: int


Job = RequestJob | CompareJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Outcome):
    """What the image cost, as the native kernels counted it; `pixels` are those of the decoded input."""

    pixels: int
    decode_ms: float
    encode_ms: float


@dataclass(frozen=True, slots=True)
class ImportanceMap:
    """One value in [0, 1] a window, row by row."""

    height: int
    width: int
    values: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class RequestAnswer:
    """What a request's job is answered with, where nothing is wrong."""

    work: Work
    importance: ImportanceMap | None = None


@dataclass(frozen=True, kw_only=True)
class ClassifyAnswer(RequestAnswer):
    """The best classes as (class number, probability), best first."""

    predictions: list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class SuperResolveAnswer(RequestAnswer):
    """A compressed image of the size that was asked for; `quality_of_input` says which weights enlarged it."""

    body: bytes
    quality_of_input: InputQuality
    format: OutputFormat
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The image is at fault; `detail` is for the client."""

    kind: RejectionKind
    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """We are at fault; `traceback` is for the log only."""

    traceback: str


@dataclass(frozen=True, slots=True)
class CompareAnswer:
    """How far apart the two results of a CompareJob are.

    Attributes:
        agrees: whether the first class is the same; None for super-resolution.
        psnr_db, ssim: between the results (luma), at most 100 dB; None for classification, SSIM also for tiny images.
    """

    agrees: bool | None
    psnr_db: float | None
    ssim: float | None
    macs_dense: int
    macs_served: int
    macs_candidate: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody waited for the job any longer: the worker has given it up."""


Answer = RequestAnswer | CompareAnswer | Rejected | Infeasible | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker says ahead of its answer: so many of the image's tiles are done."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Has a worker give up the jobs that it was sent in its `frame`-th frame; it looks between two tiles."""

    frame: int


@dataclass(frozen=True, slots=True)
class NotStarted:
    """What a worker says that could not be made ready; `traceback` is for the log."""

    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A warm worker's report."""

    pid: int
    torch: str
    isa: str
    threads: int
    warm_up_ms: float

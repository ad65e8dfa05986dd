"""Super-resolution: an image at four times its size."""

import base64
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pixeltier.service.catalogue import Catalogue
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.task_specs.spec import Asked, Goal, Prior, TaskSpec
from pixeltier.service.task_specs.tensor import Tensor, TensorShape
from pixeltier.service.tasks import SCALE, Task
from pixeltier.service.work.messages import InputQuality, SuperResolveAnswer, SuperResolveJob, TargetSize

OTHER_BYTES = 64 * 1024
"""Of an answer, besides its image; most of it where the image is tiny."""


def _number(value: object) -> object:
    """Parameters come as text, and pydantic does not convert text to a literal number."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 4 else value


class SuperResolveParameters(BaseModel):
    """What an enlargement is asked."""

    model_config = ConfigDict(frozen=True)

    format: (
        Annotated[
            Literal["png", "webp", "jpeg", "jpg"],
            Field(description="Format of the result; stronger than Accept."),
        ]
        | None
    ) = None
    quality: Annotated[int, Field(ge=1, le=100, description="Quality of a WebP or JPEG result.")] = 90

    scale: Annotated[
        Literal[2, 3, 4],
        BeforeValidator(_number),
        Field(description="How many times larger the result is; 2 and 3 are reduced from 4."),
    ] = 4
    width: (
        Annotated[
            int, Field(ge=1, le=1 << 20, description="Width of the result instead, at most four times.")
        ]
        | None
    ) = None
    height: Annotated[int, Field(ge=1, le=1 << 20, description="Height, likewise.")] | None = None

    quality_of_input: Annotated[
        Literal["auto", "clean", "compressed"],
        Field(
            description="Weights for clean images, or for those that were compressed with loss; auto: by the file "
            "(a JPEG's quantisation, a lossy WebP)."
        ),
    ] = "auto"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if "scale" in self.model_fields_set and (self.width or self.height):
            raise ValueError("give a scale, or a width and height, not both")
        return self


class ImageDocument(BaseModel):
    """A compressed image inside JSON."""

    media_type: str = Field(examples=["image/png"])
    width: int = Field(examples=[512])
    height: int = Field(examples=[512])
    base64: str = Field(examples=["iVBORw0KGgo="])


class SuperResolveResult(BaseModel):
    """An enlarged image."""

    image: ImageDocument
    quality_of_input: InputQuality = Field(description="What the weights that enlarged it are made for.")


class SuperResolveSpec(TaskSpec[SuperResolveParameters, SuperResolveAnswer]):
    """See the module."""

    task = Task.SUPER_RESOLVE
    summary = "Enlarge an image four times"
    description = "Super-resolve an image at a tier or a threshold; format by `format` or by Accept."
    parameters = SuperResolveParameters
    result = SuperResolveResult
    outputs = (TensorShape("image", "BYTES", (1,)),)
    prior = Prior(empty_ms=10.0, unit_ms=100.0, job_ms=0.5, gmac_ms=2.0, megapixel_ms=20.0)
    per_pixel = True
    batched = False
    compared_pixels = 512 * 512  # SSIM of a 16 times larger result takes memory and seconds
    goals: ClassVar = {
        "max_psnr_drop_db": Goal("psnr_y", "Goal: lose at most this much PSNR (luma).", most=100.0),
        "max_ssim_drop": Goal("ssim_y", "Goal: lose at most this much SSIM (luma)."),
    }

    def max_pixels(self, settings: Settings) -> int:
        """See TaskSpec."""
        return settings.sr_max_pixels

    def job(self, asked: Asked, parameters: SuperResolveParameters, settings: Settings) -> SuperResolveJob:
        """See TaskSpec."""
        wanted = parameters.format or "png"
        return SuperResolveJob(
            body=asked.body,
            threshold=asked.threshold,
            format="jpeg" if wanted == "jpg" else wanted,
            quality=parameters.quality,
            importance=asked.importance,
            max_pixels=self.max_pixels(settings),
            max_output_pixels=settings.sr_max_output_pixels,
            quality_of_input=None if parameters.quality_of_input == "auto" else parameters.quality_of_input,
            target=TargetSize(parameters.scale, parameters.width, parameters.height),
            limits=asked.limits,
        )

    def answer_bytes_most(self, pixels: int) -> int:
        """See TaskSpec: as JSON, four bytes a pixel in base64, and the importance of each window in digits."""
        return OTHER_BYTES + 4 * SCALE**2 * pixels * 4 // 3 + pixels

    def document(self, answer: SuperResolveAnswer, catalogue: Catalogue) -> SuperResolveResult:
        """See TaskSpec."""
        del catalogue
        return SuperResolveResult(
            quality_of_input=answer.quality_of_input,
            image=ImageDocument(
                media_type=f"image/{answer.format}",
                width=answer.width,
                height=answer.height,
                base64=base64.b64encode(answer.body).decode("ascii"),
            ),
        )

    def tensors(
        self, answer: SuperResolveAnswer, parameters: SuperResolveParameters, catalogue: Catalogue
    ) -> list[Tensor]:
        """See TaskSpec."""
        del parameters, catalogue
        return [Tensor("image", "BYTES", [1], [answer.body])]

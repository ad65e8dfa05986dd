"""How `/v1` shows the answer to a task: as JSON, or as the image that it is."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model
from starlette.responses import Response

from pixeltier.service.api.negotiate import choose
from pixeltier.service.api.openapi import IMAGE_HEADERS, RESULT_HEADERS
from pixeltier.service.api.parameters import Options
from pixeltier.service.api.schemas import AnswerMeta, ImportanceDocument, meta
from pixeltier.service.catalogue import Catalogue
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.task_specs.registry import SPECS, AnyTaskSpec
from pixeltier.service.task_specs.super_resolve import SuperResolveParameters
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.work.messages import OutputFormat, RequestAnswer, SuperResolveAnswer

JSON = "application/json"

QUALITY_OF_INPUT = "X-Quality-Of-Input"

MIXED = "multipart/mixed"

SEVERAL = (JSON, MIXED)
"""How the answers to several images come."""

MEDIA_TYPES: dict[str, OutputFormat] = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


class JsonRepresentation:
    """What a task's `document` says, beside what every answer says."""

    def __init__(self, spec: AnyTaskSpec) -> None:
        self.spec = spec
        self.document: type[BaseModel] = create_model(
            f"{type(spec).__name__.removesuffix('Spec')}Document",
            __base__=(spec.result, AnswerMeta),
            __doc__=f"Answer of POST {spec.route}.",
            importance=(ImportanceDocument | None, None),
        )

    def response(self) -> dict[str, Any]:
        """The OpenAPI document's description of the answer."""
        return {"model": self.document, "description": self.spec.summary, "headers": RESULT_HEADERS}

    def settle(self, options: Options, accept: str | None, several: bool) -> Options:
        """The options, once it is clear that the client takes the answer.

        Raises:
            ProblemError: not-acceptable.
        """
        offered = SEVERAL if several else (JSON,)
        if choose(accept, offered) is None:
            raise ProblemError(Problem.NOT_ACCEPTABLE, f"{self.spec.task} answers {' or '.join(offered)}")
        return options

    async def respond(self, answer: RequestAnswer, record: RequestRecord, catalogue: Catalogue) -> Response:
        """The response, from a record whose work is done."""
        return Response(self.json(answer, record, catalogue), media_type=JSON)

    def json(self, answer: RequestAnswer, record: RequestRecord, catalogue: Catalogue) -> bytes:
        """The answer as one JSON object."""
        shown = answer.importance
        document = self.document(
            **dict(meta(record, catalogue.models[self.spec.task])),
            **dict(self.spec.document(answer, catalogue)),
            importance=None
            if shown is None
            else ImportanceDocument(height=shown.height, width=shown.width, values=shown.values),
        )
        return document.model_dump_json(exclude={"importance"} if shown is None else None).encode()


class ImageRepresentation(JsonRepresentation):
    """The image itself; JSON that holds it in base64 where a map is asked for, too."""

    def response(self) -> dict[str, Any]:
        """See JsonRepresentation."""
        return {
            **super().response(),
            "description": "The image at exactly four times its size. With include=importance: JSON that "
            "holds the image in base64 and the importance map.",
            "headers": {**RESULT_HEADERS, **IMAGE_HEADERS},
            "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES},
        }

    def settle(self, options: Options, accept: str | None, several: bool) -> Options:
        """The options with a format: the parameter, else the best of Accept, PNG first."""
        if several:
            return super().settle(options, accept, several)
        own = options.own
        if not isinstance(own, SuperResolveParameters):
            raise TypeError(f"{self.spec.task} has no format")
        wants_json = options.include is not None
        if own.format is not None and not wants_json:
            return options
        chosen = choose(accept, tuple(MEDIA_TYPES))
        if wants_json and chosen is None and choose(accept, (JSON,)) is not None:
            chosen = "image/png"
        if chosen is None:
            offered = ", ".join((*MEDIA_TYPES, *((JSON,) if wants_json else ())))
            detail = f"the result can be {offered}"
            raise ProblemError(Problem.NOT_ACCEPTABLE, detail, headers={"Vary": "Accept"})
        settled = own.model_copy(update={"format": own.format or MEDIA_TYPES[chosen]})
        return options.model_copy(update={"own": settled})

    async def respond(self, answer: RequestAnswer, record: RequestRecord, catalogue: Catalogue) -> Response:
        """See JsonRepresentation."""
        if not isinstance(answer, SuperResolveAnswer):
            raise TypeError(f"{type(answer).__name__} is not an image")
        headers = {"Vary": "Accept", QUALITY_OF_INPUT: answer.quality_of_input}
        if answer.importance is None:
            return Response(answer.body, headers=headers, media_type=f"image/{answer.format}")
        # Large: base64 and joining take a while for 64 megapixels, so not on the event loop.
        body = await asyncio.to_thread(self.json, answer, record, catalogue)
        return Response(body, headers=headers, media_type=JSON)


REPRESENTATIONS: Mapping[Task, JsonRepresentation] = {
    task: (ImageRepresentation if task is Task.SUPER_RESOLVE else JsonRepresentation)(spec)
    for task, spec in SPECS.items()
}

"""The answer to several images of one request: a JSON list, or multipart/mixed (RFC 2046, 5.1.3) with a part for each.

Each image has its own result, cost or problem; one that is refused does not fail the others.
"""

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from pixeltier.service.api.negotiate import choose
from pixeltier.service.api.representations import JSON, MIXED, SEVERAL, JsonRepresentation
from pixeltier.service.api.schemas import Macs, macs_of
from pixeltier.service.catalogue import Catalogue
from pixeltier.service.problems import ProblemDocument, ProblemError
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.work.messages import RequestAnswer

Outcome = RequestAnswer | ProblemError

OWN_HEADERS = frozenset({"x-request-id", "x-config-version", "x-model-version", "traceresponse"})
"""Headers of the whole answer, which its parts do not repeat."""


class ImageOutcome(BaseModel):
    """What became of one image: a `result` as for one image, or a `problem`."""

    name: str = Field(description="The file's name as the client gave it.", examples=["cat.jpg"])
    status: int = Field(description="What the image alone would have been answered with.", examples=[200])
    result: dict[str, Any] | None = None
    problem: ProblemDocument | None = None


class SeveralDocument(BaseModel):
    """Answer to several images, in their order."""

    images: list[ImageOutcome]
    macs: Macs | None = Field(description="Of all images; null where none was computed.")
    request_id: str = Field(examples=["4f0c1d9be2f34f6f9d6b0f6b8c3c8a51"])


def described(shown: JsonRepresentation) -> dict[str, Any]:
    """The OpenAPI document's description of the answer to one image or to several."""
    one = shown.response()
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        **one,
        "model": one["model"] | SeveralDocument,
        "description": f"{one['description']} Several images: JSON with the outcome of each, or {MIXED}.",
        "content": {**one.get("content", {}), MIXED: binary},
    }


async def respond(
    shown: JsonRepresentation,
    outcomes: Sequence[tuple[str, Outcome]],
    record: RequestRecord,
    catalogue: Catalogue,
    accept: str | None,
) -> Response:
    """The response to images by their names, in the form that the client likes better."""
    vary = {"Vary": "Accept"}
    if choose(accept, SEVERAL) == MIXED:
        boundary = uuid.uuid4().hex
        parts = [
            await _part(shown, name, outcome, image, catalogue)
            for (name, outcome), image in zip(outcomes, record.images, strict=True)
        ]
        body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
        return Response(
            body + f"--{boundary}--\r\n".encode(),
            headers=vary,
            media_type=f'{MIXED}; boundary="{boundary}"',
        )
    body = await asyncio.to_thread(_json, shown, outcomes, record, catalogue)
    return Response(body, headers=vary, media_type=JSON)


def _json(
    shown: JsonRepresentation,
    outcomes: Sequence[tuple[str, Outcome]],
    record: RequestRecord,
    catalogue: Catalogue,
) -> bytes:
    images = []
    for (name, outcome), image in zip(outcomes, record.images, strict=True):
        if isinstance(outcome, ProblemError):
            status, key = outcome.problem.kind.status, b"problem"
            value = outcome.document(record.request_id).model_dump_json(exclude_none=True).encode()
        else:
            status, key, value = 200, b"result", shown.json(outcome, image, catalogue)
        head = json.dumps({"name": name, "status": status}, separators=(",", ":")).encode()
        images.append(head[:-1] + b',"' + key + b'":' + value + b"}")
    macs = macs_of(record)
    cost = b"null" if macs is None else macs.model_dump_json().encode()
    rest = json.dumps({"request_id": record.request_id}, separators=(",", ":")).encode()
    return b'{"images":[' + b",".join(images) + b'],"macs":' + cost + b"," + rest[1:]


async def _part(
    shown: JsonRepresentation, name: str, outcome: Outcome, image: RequestRecord, catalogue: Catalogue
) -> bytes:
    """Headers and body of one part, as the image alone would have been answered."""
    if isinstance(outcome, ProblemError):
        answer = outcome.response(image.request_id, "")
    else:
        answer = await shown.respond(outcome, image, catalogue)
    headers = [(key, value) for key, value in answer.raw_headers if key not in {b"vary", b"content-length"}]
    headers += [(key, value) for key, value in image.headers() if key.decode() not in OWN_HEADERS]
    quoted = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    headers.append((b"content-disposition", f'attachment; filename="{quoted}"'.encode()))
    headers.append((b"x-status", str(answer.status_code).encode()))
    return b"".join(key + b": " + value + b"\r\n" for key, value in headers) + b"\r\n" + bytes(answer.body)

"""What the OpenAPI document says beyond what FastAPI derives: bodies, headers, problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from pixeltier.service.api.admin_openapi import admin_bodies
from pixeltier.service.api.open_inference_schemas import IndexRequest
from pixeltier.service.api.parameters import form_fields
from pixeltier.service.api.tensors import InferRequest
from pixeltier.service.problems import Problem, ProblemDocument, documented

_BINARY = {"type": "string", "format": "binary"}


def image_body(query: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI operation's body: an image, or a form that may hold the parameters of the query too."""
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"anyOf": [_BINARY, {"type": "array", "items": _BINARY, "minItems": 1}]},
            **form_fields(query),
        },
        "additionalProperties": False,
    }
    return {
        "requestBody": {
            "required": True,
            "description": "The image: as the raw body (JPEG, PNG or WebP), or as multipart part `file`, of which "
            "there may be several, parameters beside it. May come in Content-Encoding gzip or deflate.",
            "content": {
                "image/jpeg": {"schema": _BINARY},
                "image/png": {"schema": _BINARY},
                "image/webp": {"schema": _BINARY},
                "application/octet-stream": {"schema": _BINARY},
                "multipart/form-data": {"schema": form},
            },
        }
    }


INFERENCE_PROBLEMS = documented(
    Problem.BAD_REQUEST,
    Problem.NOT_ACCEPTABLE,
    Problem.PAYLOAD_TOO_LARGE,
    Problem.IMAGE_TOO_LARGE,
    Problem.OUTPUT_TOO_LARGE,
    Problem.UNSUPPORTED_MEDIA_TYPE,
    Problem.VALIDATION,
    Problem.UNKNOWN_TIER,
    Problem.BUDGET_INFEASIBLE,
    Problem.UNDECODABLE_IMAGE,
    Problem.WORKER_CRASHED,
    Problem.INTERNAL,
    Problem.UNAUTHORIZED,
    Problem.FORBIDDEN,
    Problem.RATE_LIMITED,
    Problem.OVERLOADED,
    Problem.NOT_READY,
    Problem.DEADLINE_EXCEEDED,
)
"""What both tasks may answer instead of a result."""


def _header(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


RESULT_HEADERS = {
    "X-Request-Id": _header("string", "The request's identity, also in the log."),
    "Server-Timing": _header("string", "Milliseconds: queue, decode, importance, infer, encode, total."),
    "X-Tier": _header("string", "The tier asked for; `custom` for a threshold."),
    "X-Tier-Effective": _header("string", "The tier that answered."),
    "X-Threshold": _header("number", "The threshold that was used."),
    "X-Config-Version": _header("integer", "Version of the tier table that was used."),
    "X-Model-Version": _header("string", "Version of the model."),
    "X-Macs-Dense": _header("integer", "MACs of the dense network on this image."),
    "X-Macs-Executed": _header("integer", "MACs that were run."),
    "X-Macs-Saved-Ratio": _header("number", "1 - executed / dense."),
    "X-Latency-Predicted-Ms": _header("number", "What the latency model expected `total` to be."),
}

IMAGE_HEADERS = {
    "Vary": _header("string", "Accept"),
    "X-Quality-Of-Input": _header(
        "string", "`clean` or `compressed`: what the weights that answered are made for."
    ),
}

DESCRIPTION = """\
Image classification and x4 super-resolution that compute only where it matters.

A request names a quality **tier**; the tier maps to a threshold that the operator moves. Every answer says
what it cost (`X-Macs-Executed`) and what the dense network would have (`X-Macs-Dense`).
Every error is `application/problem+json` with a stable `type`.
"""


def install(app: FastAPI) -> None:
    """Make `app.openapi()` complete: the schemas of bodies that the routes handle themselves."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            bodies: dict[str, type[BaseModel]] = {
                "Problem": ProblemDocument,
                "InferRequest": InferRequest,
                "IndexRequest": IndexRequest,
            }
            for name, model in bodies.items():
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[name] = schema
            schemas |= admin_bodies()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def documented_statuses(app: FastAPI) -> list[tuple[str, str, int]]:
    """(method, route, status) of everything the document promises."""
    return [
        (method.upper(), route, int(status))
        for route, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        for status in operation["responses"]
        if str(status).isdecimal()
    ]

"""Every way a request can fail: the only place that knows status, problem type, advice and metric outcome."""

import json
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the contract: `type` is also the outcome in `pixeltier_requests_total`."""

    type: str
    status: int
    title: str
    help: str  # `{root}` stands where the path prefix comes


class Problem(Enum):
    """The kinds of failure, by their problem type (RFC 9457)."""

    VALIDATION = Kind(
        "validation", 422, "A parameter is not valid", "Correct the parameters named in `errors`."
    )
    BAD_REQUEST = Kind("bad-request", 400, "The request is malformed", "Correct what `detail` names.")
    UNKNOWN_TIER = Kind(
        "unknown-tier", 422, "There is no such tier", "Use one of `known_tiers`; see GET {root}/v1/tiers."
    )
    BUDGET_INFEASIBLE = Kind(
        "budget-infeasible", 422, "The budget cannot be met", "Ask for at least `least_budget`."
    )
    UNDECODABLE_IMAGE = Kind(
        "undecodable-image", 422, "The image cannot be decoded", "Send a complete JPEG, PNG or WebP image."
    )
    UNSUPPORTED_MEDIA_TYPE = Kind(
        "unsupported-media-type",
        415,
        "The declared type is not accepted",
        "Send image/jpeg, image/png or image/webp as the body, or multipart with a part named file.",
    )
    UNSUPPORTED_DOCUMENT_TYPE = Kind(
        "unsupported-media-type",
        415,
        "The declared type is not accepted",
        "Send application/json, or application/merge-patch+json for a patch.",
    )
    UNSUPPORTED_CODING = Kind(
        "unsupported-media-type",
        415,
        "The content coding is not accepted",
        "Send the body as it is, or in one coding that Accept-Encoding names.",
    )
    NOT_ACCEPTABLE = Kind(
        "not-acceptable", 406, "No acceptable output", "Accept one of the types named in `detail`, or */*."
    )
    PAYLOAD_TOO_LARGE = Kind("payload-too-large", 413, "Too many bytes", "Send a smaller file.")
    IMAGE_TOO_LARGE = Kind(
        "image-too-large", 413, "The image has too many pixels", "Scale or crop the image."
    )
    OUTPUT_TOO_LARGE = Kind(
        "output-too-large",
        413,
        "The result would be too large",
        "Send a smaller image, or ask for format=png.",
    )
    UNAUTHORIZED = Kind(
        "unauthorized", 401, "No valid credentials", "Send Authorization: Bearer with a valid key."
    )
    FORBIDDEN = Kind("forbidden", 403, "Not allowed", "Ask the operator for a key that allows this.")
    PRECONDITION_REQUIRED = Kind(
        "config-conflict",
        428,
        "The change must say what it is based on",
        "Send If-Match with the ETag of GET {root}/admin/v1/tiers, or * for whatever is in force.",
    )
    CONFIG_CONFLICT = Kind(
        "config-conflict",
        412,
        "The table was changed meanwhile",
        "Read the table again, look at what changed, and repeat.",
    )
    CONFIG_UNMATCHABLE = Kind(
        "config-conflict",
        412,
        "If-Match holds no ETag of the table",
        "Send the strong form of the ETag of GET {root}/admin/v1/tiers: the version in quotes, without W/.",
    )
    CONFIG_NOT_STORED = Kind(
        "config-not-stored",
        507,
        "The change could not be stored",
        "Nothing changed. See that the state directory has room and can be written; the log has the cause.",
    )
    JOB_LOST = Kind(
        "job-lost", 410, "The job is not here", "Send the image again; jobs do not survive a restart."
    )
    JOB_UNFINISHED = Kind(
        "job-unfinished",
        409,
        "The job is not over",
        "Ask again after Retry-After seconds, or follow its events.",
    )
    RESULT_NOT_STORED = Kind(
        "result-not-stored",
        507,
        "The result could not be kept",
        "Ask without Prefer: respond-async; the operator sees the cause in the log.",
    )
    NOT_FOUND = Kind("not-found", 404, "There is nothing here", "See {root}/docs for the routes.")
    METHOD_NOT_ALLOWED = Kind(
        "method-not-allowed", 405, "The method is not allowed", "Use a method named in Allow."
    )
    HEAD_TOO_LARGE = Kind(
        "http-head-too-large",
        431,
        "The request's head is too long",
        "Send a shorter target and fewer headers.",
    )
    HEAD_TIMEOUT = Kind(
        "http-timeout", 408, "The request's head did not arrive in time", "Send the request again, in one go."
    )
    METHOD_UNKNOWN = Kind(
        "http-method-unknown",
        501,
        "There is no such method",
        "Use GET, HEAD, POST, PUT, PATCH or DELETE, in capitals.",
    )
    VERSION_UNSUPPORTED = Kind(
        "http-version-unsupported", 505, "The HTTP version is not supported", "Use HTTP/1.1."
    )
    OVERLOADED = Kind("overloaded", 503, "The service is overloaded", "Try again after Retry-After seconds.")
    NOT_READY = Kind("not-ready", 503, "The service is not ready", "Try again after Retry-After seconds.")
    RATE_LIMITED = Kind("rate-limited", 429, "Over your own limit", "Try again after Retry-After seconds.")
    DEADLINE_EXCEEDED = Kind(
        "deadline-exceeded",
        504,
        "The deadline passed",
        "Allow more time in X-Request-Timeout-Ms, or a faster tier.",
    )
    CLIENT_CLOSED = Kind("client-closed", 499, "The client went away", "Nothing: nobody reads this.")
    WORKER_CRASHED = Kind(
        "worker-crashed",
        500,
        "The worker crashed",
        "Do not repeat this request; report it with its request_id.",
    )
    INTERNAL = Kind("internal", 500, "Something went wrong here", "Report this with its request_id.")

    @property
    def kind(self) -> Kind:
        """The row."""
        return self.value

    @classmethod
    def of_type(cls, type_: str) -> "Problem":
        """Look a row up by its type."""
        return _BY_TYPE[type_]


_BY_TYPE = {problem.kind.type: problem for problem in Problem}

OUTCOMES = ("ok", *(type_ for type_ in _BY_TYPE if not type_.startswith(("config-", "http-", "job-"))))
"""Every value of the `outcome` label: what an inference request can end in."""


class FieldError(BaseModel):
    """One parameter that is not valid."""

    field: str = Field(examples=["query.threshold"])
    message: str = Field(examples=["Input should be less than or equal to 1"])


class ProblemDocument(BaseModel):
    """The body of every error (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(examples=["unknown-tier"], description="Stable; programs decide by it.")
    title: str = Field(examples=["There is no such tier"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["there is no tier 'turbo'; the tiers are exact, high, balanced, fast, fastest"]
    )
    help: str = Field(description="What to do.", examples=["Use one of `known_tiers`; see GET /v1/tiers."])
    request_id: str = Field(examples=["4f0c1d9be2f34f6f9d6b0f6b8c3c8a51"])
    errors: list[FieldError] | None = None
    known_tiers: list[str] | None = None
    retry_after_s: int | None = None
    current_version: int | None = Field(None, description="Of the tier table, where a change was overtaken.")
    least_budget: float | None = Field(
        None, description="The least value of the budget parameter that this image can be served within now."
    )


class ProblemError(Exception):
    """Raised anywhere below a route to answer with a problem."""

    def __init__(
        self,
        problem: Problem,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        known_tiers: tuple[str, ...] | None = None,
        retry_after_s: int | None = None,
        current_version: int | None = None,
        least_budget: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.errors = errors
        self.known_tiers = known_tiers
        self.retry_after_s = retry_after_s
        self.current_version = current_version
        self.least_budget = least_budget
        self.headers = headers or {}

    def document(self, request_id: str, root: str = "") -> ProblemDocument:
        """The body; `root` is the path prefix that the client sees the service below."""
        kind = self.problem.kind
        return ProblemDocument(
            type=kind.type,
            title=kind.title,
            status=kind.status,
            detail=self.detail,
            help=kind.help.format(root=root),
            request_id=request_id,
            errors=self.errors,
            known_tiers=None if self.known_tiers is None else list(self.known_tiers),
            retry_after_s=self.retry_after_s,
            current_version=self.current_version,
            least_budget=self.least_budget,
        )

    def response(self, request_id: str, path: str, root: str = "") -> Response:
        """The answer; below /v2 in the Open Inference Protocol's own form.

        Args:
            path: the request's, without the prefix `root`.
        """
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.problem is Problem.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if path == "/v2" or path.startswith("/v2/"):
            error = json.dumps({"error": f"{self.problem.kind.type}: {self.detail}"})
            return Response(error, self.problem.kind.status, headers, "application/json")
        body = self.document(request_id, root).model_dump_json(exclude_none=True)
        return Response(body, self.problem.kind.status, headers, MEDIA_TYPE)


def documented(*problems: Problem) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` of these problems: one entry a status, one example a type."""
    responses: dict[int | str, dict[str, Any]] = {}
    for problem in problems:
        kind = problem.kind
        entry = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        if kind.status in {503, 429}:
            entry["headers"] = {
                "Retry-After": {
                    "description": "Seconds, from the queue's estimate.",
                    "schema": {"type": "integer"},
                }
            }
        example = {
            "type": kind.type,
            "title": kind.title,
            "status": kind.status,
            "detail": kind.title,
            "help": kind.help.format(root=""),
            "request_id": "4f0c1d9be2f34f6f9d6b0f6b8c3c8a51",
        }
        entry["content"][MEDIA_TYPE]["examples"][kind.type] = {"value": example}
    return responses

"""The Open Inference Protocol's gRPC service: every call becomes a request to `/v2` inside the process.

So tiers, budgets, keys, limits, metrics and the log treat both protocols alike. A call's deadline is the request's; a
call that is cancelled is a client that hangs up.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from starlette.types import ASGIApp

from pixeltier.service.grpc_server import in_process, translate
from pixeltier.service.grpc_server import open_inference as pb
from pixeltier.service.grpc_server.in_process import Caller, Reply

SERVICE = "inference.GRPCInferenceService"

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Of HTTP statuses; other ones below 500 are INVALID_ARGUMENT, from there on INTERNAL."""

_TRANSPORT = re.compile(r"grpc-.*|:.*|te|user-agent|connection|host|content-.*|inference-.*|.*-bin")
"""Metadata that are not the request's own headers."""

_ANSWERED = re.compile(r"x-.*|server-timing|retry-after|ratelimit.*|traceresponse")
"""Headers of an answer that its metadata repeat."""

_PEER = re.compile(r"ipv[46]:\[?([^\]]*)\]?:(\d+)")

NOWHERE = ("0.0.0.0", 0)  # noqa: S104  (not listened on)
"""A peer that cannot be told. No address would be a Unix socket, whose forwarded headers are believed."""

_NO_MODELS = {"", "stats"}
"""Names that stand for something else below `/v2/models`: the list, everybody's statistics."""

Handler = Callable[["OpenInference", Any, Any], Awaitable[Any]]


class OpenInference:
    """See the module. `app`: the HTTP application, its lifespan running."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def live(self, _: pb.ServerLiveRequest, context: Any) -> pb.ServerLiveResponse:
        """Whether the process is alive."""
        reply = await self._get("/v2/health/live", context)
        return pb.ServerLiveResponse(live=reply.status == 200)

    async def ready(self, _: pb.ServerReadyRequest, context: Any) -> pb.ServerReadyResponse:
        """Whether the service takes work."""
        reply = await self._get("/v2/health/ready", context)
        return pb.ServerReadyResponse(ready=reply.status == 200)

    async def model_ready(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        """Whether a model takes work; NOT_FOUND where there is none of that name or version."""
        reply = await self._get(await _path(request.name, request.version, context) + "/ready", context)
        if reply.status not in {200, 503}:
            await _abort(context, reply)
        return pb.ModelReadyResponse(ready=reply.status == 200)

    async def server_metadata(self, _: pb.ServerMetadataRequest, context: Any) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        document = await self._document("/v2", context)
        return pb.ServerMetadataResponse(**document)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """Tensors a model takes and gives."""
        document = await self._document(await _path(request.name, request.version, context), context)
        return pb.ModelMetadataResponse(
            name=document["name"],
            versions=document["versions"],
            platform=document["platform"],
            inputs=translate.tensors_of(document["inputs"]),
            outputs=translate.tensors_of(document["outputs"]),
        )

    async def infer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        """Run a model on images."""
        path = await _path(request.model_name, request.model_version, context) + "/infer"
        try:
            body, headers = translate.request_of(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"validation: {error}")
        timeout = request.parameters.get("timeout", pb.InferParameter())  # [] would add one
        caller = _caller(context, headers, timeout.int64_param)
        reply = await in_process.request(self._app, caller, "POST", path, body)
        if reply.status != 200:
            await _abort(context, reply)
        await context.send_initial_metadata(_metadata(reply))
        return translate.answer_of(reply.body, reply.headers.get("inference-header-content-length"))

    async def _get(self, path: str, context: Any) -> Reply:
        return await in_process.request(self._app, _caller(context, {}), "GET", path)

    async def _document(self, path: str, context: Any) -> dict[str, Any]:
        reply = await self._get(path, context)
        if reply.status != 200:
            await _abort(context, reply)
        found: dict[str, Any] = json.loads(reply.body)
        return found


METHODS: Mapping[str, tuple[Handler, Any]] = {
    "ServerLive": (OpenInference.live, pb.ServerLiveRequest),
    "ServerReady": (OpenInference.ready, pb.ServerReadyRequest),
    "ModelReady": (OpenInference.model_ready, pb.ModelReadyRequest),
    "ServerMetadata": (OpenInference.server_metadata, pb.ServerMetadataRequest),
    "ModelMetadata": (OpenInference.model_metadata, pb.ModelMetadataRequest),
    "ModelInfer": (OpenInference.infer, pb.ModelInferRequest),
}


def handlers(app: ASGIApp) -> Any:
    """The service for `grpc.aio.Server.add_generic_rpc_handlers`."""
    service = OpenInference(app)
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _bound(handler, service),
                request_deserializer=message.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (handler, message) in METHODS.items()
        },
    )


def _bound(handler: Handler, service: OpenInference) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        return await handler(service, request, context)

    return call


async def _path(model: str, version: str, context: Any) -> str:
    """Where `/v2` has a model. A name with a slash would be another path's, as is one that `/v2` keeps for itself."""
    if "/" in model + version or model in _NO_MODELS:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"not-found: there is no model {model[:64]!r}")
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def _caller(context: Any, headers: Mapping[str, str], timeout_us: int = 0) -> Caller:
    """Who calls, with the call's deadline or the protocol's own `timeout` as a header: whichever is earlier."""
    found = [
        (name, value)
        for name, value in context.invocation_metadata() or ()
        if isinstance(value, str) and not _TRANSPORT.fullmatch(name)
    ]
    left = context.time_remaining()
    if left is not None and not any(name == "x-request-timeout-ms" for name, _ in found):
        earlier = min(left, timeout_us / 1e6) if timeout_us > 0 else left
        found.append(("x-request-timeout-ms", str(max(1, min(2**31, int(1000 * earlier))))))
    peer = _PEER.fullmatch(unquote(context.peer()))
    address = (peer[1], int(peer[2])) if peer else NOWHERE
    return Caller(address, [*found, *headers.items()])


async def _abort(context: Any, reply: Reply) -> NoReturn:
    code = CODES.get(reply.status)
    if code is None:
        code = grpc.StatusCode.INVALID_ARGUMENT if reply.status < 500 else grpc.StatusCode.INTERNAL
    try:
        said = str(json.loads(reply.body)["error"])
    except (ValueError, LookupError, TypeError):
        said = f"status {reply.status}"
    await context.abort(code, said, _metadata(reply))
    raise AssertionError("abort raises")


def _metadata(reply: Reply) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in reply.headers.items() if _ANSWERED.fullmatch(name))

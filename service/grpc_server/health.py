"""gRPC's own health protocol (grpc.health.v1), which Kubernetes' probes, meshes and load balancers ask by.

"" and the inference service serve while `/v2/health/ready` says so, a model by its name while it is ready.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.types import ASGIApp

from pixeltier.service.grpc_server import in_process
from pixeltier.service.grpc_server.in_process import Caller
from pixeltier.service.grpc_server.servicer import NOWHERE, SERVICE
from pixeltier.service.tasks import Task

LOOK_S = 0.5
"""How often a watched service's state is looked at."""

_MODELS = frozenset(task.value for task in Task)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """See the module. `app`: the HTTP application, its lifespan running."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End who watches: they would hold up the port's end."""
        self._ended.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Whether a service takes work now; NOT_FOUND where there is none of that name."""
        status = await self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        """The state of every service."""
        del request, context
        states = {
            name: health_pb2.HealthCheckResponse(status=await self._status(name))
            for name in ("", SERVICE, *sorted(_MODELS))
        }
        return health_pb2.HealthListResponse(statuses=states)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - likewise
        """The state now, then every other one; SERVICE_UNKNOWN is one of them."""
        del context
        told = None
        while not self._ended.is_set():
            status = await self._status(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._ended.wait()

    async def _status(self, service: str) -> Any:
        if service in {"", SERVICE}:
            path = "/v2/health/ready"
        elif service in _MODELS:
            path = f"/v2/models/{service}/ready"
        else:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        reply = await in_process.request(self._app, Caller(NOWHERE, ()), "GET", path)
        states = health_pb2.HealthCheckResponse
        return states.SERVING if reply.status == 200 else states.NOT_SERVING


def add(app: ASGIApp, server: Any) -> Health:
    """Add the service to a server."""
    health = Health(app)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return health

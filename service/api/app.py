"""The application: everything it uses is given to it."""

import asyncio
import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from pixeltier.service import __version__
from pixeltier.service.api import openapi
from pixeltier.service.api.context import AppContext
from pixeltier.service.api.middleware import RequestMiddleware
from pixeltier.service.api.parameters import query_of
from pixeltier.service.api.proxy import ProxyMiddleware, local_path
from pixeltier.service.api.routes import (
    admin,
    admin_history,
    admin_live,
    console,
    docs,
    health,
    inference,
    jobs,
    metrics,
    models,
    open_inference,
    open_inference_models,
    tiers,
)
from pixeltier.service.api.served_model import why_absent
from pixeltier.service.configuration.settings import LOOPBACK
from pixeltier.service.problems import FieldError, Problem, ProblemError
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.telemetry.record import EXPOSED_HEADERS, record_of

ROUTERS = (
    inference.router,
    jobs.router,
    tiers.router,
    models.router,
    health.router,
    metrics.router,
    docs.router,
    console.router,
    admin.router,
    admin_history.router,
    admin_live.router,
    open_inference.router,
    open_inference_models.router,
)

_PARAMETERS = tuple(sorted({name for spec in SPECS.values() for name in query_of(spec).model_fields}))


def create_app(context: AppContext) -> FastAPI:
    """Wire the routes to the context; the lifespan starts and drains its pool."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.pool.start()
        await context.desk.start()
        try:
            yield
        finally:
            await context.desk.stop()
            await context.jobs.stop()
            await context.pool.stop(context.settings.drain_timeout_s)
            if context.tracer is not None:  # the last spans are sent; the exporter blocks
                await asyncio.to_thread(context.tracer.close)

    app = FastAPI(
        title="Pixeltier",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        openapi_tags=[
            {"name": "inference"},
            {"name": "jobs"},
            {"name": "catalogue"},
            {"name": "health"},
            {"name": "open inference"},
            {"name": "admin"},
        ],
        redirect_slashes=False,
        docs_url=None,  # its page fetches scripts from elsewhere; ours is routes/docs.py
        redoc_url=None,
        # FastAPI's own spans would stand beside ours, and its logs carry exceptions' messages unredacted.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.context = context
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    _add_middleware(app, context)
    openapi.install(app)
    context.metrics.set_expectations(
        {task: model.expectations for task, model in context.catalogue.models.items()}
    )
    context.metrics.set_routes(openapi.documented_statuses(app))
    context.metrics.watch(context.pool)
    context.metrics.watch_brownout(lambda: context.desk.level.value)
    context.metrics.watch_jobs(context.jobs.report)
    context.tiers.observe(context.metrics)
    return app


def _add_middleware(app: FastAPI, context: AppContext) -> None:
    """From the inside out: CORS, the record and metrics of a request, proxies."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(context.settings.cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=list(EXPOSED_HEADERS),
        max_age=600,
    )
    app.add_middleware(
        RequestMiddleware,
        metrics=context.metrics,
        tiers=context.tiers,
        desk=context.desk,
        tracer=context.tracer,
    )
    named = context.settings.forwarded_allow_ips
    app.add_middleware(
        ProxyMiddleware,
        trusted=LOOPBACK if named is None else named,
        prefix=context.settings.root_path,
        told_is_cut=named is not None,
    )


def _answer(request: Request, error: ProblemError) -> Response:
    record = record_of(request)
    record.problem = error.problem
    return error.response(record.request_id, local_path(request.scope), request.scope.get("root_path", ""))


async def _problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return _answer(request, error)


async def _disconnected(request: Request, error: Exception) -> Response:
    del error
    return _answer(request, ProblemError(Problem.CLIENT_CLOSED, "the client closed the connection"))


async def _validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        FieldError(
            field=".".join(str(part) for part in item["loc"]),
            message=_message(item["type"], item["loc"], item["msg"]),
        )
        for item in error.errors()
    ]
    detail = "; ".join(f"{one.field}: {one.message}" for one in errors)
    return _answer(request, ProblemError(Problem.VALIDATION, detail[:2000], errors=errors))


def _message(type_: str, loc: tuple[str | int, ...], message: str) -> str:
    if type_ != "extra_forbidden":
        return message
    near = difflib.get_close_matches(str(loc[-1]), _PARAMETERS, n=1)
    return "there is no such parameter" + (f"; did you mean {near[0]}?" if near else "")


async def _http(request: Request, error: Exception) -> Response:
    """What the routes did not take: no such path, or no such method there."""
    if not isinstance(error, HTTPException):
        raise error
    method, path = record_of(request).method, request.url.path[:200]
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
        detail = f"{method} {path}: the methods here are {headers['Allow']}"
        return _answer(request, ProblemError(Problem.METHOD_NOT_ALLOWED, detail, headers=headers))
    if error.status_code == HTTPStatus.NOT_FOUND:
        here = local_path(request.scope)
        if not here and method in {"GET", "HEAD"}:  # the prefix alone: its page ends with /
            return RedirectResponse(
                request.url.replace(scheme="", netloc="", path=f"{request.url.path}/"), 308
            )
        detail = f"{method} {path}: {why_absent(here) or error.detail}"
        return _answer(request, ProblemError(Problem.NOT_FOUND, detail, headers=headers))
    return _answer(
        request, ProblemError(Problem.INTERNAL, f"{method} {path}: {error.detail}", headers=headers)
    )


def _allowed(request: Request) -> list[str]:
    """Every method of the path, whichever route has it (RFC 9110, 15.5.6): the routes are asked for each."""
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return ["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found

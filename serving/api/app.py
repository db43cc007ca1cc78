"""All routes together."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from afterglow_client import AfterglowError
from serving.api import candidates, changes, explanations, health, profiles, segments
from serving.api.feed import Feed
from serving.api.front import Front
from serving.api.gate import Gate
from serving.api.lookups import Lookups
from serving.api.parts import Parts
from serving.api.problems import Problem, of_store, wrong_input
from serving.api.routes import PROBLEM_SCHEMA

log = structlog.get_logger()

TITLE: Final = "Afterglow"
VERSION: Final = "1"
_OPEN: Final = ("/health", "/ready", "/metrics")
_ABOUT: Final = (
    "Live customer profiles. Errors are problem documents (RFC 9457); `fix` says what to do. "
    "Tokens have roles: `read` looks users up, `bulk` lists members and follows changes too, "
    "`admin` may all."
)


def build(
    parts: Parts,
    start: Callable[[Feed], None] = lambda _feed: None,
    stop: Callable[[], None] = lambda: None,
) -> Api:
    """The application.

    Args:
        parts: that it stands on.
        start: begins to fill the feed, in the running event loop.
        stop: ends what ``start`` began.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if parts.feed is not None:
            start(parts.feed)
        try:
            yield
        finally:
            stop()
            await parts.reader.close()

    app = FastAPI(title=TITLE, version=VERSION, description=_ABOUT, lifespan=lifespan)
    lookups = Lookups(parts.reader)
    app.state.parts, app.state.lookups = parts, lookups
    for module in (profiles, candidates, segments, explanations, changes, health):
        app.include_router(module.router)
    _handle_errors(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    front = Front(app, parts, lookups)
    return Api(app, Gate(front, parts.metrics, parts.terms.concurrency), parts)


@dataclass(slots=True, frozen=True)
class Api:
    """The application, with what stands before it.

    Attributes:
        routes: every route, and the document about them.
        gate: the way in.
        parts: that it stands on.
    """

    routes: FastAPI
    gate: Gate
    parts: Parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.gate(scope, receive, send)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def on_problem(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(AfterglowError)
    async def on_store(_request: Request, error: AfterglowError) -> Response:
        return of_store(error).response()

    @app.exception_handler(RequestValidationError)
    async def on_wrong_input(_request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()
        )
        return wrong_input(told, "GET /openapi.json says what may be sent").response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        kinds = {404: "no-such-path", 405: "no-such-method"}
        return Problem(
            error.status_code,
            kinds.get(error.status_code, "refused"),
            str(error.detail),
            f"{request.method} {request.url.path}",
            "GET /openapi.json lists every path and its methods",
            error.headers,
        ).response()

    @app.exception_handler(Exception)
    async def on_fault(request: Request, error: Exception) -> Response:
        # as plain text: what shows local variables would show tokens
        said = "".join(traceback.format_exception(error))
        log.error("request_failed", path=request.url.path, traceback=said)
        return Problem(
            500,
            "fault",
            "The server failed",
            "this is a fault of the server; its log says more",
            "Tell whoever runs the server",
        ).response()


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        parts = document.setdefault("components", {})
        schemas = {"Problem": PROBLEM_SCHEMA}
        for module in (profiles, candidates, segments, explanations, health):
            schemas |= module.schemas()
        parts["schemas"] = schemas
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in _OPEN else [{"token": []}]
                if path in _OPEN:
                    operation["responses"].pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema

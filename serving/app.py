"""The web application: routes, body limits, and one form for every error. It decides nothing itself."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import decide, events, openapi
from serving.errors import ApiError
from serving.exposition import PAGE_TYPE
from serving.runtime import Runtime
from serving.schemas import MAX_DECISION_BYTES, MAX_EVENTS_BYTES, too_large

BODY_SECONDS = 10.0
"""How long a client may take to send a body."""

log = structlog.get_logger()


def create_app(runtime: Runtime) -> FastAPI:
    """The API, version 1, over a runtime that it starts and stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.stop()

    app = FastAPIOffline(title="Segue", description=openapi.ABOUT, version=build(), lifespan=lifespan, redoc_url=None)
    _add_errors(app)
    _add_routes(app, runtime)
    openapi.install(app)
    return app


def _add_routes(app: FastAPI, runtime: Runtime) -> None:
    @app.post("/v1/decisions", **openapi.DECISIONS)
    async def decisions(request: Request) -> Response:
        return _json(await decide.answer(runtime, await _body(request, MAX_DECISION_BYTES)))

    @app.post("/v1/events", **openapi.EVENTS)
    async def take_events(request: Request) -> Response:
        return _json(await events.answer(runtime, await _body(request, MAX_EVENTS_BYTES)))

    @app.get("/healthz", **openapi.HEALTHZ)
    async def healthz() -> Response:
        return _json(b'{"status":"alive"}')

    @app.get("/readyz", **openapi.READYZ)
    async def readyz() -> Response:
        if runtime.draining:
            raise ApiError(503, "draining", "The server is shutting down.")
        if not runtime.is_ready:
            raise ApiError(503, "no_release", "No release and no catalog is loaded.")
        return _json(msgspec.json.encode({"status": "ready", "release": runtime.current.release.id}))

    @app.get("/version", **openapi.VERSION)
    async def versions() -> Response:
        release = runtime.current.release
        models = {name: scorer.label for name, scorer in sorted(release.scorers.items())}
        return _json(
            msgspec.json.encode(
                {"build": build(), "release": release.id, "catalog": release.catalog.hash, "models": models}
            )
        )

    @app.get("/metrics", **openapi.METRICS)
    async def metrics() -> Response:
        runtime.exporter.flush()
        return Response(await asyncio.to_thread(runtime.exporter.page), media_type=PAGE_TYPE)


async def _body(request: Request, limit: int) -> bytes:
    """The body, read no further than its limit. Raises ApiError: 413 for too large a one, 408 for too slow a one."""
    length = request.headers.get("content-length", "")
    if len(length) > 9 or (length.isdecimal() and int(length) > limit):
        raise too_large(limit)
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body = body + chunk if body else chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise ApiError(408, "slow_body", "The body took too long to arrive.") from None
    return body


def _add_errors(app: FastAPI) -> None:
    async def told(request: Request, error: ApiError) -> Response:
        return _error(error)

    async def routing(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        code, message = {
            404: ("not_found", "There is no such path. See /docs."),
            405: ("method_not_allowed", "This path does not take that method. See /docs."),
        }.get(status, ("http", "The request can't be answered."))
        return _error(ApiError(status, code, message), error.headers)

    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return _error(ApiError(400, "disconnected", "The client went away before its body was complete."))

    async def failed(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.scope["route"].path if "route" in request.scope else None)
        return _error(ApiError(500, "internal", "This is a bug of the server."))

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _error(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    return Response(error.body(), error.status, headers, media_type="application/json")


def build() -> str:
    """What was built: the image's SEGUE_BUILD, else the installed version."""
    if named := os.environ.get("SEGUE_BUILD"):
        return named
    try:
        return version("segue")
    except PackageNotFoundError:
        return "unknown"

"""The web application: routes, body limits, and one form for every error. It decides nothing itself.

The decision route is answered before routing and middleware (`serving.deciding.path`); the same route is here too, as
FastAPI would have it: it is what the document at /openapi.json describes, and what the short way is held against.
"""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import events, openapi
from serving.about import build
from serving.access import ANY, Caller
from serving.deciding import decide, path
from serving.errors import ApiError, gone, internal, slow_body
from serving.figures.exposition import PAGE_TYPE
from serving.http.errand import Direct
from serving.http.exchange import ARRIVED
from serving.runtime import Runtime
from serving.schemas import DEADLINE, MAX_DECISION_BYTES, MAX_EVENTS_BYTES, check_length, read_patience, too_large
from stores.api_keys import DECIDE, EVENTS, METRICS

TITLE = "Segue"
NAMES = {
    path.PATH: path.ROUTE,
    "/v1/events": "events",
    **{f"/{name}": name for name in ("healthz", "readyz", "version", "metrics", "docs", "openapi.json")},
}
"""Of the routes in metrics; whatever else is asked for is `other`."""

log = structlog.get_logger()


class Application(FastAPI):
    """FastAPI with a short way to the decision route."""

    def __init__(self, runtime: Runtime, *, fast: bool, **more: Any) -> None:
        super().__init__(**more)
        self._runtime, self._fast = runtime, fast
        self.direct: Direct | None = partial(path.direct, runtime) if fast else None
        """How connections of our own take requests for decisions here past ASGI (`serving.http.errand`)."""

    async def __call__(self, scope: path.Scope, receive: path.Receive, send: path.Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif self._fast and scope["path"] == path.PATH and scope["method"] == "POST":
            await path.answer(self._runtime, scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: path.Scope, receive: path.Receive, send: path.Send) -> None:
        """The ordinary way, with its answer in the figures."""
        started = perf_counter()

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                route = NAMES.get(scope["path"], "other")
                self._runtime.metrics.answered(route, message["status"], perf_counter() - started)
            await send(message)

        await super().__call__(scope, receive, sending)


def create_app(runtime: Runtime, *, fast: bool = True) -> Application:
    """The API, version 1, over a runtime that it starts and stops. `fast`: whether decisions go the short way."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.stop()

    app = Application(
        runtime, fast=fast, title=TITLE, description=openapi.ABOUT, version=build(), lifespan=lifespan, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    _add_errors(app)
    _add_routes(app, runtime)
    _add_page(app)
    openapi.install(app)
    return app


def _add_page(app: FastAPI) -> None:
    """The page of the document, which needs no script from a public address."""
    pages = FastAPIOffline(title=TITLE, redoc_url=None)
    app.router.routes.extend(one for one in pages.routes if one.path != app.openapi_url)  # type: ignore[attr-defined]


def _add_routes(app: FastAPI, runtime: Runtime) -> None:
    def admitted(scope: str) -> Any:
        async def admit(request: Request) -> Caller:
            return runtime.access.admit(_bytes(request, "authorization"), scope)

        return Depends(admit)

    @app.post(path.PATH, **openapi.DECISIONS)
    async def decisions(request: Request, caller: Annotated[Caller, admitted(DECIDE)]) -> Response:
        patience = read_patience(_bytes(request, DEADLINE))
        body = await _body(request, MAX_DECISION_BYTES)
        found = await decide.made(runtime, body, caller, patience, request.scope.get(ARRIVED))
        path.written(runtime, found)
        path.counted(runtime, found)
        return _json(found.answer)

    @app.post("/v1/events", dependencies=[admitted(EVENTS)], **openapi.EVENTS)
    async def take_events(request: Request) -> Response:
        return _json(await events.answer(runtime, await _body(request, MAX_EVENTS_BYTES)))

    @app.get("/healthz", **openapi.HEALTHZ)
    async def healthz() -> Response:
        return _json(b'{"status":"alive"}')

    @app.get("/readyz", **openapi.READYZ)
    async def readyz() -> Response:
        if runtime.draining:
            raise ApiError(503, "draining", "The server is shutting down.")
        if not runtime.access.lets_somebody_in:
            raise ApiError(503, "keys_unreadable", "The server can't read its keys, and lets nobody in until it can.")
        if not runtime.is_ready:
            raise ApiError(503, "no_release", "No release and no catalog is loaded.")
        return _json(msgspec.json.encode({"status": "ready", "release": runtime.current.release.id}))

    @app.get("/version", dependencies=[admitted(ANY)], **openapi.VERSION)
    async def versions() -> Response:
        return _json(msgspec.json.encode(runtime.about()))

    @app.get("/metrics", dependencies=[admitted(METRICS)], **openapi.METRICS)
    async def metrics() -> Response:
        runtime.exporter.flush()
        return Response(await asyncio.to_thread(runtime.exporter.page), media_type=PAGE_TYPE)


async def _body(request: Request, limit: int) -> bytes:
    """The body, read no further than its limit. Raises ApiError: 413 for too large a one, 408 for too slow a one."""
    check_length(_bytes(request, "content-length"), limit)
    body = b""
    try:
        async with asyncio.timeout(path.BODY_SECONDS):
            async for chunk in request.stream():
                body = body + chunk if body else chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise slow_body() from None
    return body


def _bytes(request: Request, name: str) -> bytes | None:
    """A header as it came."""
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1")


def _add_errors(app: FastAPI) -> None:
    async def told(request: Request, error: ApiError) -> Response:
        return _error(error)

    async def routing(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        code, message = {
            404: ("not_found", "There is no such path. See /docs."),
            405: ("method_not_allowed", "This path does not take that method. See /docs."),
        }.get(status, ("http", "The request can't be answered."))
        return _error(ApiError(status, code, message, headers=error.headers))

    async def left(request: Request, error: ClientDisconnect) -> Response:
        return _error(gone())

    async def failed(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.scope["route"].path if "route" in request.scope else None)
        return _error(internal())

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, failed)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _error(error: ApiError) -> Response:
    return Response(error.body(), error.status, error.headers, media_type="application/json")

"""The decision route, answered before FastAPI's routing and middleware: its shortest way through ASGI.

What comes of it, byte for byte, is what the ordinary route of `serving.app` gives (`create_app(fast=False)`, which a
test holds against this one). It saves what a framework does to a request between the socket and `decide`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from time import perf_counter
from typing import Any

import structlog

from serving import decide
from serving.decide import Made
from serving.errors import ApiError, gone, internal, slow_body
from serving.runtime import Runtime
from serving.schemas import MAX_DECISION_BYTES, check_length, read_patience, too_large
from stores.api_keys import DECIDE

PATH = "/v1/decisions"
ROUTE = "decisions"
"""The route's name in metrics."""
BODY_SECONDS = 10.0
"""How long a client may take to send a body."""

ARRIVED = "segue.arrived"
"""Where the connection puts the moment, by `perf_counter`, at which a request came in."""
PROMISE = "segue.promise"
"""The extension of a connection that keeps the deadlines of bodies and takes an answer after its ASGI call is over:
`reply = promise()`, and some time later `reply(status, headers, body)`, where `headers` may be lines that are ready."""
BODY = "segue.body"
"""The extension that gives a body which is there as a whole, else None: then `receive` tells."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Promise = Callable[[], Callable[[int, Headers | bytes, bytes], None]]

NONE: Mapping[str, Any] = {}
_JSON = (b"content-type", b"application/json")

log = structlog.get_logger()


async def answer(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """One POST to the route."""
    started = scope.get(ARRIVED) or perf_counter()
    extensions = scope.get("extensions", NONE)
    promise = extensions.get(PROMISE)
    try:
        found = await _made(runtime, scope, receive, extensions)
    except ApiError as error:
        await _refuse(error, promise, send)
        runtime.metrics.answered(ROUTE, error.status, perf_counter() - started)
        return
    except Exception:
        log.error("request_failed", path=PATH)
        await _refuse(internal(), promise, send)
        runtime.metrics.answered(ROUTE, 500, perf_counter() - started)
        raise  # so that whoever runs the application sees it
    if promise is not None and found.record is not None:
        lines = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(found.answer)
        runtime.journal.keep(found.record, partial(promise(), 200, lines, found.answer))
    else:
        written(runtime, found)
        headers = [(b"content-length", b"%d" % len(found.answer)), _JSON]
        await _send(promise, send, 200, headers, found.answer)
    counted(runtime, found)
    runtime.metrics.answered(ROUTE, 200, perf_counter() - started)


def written(runtime: Runtime, found: Made) -> None:
    """Puts a decision into the log, where it belongs there, before its answer may leave."""
    if found.record is not None:
        runtime.journal.write(found.record)


def counted(runtime: Runtime, found: Made) -> None:
    """Adds a decision to the figures."""
    if found.repeated is not None:
        runtime.metrics.repeated[found.repeated] += 1
    else:
        as_of, shed = found.facts.as_of, found.facts.shed
        runtime.metrics.rungs["model" if shed is None else shed.rung] += 1
        runtime.metrics.decided(found.decision, None if as_of is None else found.now - as_of)


async def _made(runtime: Runtime, scope: Scope, receive: Receive, extensions: Mapping[str, Any]) -> Made:
    """Raises ApiError for a request that can't be answered with a decision."""
    authorization = deadline = length = None
    for name, value in scope["headers"]:  # of a header that comes twice, the first counts
        if name == b"authorization" and authorization is None:
            authorization = value
        elif name == b"content-length" and length is None:
            length = value
        elif name == b"segue-deadline" and deadline is None:
            deadline = value
    caller = runtime.access.admit(authorization, DECIDE)
    patience = read_patience(deadline)
    check_length(length, MAX_DECISION_BYTES)
    whole = extensions.get(BODY)
    body = whole() if whole is not None else None
    if body is None:
        body = await _body(receive, PROMISE in extensions)
    elif len(body) > MAX_DECISION_BYTES:
        raise too_large(MAX_DECISION_BYTES)
    return await decide.made(runtime, body, caller, patience, scope.get(ARRIVED))


async def _body(receive: Receive, is_guarded: bool) -> bytes:
    """The body, read no further than its limit. Raises ApiError: 413 for too large a one, 408 for too slow a one."""
    if is_guarded:
        return await _read(receive)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive)
    except TimeoutError:
        raise slow_body() from None


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise gone()
        if part := message.get("body"):
            body = body + part if body else part
            if len(body) > MAX_DECISION_BYTES:
                raise too_large(MAX_DECISION_BYTES)
        if not message.get("more_body"):
            return body


async def _refuse(error: ApiError, promise: Promise | None, send: Send) -> None:
    body = error.body()
    more = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    await _send(promise, send, error.status, [*more, (b"content-length", b"%d" % len(body)), _JSON], body)


async def _send(promise: Promise | None, send: Send, status: int, headers: Headers, body: bytes) -> None:
    if promise is not None:
        promise()(status, headers, body)
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

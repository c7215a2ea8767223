"""The decision route, answered before FastAPI's routing and middleware: straight from a connection of our own, or by
the shortest way through ASGI for the servers of others.

What comes of either, byte for byte, is what the ordinary route of `serving.app` gives (`create_app(fast=False)`, which
a test holds against them). They save what a framework does to a request between the socket and `decide`.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

import structlog

from serving.deciding import decide
from serving.deciding.begun import Made, begin
from serving.errors import ApiError, gone, internal, slow_body
from serving.http.errand import PATH, Errand
from serving.http.exchange import ARRIVED
from serving.runtime import Runtime
from serving.schemas import MAX_DECISION_BYTES, check_length, read_patience, too_large
from stores.api_keys import DECIDE

ROUTE = "decisions"
"""The route's name in metrics."""
BODY_SECONDS = 10.0
"""How long a client may take to send a body."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")

log = structlog.get_logger()


async def direct(runtime: Runtime, errand: Errand) -> None:
    """One request as a connection of our own brings it. Its answer may leave later, once its record is in the log."""
    try:
        caller = runtime.access.admit(errand.authorization, DECIDE)
        patience = read_patience(errand.deadline)
        if len(errand.body) > MAX_DECISION_BYTES:
            raise too_large(MAX_DECISION_BYTES)
        request = begin(runtime, errand.body, caller, patience, errand.arrived)
        if request.is_plain():  # here, and not in a coroutine of its own
            found = request.at_once(await request.ask())
            if type(found) is not Made:
                found = await found
        else:
            found = await decide.settled(request)
    except Exception as error:
        told = _told(error)
        body = told.body()
        headers = b"".join(b"%b: %b\r\n" % header for header in _headers(told, body))
        errand.ready(told.status, headers, body)
        errand.send()
        runtime.metrics.answered(ROUTE, told.status, perf_counter() - errand.arrived)
        if told is not error:
            raise  # so that whoever runs the application sees it
        return
    headers = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(found.answer)
    errand.ready(200, headers, found.answer)
    if found.record is not None:
        runtime.journal.keep(found.record, errand.send)
    else:
        errand.send()
    served(runtime, found, perf_counter() - errand.arrived)


async def answer(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """One POST to the route."""
    started = scope.get(ARRIVED) or perf_counter()
    try:
        found = await _made(runtime, scope, receive)
    except Exception as error:
        told = _told(error)
        body = told.body()
        await _send(send, told.status, _headers(told, body), body)
        runtime.metrics.answered(ROUTE, told.status, perf_counter() - started)
        if told is not error:
            raise
        return
    written(runtime, found)
    await _send(send, 200, [(b"content-length", b"%d" % len(found.answer)), _JSON], found.answer)
    served(runtime, found, perf_counter() - started)


def written(runtime: Runtime, found: Made) -> None:
    """Puts a decision into the log, where it belongs there, before its answer may leave."""
    if found.record is not None:
        runtime.journal.write(found.record)


def counted(runtime: Runtime, found: Made) -> None:
    """Adds a decision to the figures."""
    if found.repeated is not None:
        runtime.metrics.repeated[found.repeated] += 1
    else:
        runtime.metrics.made(found.decision, found.facts, found.now)


def served(runtime: Runtime, found: Made, seconds: float) -> None:
    """Adds a decision to the figures, and the answer to it, which took so many seconds."""
    if found.repeated is None:
        runtime.metrics.served(ROUTE, found.decision, found.facts, found.now, seconds)
    else:
        counted(runtime, found)
        runtime.metrics.answered(ROUTE, 200, seconds)


async def _made(runtime: Runtime, scope: Scope, receive: Receive) -> Made:
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
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(receive)
    except TimeoutError:
        raise slow_body() from None
    return await decide.made(runtime, body, caller, patience, scope.get(ARRIVED))


async def _read(receive: Receive) -> bytes:
    """The body, read no further than its limit. Raises ApiError."""
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


def _told(error: Exception) -> ApiError:
    """What a client is told of an error."""
    if isinstance(error, ApiError):
        return error
    log.error("request_failed", path=PATH)
    return internal()


def _headers(error: ApiError, body: bytes) -> Headers:
    more = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return [*more, (b"content-length", b"%d" % len(body)), _JSON]


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

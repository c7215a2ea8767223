"""Requests to an ASGI application with nothing in between: every byte and header of both sides is the test's."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Asked:
    """One request. `chunks`: the parts of the body, of which the last may never come (`leaves`)."""

    chunks: Sequence[bytes] = (b"",)
    headers: Headers = ()
    method: str = "POST"
    path: str = "/v1/decisions"
    leaves: bool = False
    """Whether the client goes away before the end of its body."""
    stalls: bool = False
    """Whether the last part of the body never comes."""


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Headers
    body: bytes
    raised: str | None = field(default=None)
    """The type of what the application raised after it had answered."""


async def ask(app: Callable[..., Any], asked: Asked, *, promises: bool = False) -> Answered:
    """The answer. `promises`: the connection takes answers that come later (`serving.path.PROMISE`)."""
    loop = asyncio.get_running_loop()
    promised: asyncio.Future[tuple[int, Headers, bytes]] = loop.create_future()
    is_promised = False
    sent: list[dict[str, Any]] = []
    messages = _messages(asked)

    async def receive() -> dict[str, Any]:
        if (message := next(messages)) is None:
            await asyncio.Event().wait()
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def promise() -> Callable[..., None]:
        nonlocal is_promised
        is_promised = True
        return lambda status, headers, body: promised.set_result((status, _pairs(headers), body))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("segue", 80),
        "client": ("127.0.0.1", 1),
        "headers": list(asked.headers),
    }
    if promises:
        scope["extensions"] = {"segue.promise": promise}
    raised = None
    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001  whatever comes is a part of what the application does
        raised = type(error).__name__
    if is_promised:
        return Answered(*await asyncio.wait_for(promised, 5), raised)
    begin, *parts = sent
    body = b"".join(part.get("body", b"") for part in parts)
    assert not parts[-1].get("more_body")
    return Answered(begin["status"], tuple(tuple(one) for one in begin["headers"]), body, raised)


def _pairs(headers: Sequence[tuple[bytes, bytes]] | bytes) -> Headers:
    """Also of headers that came as lines, ready to be sent."""
    if isinstance(headers, bytes):
        return tuple((name, value) for name, _, value in (one.partition(b": ") for one in headers.splitlines()))
    return tuple(headers)


def _messages(asked: Asked) -> Iterator[dict[str, Any] | None]:
    *first, last = asked.chunks
    for chunk in first:
        yield {"type": "http.request", "body": chunk, "more_body": True}
    if asked.stalls:
        yield None
    if not asked.leaves:
        yield {"type": "http.request", "body": last, "more_body": False}
    while True:
        yield {"type": "http.disconnect"}

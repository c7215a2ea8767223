"""Requests to an application with nothing in between: every byte and header of both sides is the test's."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from serving.http.errand import PATH, Errand
from serving.http.exchange import ARRIVED

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
    arrived: float | None = None
    """When it came in, by `perf_counter`."""


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Headers
    body: bytes
    raised: str | None = field(default=None)
    """The type of what the application raised after it had answered."""


async def ask(app: Callable[..., Any], asked: Asked) -> Answered:
    """The answer by ASGI."""
    sent: list[dict[str, Any]] = []
    messages = _messages(asked)

    async def receive() -> dict[str, Any]:
        if (message := next(messages)) is None:
            await asyncio.Event().wait()
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

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
    if asked.arrived is not None:
        scope[ARRIVED] = asked.arrived
    raised = None
    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001  whatever comes is a part of what the application does
        raised = type(error).__name__
    begin, *parts = sent
    body = b"".join(part.get("body", b"") for part in parts)
    assert not parts[-1].get("more_body")
    return Answered(begin["status"], tuple(tuple(one) for one in begin["headers"]), body, raised)


async def ask_directly(app: Any, asked: Asked) -> Answered:
    """The answer to an errand, for which a request has to come whole; one that does not is asked by ASGI."""
    told = dict(reversed([(name, value) for name, value in asked.headers]))
    if asked.leaves or asked.stalls or b"content-length" in told or (asked.method, asked.path) != ("POST", PATH):
        return await ask(app, asked)
    connection = Connected()
    arrived = perf_counter() if asked.arrived is None else asked.arrived
    body = b"".join(asked.chunks)
    errand = Errand(connection, arrived, told.get(b"authorization"), told.get(b"segue-deadline"), body)
    steps, raised = app.direct(errand), None
    try:
        await steps
    except Exception as error:  # noqa: BLE001  whatever comes is a part of what the application does
        raised = type(error).__name__
    head, _, body = (await asyncio.wait_for(connection.written, 5)).partition(b"\r\n\r\n")
    first, *lines = head.splitlines()
    headers = tuple((name, value) for name, _, value in (one.partition(b": ") for one in lines))
    return Answered(int(first.split()[1]), headers, body, raised)


class Connected:
    """What an errand needs of its connection, and all that it writes to it."""

    def __init__(self) -> None:
        self.transport = self.server_state = self
        self.default_headers: list[tuple[bytes, bytes]] = []
        self.written: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        self.written.set_result(data)

    def standing(self, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bool]:
        return b"", False

    def answered(self, errand: Errand) -> None:
        assert errand.is_answered


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

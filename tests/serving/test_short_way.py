"""Errands, which a worker answers past ASGI and without a task, over real sockets: whatever may come of one."""

import asyncio
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest
import uvloop
from raw_http import chunked, line_to, post
from uvicorn import Config
from uvicorn.server import ServerState

from serving.http.protocol import protocol
from serving.pressure import Pressure

BODY = b'{"a": 1}'
JSON = b"content-type: application/json\r\ncontent-length: %d\r\n"


class Application:
    """Does what the body says, and tells whether it ran in a task."""

    def __init__(self) -> None:
        self.tasks: list[object] = []
        self.errands: list[tuple[bytes | None, bytes | None, bytes]] = []

    async def __call__(self, scope, receive, send):
        self.tasks.append(asyncio.current_task())
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def direct(self, errand):
        loop = asyncio.get_running_loop()
        self.tasks.append(asyncio.current_task())
        self.errands.append((errand.authorization, errand.deadline, errand.body))
        match errand.body:
            case b"waits":
                for _ in range(3):
                    await asyncio.sleep(0)
                    await asyncio.sleep(0.001)
            case b"cancelled":
                gone = loop.create_future()
                loop.call_soon(gone.cancel)
                await gone
            case b"failed":
                bad = loop.create_future()
                loop.call_soon(bad.set_exception, ZeroDivisionError())
                await bad
            case b"caught":
                bad = loop.create_future()
                loop.call_soon(bad.set_exception, ZeroDivisionError())
                with pytest.raises(ZeroDivisionError):
                    await bad
        errand.ready(200, JSON % len(errand.body), errand.body)
        errand.send()
        errand.send()  # which changes nothing


@pytest.fixture
def worker():
    application, pressure, state = Application(), Pressure(), ServerState()
    told = SimpleNamespace(application=application, pressure=pressure, state=state)
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        told.loop = asyncio.get_running_loop()
        config = Config(application, lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        made = protocol(pressure)
        server = await told.loop.create_server(
            lambda: made(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        told.http = SimpleNamespace(base_url=SimpleNamespace(host="127.0.0.1", port=server.sockets[0].getsockname()[1]))
        ready.set()
        await done.wait()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait()
    yield told
    told.loop.call_soon_threadsafe(done.set)
    thread.join(10)


def test_it_runs_without_a_task_from_wait_to_wait(worker):
    with line_to(worker) as line:
        for body in (b"echo", b"waits", b"caught"):
            line.send(post(body))
            answer = line.answer()
            assert (answer.status, answer.body, answer.headers["content-length"]) == (200, body, str(len(body)))
    assert worker.application.tasks == [None] * 3
    assert not worker.state.tasks
    assert not worker.pressure.in_hand


@pytest.mark.parametrize("body", [b"failed", b"cancelled"])
def test_one_that_fails_where_it_waited_is_a_500_in_the_one_form_and_the_last_of_its_connection(worker, body):
    with line_to(worker) as line:
        line.send(post(body))
        answer = line.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (500, "internal", "close")
        assert line.answer() is None
    assert not worker.state.tasks
    assert not worker.pressure.in_hand


def test_many_at_once_on_one_connection_are_answered_in_their_order(worker):
    sent = [b"waits" if number < 2 else b"%d" % number for number in range(40)]
    with line_to(worker) as line:
        line.send(b"".join(post(body) for body in sent))
        assert [line.answer().body for _ in sent] == sent


def test_one_whose_client_goes_meanwhile_is_seen_through(worker):
    with line_to(worker) as line:
        line.send(post(b"waits"))
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # goes with a reset
    with line_to(worker) as line:
        line.send(post(b"waits"))
        assert line.answer().body == b"waits"
    assert not worker.state.tasks
    assert not worker.pressure.in_hand


HEADERS = [b"Authorization: Bearer one", b"authorization: Bearer two", b"Segue-Deadline: 25ms"]


@pytest.mark.parametrize(
    ("data", "is_kept"),
    [
        (post(BODY, headers=HEADERS), True),
        (post(BODY, headers=[HEADERS[0], HEADERS[2], b"Connection: Keep-Alive"]), True),
        (post(BODY, headers=[*HEADERS, b"Connection: close"]), False),
        (post(BODY, "/v1/decisions?why", headers=HEADERS), True),
        (post(BODY, "/v1/decision%73", headers=HEADERS), True),
        (post(BODY, headers=[*HEADERS, b"Upgrade: h2c", b"Connection: upgrade"]), True),
        (chunked(BODY, 3).replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(HEADERS) + b"\r\n\r\n", 1), True),
        (post(BODY, headers=HEADERS).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (b"\r\n" + post(BODY, headers=HEADERS), True),
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_however_one_comes_it_says_the_same(worker, data, is_kept, steps):
    """Whole or in pieces, plain or not; and where it may, the connection goes on."""
    with line_to(worker) as line:
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(data) // steps)
        for start in range(0, len(data), size):
            line.send(data[start : start + size])
            time.sleep(0.001 if steps < 1000 else 0.0)
        assert (answer := line.answer()).body == BODY
        assert ("connection" not in answer.headers) == is_kept
        if is_kept:
            line.send(post(b"next"))
            assert line.answer().body == b"next"
    assert worker.application.errands[0] == (b"Bearer one", b"25ms", BODY)
    assert worker.application.tasks == [None] * (1 + is_kept)


@pytest.mark.parametrize(
    "data",
    [
        post(BODY, "/echo"),
        post(BODY, headers=[b"Expect: 100-continue"]),
        post(b"x" * 70_000),
        post(BODY).replace(b"POST", b"PUT"),
        post(BODY).replace(b"Content-Length: ", b"Content-Length: 0000000000"),
    ],
)
def test_all_others_get_a_task(worker, data):
    with line_to(worker) as line:
        line.send(data)
        assert line.answer().status == 200, "not 100: the body is there"
    (task,) = worker.application.tasks
    assert task is not None

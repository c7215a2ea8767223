"""Requests that a worker answers without a task of their own, over real sockets: whatever may come of one."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
import uvloop
from raw_http import line_to, post
from uvicorn import Config
from uvicorn.server import ServerState

from serving.pressure import Pressure
from serving.protocol import protocol

BODY = b'{"a": 1}'
JSON = b"content-type: application/json\r\ncontent-length: %d\r\n"


class Application:
    """Does what the path says, and tells whether it ran in a task."""

    def __init__(self) -> None:
        self.tasks: list[object] = []

    async def __call__(self, scope, receive, send):
        await self._answer(scope, receive, send)

    def short(self, scope, receive, send):
        return self._answer(scope, receive, send) if scope["path"].startswith("/short/") else None

    async def _answer(self, scope, receive, send):
        loop = asyncio.get_running_loop()
        self.tasks.append(asyncio.current_task())
        body = scope["extensions"]["segue.body"]()
        kind = scope["path"].rpartition("/")[2]
        if kind == "waits":
            for _ in range(3):
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
        if kind == "cancelled":
            gone = loop.create_future()
            loop.call_soon(gone.cancel)
            await gone
        if kind == "failed":
            bad = loop.create_future()
            loop.call_soon(bad.set_exception, ZeroDivisionError())
            await bad
        if kind == "caught":
            bad = loop.create_future()
            loop.call_soon(bad.set_exception, ZeroDivisionError())
            with pytest.raises(ZeroDivisionError):
                await bad
        scope["extensions"]["segue.promise"]()(200, JSON % len(body), body)


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


def test_it_runs_without_a_task_from_wait_to_wait_and_gets_the_body(worker):
    with line_to(worker) as line:
        for kind in ("echo", "waits", "caught"):
            line.send(post(BODY, f"/short/{kind}"))
            answer = line.answer()
            assert (answer.status, answer.body, answer.headers["content-length"]) == (200, BODY, "8")
    assert worker.application.tasks == [None] * 3
    assert not worker.state.tasks
    assert not worker.pressure.in_hand


@pytest.mark.parametrize("kind", ["failed", "cancelled"])
def test_one_that_fails_where_it_waited_is_a_500_in_the_one_form_and_the_last_of_its_connection(worker, kind):
    with line_to(worker) as line:
        line.send(post(BODY, f"/short/{kind}"))
        answer = line.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (500, "internal", "close")
        assert line.answer() is None
    assert not worker.state.tasks
    assert not worker.pressure.in_hand


def test_many_at_once_on_one_connection_are_answered_in_their_order(worker):
    sent = [b"%d" % number for number in range(40)]
    with line_to(worker) as line:
        line.send(b"".join(post(body, "/short/waits" if body < b"2" else "/short/echo") for body in sent))
        assert [line.answer().body for _ in sent] == sent


def test_all_others_get_a_task(worker):
    with line_to(worker) as line:
        line.send(post(BODY, "/echo"))
        assert line.answer().body == BODY
    (task,) = worker.application.tasks
    assert task is not None

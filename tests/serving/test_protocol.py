"""The connections of a worker, over real sockets, with an application of a few lines and limits of tenths of seconds.

`tests/faults/test_hostile.py` sends a whole server what is no HTTP; here is what hangs on limits, load and the end.
"""

import asyncio
import gc
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
import uvloop
from raw_http import line_to, post
from uvicorn import Config
from uvicorn.server import ServerState

from serving.http.guard import SWEEP_EVERY, Guard, Limits
from serving.http.protocol import Protocol, protocol
from serving.pressure import Pressure

BODY = b'{"a": 1}'


async def application(scope, receive, send):
    """What the path says."""
    kind = scope["path"].rpartition("/")[2]
    if kind == "hangs":
        await asyncio.sleep(60.0)
    message = await receive()
    if kind == "fails":
        raise ZeroDivisionError
    length = [] if kind == "parts" else [(b"content-length", b"%d" % len(message["body"]))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if kind == "half":
        raise ZeroDivisionError
    if kind == "parts":
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await send({"type": "http.response.body", "body": message["body"]})


async def direct(errand):
    """Answers with the body, some time after it has returned."""
    length = len(errand.body)
    errand.ready(200, b"content-length: %d\r\ncontent-type: text/plain\r\n" % length, errand.body)
    asyncio.get_running_loop().call_later(0.01, errand.send)


application.direct = direct
LATER = "/v1/decisions"


class Worker:
    """The protocol on a loop in a thread."""

    def __init__(self, limits: Limits) -> None:
        self.pressure, self.state = Pressure(), ServerState()
        self._limits, self._ready, self._done = limits, threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        self._ready.wait()
        self.http = SimpleNamespace(base_url=SimpleNamespace(host="127.0.0.1", port=self.port))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        config = Config(application, lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        made = protocol(self.pressure, self._limits)
        self.guard = made.guard
        server = await self.loop.create_server(
            lambda: made(config=config, server_state=self.state, app_state={}), "127.0.0.1", 0
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        server.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        for task in list(self.state.tasks):
            task.cancel()

    def tell(self, call, *words) -> None:
        """Does something on the loop, and waits for it."""

        async def doing() -> None:
            call(*words)

        asyncio.run_coroutine_threadsafe(doing(), self.loop).result(10)

    def stop(self) -> None:
        self.tell(self._done.set)
        self._thread.join(10)


@contextmanager
def working(**limits):
    worker = Worker(Limits(**limits))
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture(scope="module")
def worker():
    with working() as worker:
        yield worker


def until(holds) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_may_come_after_the_application_has_returned_and_the_next_request_waits_for_it(worker):
    with line_to(worker) as line:
        line.send(post(BODY, LATER) + post(b"second", "/echo"))
        assert [line.answer().body, line.answer().body] == [BODY, b"second"]


def test_an_application_that_fails_is_a_500_in_the_one_form_and_the_last_of_its_connection(worker):
    with line_to(worker) as line:
        line.send(post(BODY, "/fails"))
        answer = line.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (500, "internal", "close")
        assert line.answer() is None


def test_half_an_answer_is_never_taken_for_a_whole_one(worker):
    with line_to(worker) as line:
        line.send(post(BODY, "/half"))
        with pytest.raises(AssertionError, match="half an answer"):
            line.answer()


def test_an_answer_without_a_length_comes_in_chunks_and_to_the_old_by_closing(worker):
    with line_to(worker) as line:
        line.send(post(BODY, "/parts") + post(BODY, "/echo", headers=[b"Connection: close"]))
        told = b""
        while data := line.socket.recv(1 << 16):
            told += data
    assert b"transfer-encoding: chunked\r\n\r\n4\r\npart\r\n8\r\n" + BODY + b"\r\n0\r\n\r\nHTTP/1.1 200" in told
    with line_to(worker) as line:
        line.send(post(BODY, "/parts").replace(b"HTTP/1.1", b"HTTP/1.0"))
        told = b""
        while data := line.socket.recv(1 << 16):
            told += data
    assert told.endswith(b"connection: close\r\n\r\npart" + BODY)


def test_a_head_request_gets_the_head_alone(worker):
    with line_to(worker) as line:
        line.send(post(BODY, "/echo", headers=[b"Connection: close"]).replace(b"POST", b"HEAD"))
        told = b""
        while data := line.socket.recv(1 << 16):
            told += data
    assert told.endswith(b"\r\n\r\n")
    assert b"content-length: 8" in told


def test_one_connection_too_many_is_told_so_and_let_go():
    with working(connections=3) as worker, line_to(worker) as one, line_to(worker) as two, line_to(worker) as three:
        for line in (one, two, three):
            line.send(post(BODY, "/echo"))
            assert line.answer().status == 200
        with line_to(worker) as fourth:
            answer = fourth.answer()
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_many_connections", "1")
            assert fourth.answer() is None
        one.send(post(BODY, "/echo"))
        assert one.answer().status == 200
        assert worker.pressure.refused["other", 503] == 1


def test_a_connection_that_is_idle_for_long_is_closed_and_one_that_is_answered_slowly_is_not():
    with working(idle=0.2, head=0.2, body=0.2) as worker, line_to(worker) as quiet, line_to(worker) as patient:
        patient.send(post(BODY, "/hangs"))
        assert quiet.is_closed_within(10.0)
        assert not patient.is_closed_within(2 * SWEEP_EVERY)


def test_where_the_worker_itself_was_held_up_no_client_is_to_blame(monkeypatch):
    connection = SimpleNamespace(checked=[])
    connection.check = connection.checked.append
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("serving.http.guard.perf_counter", lambda: clock.now)
    loop = SimpleNamespace(call_later=lambda *_: None)
    guard = Guard(Pressure(), Limits())
    guard.watch([connection], loop)
    for clock.now in (1.0, 2.0, 30.0, 31.0):
        guard._sweep(loop)
    assert connection.checked == [1.0, 2.0, 31.0], "at 30 the process had been stopped, or the loop was busy"


def test_a_worker_that_is_too_far_behind_refuses_decisions_and_events_but_says_how_it_is(worker):
    worker.pressure.in_hand, worker.pressure.seconds = {object()}, 1.0
    try:
        with line_to(worker) as line:
            line.send(post(BODY, "/v1/decisions") + post(BODY, "/v1/events") + post(BODY, "/metrics"))
            first, second, third = (line.answer() for _ in range(3))
    finally:
        worker.pressure.in_hand, worker.pressure.seconds = set(), 0.0
    assert [first.status, second.status, third.status] == [503, 503, 200]
    assert (first.code, first.headers["retry-after"]) == ("overloaded", "1")
    assert worker.pressure.refused["decisions", 503] == worker.pressure.refused["events", 503] == 1
    assert worker.pressure.too_late == 2
    with line_to(worker) as line:
        line.send(post(BODY, "/v1/decisions"))
        assert line.answer().status == 200


def test_who_is_turned_away_again_and_again_is_not_idle():
    with working(idle=0.5) as worker, line_to(worker) as line:
        worker.pressure.in_hand, worker.pressure.seconds = {object()}, 1.0
        until_then = time.monotonic() + 2 * SWEEP_EVERY + 0.2
        while time.monotonic() < until_then:
            line.send(post(BODY, LATER))
            answer = line.answer()
            assert answer is not None, "it was closed as idle"
            assert answer.is_shed
            time.sleep(0.1)


def test_a_server_that_drains_closes_with_each_answer_and_with_each_refusal():
    with working() as worker:
        worker.tell(setattr, worker.state, "default_headers", [(b"date", b"today"), (b"connection", b"close")])
        for path, is_refused in (("/echo", False), (LATER, False), (LATER, True)):
            with line_to(worker) as line:
                if is_refused:
                    worker.pressure.in_hand, worker.pressure.seconds = {object()}, 1.0
                line.send(post(BODY, path))
                answer = line.answer()
                assert (answer.headers["connection"], answer.headers["date"]) == ("close", "today")
                assert line.answer() is None


def test_who_asks_and_never_reads_is_not_read_either_and_let_go_in_the_end():
    """Answers that come later wait for nobody: a client that went on asking had them pile up without end."""
    ask, most = post(b"x" * 60_000, LATER), [0]

    def look() -> None:
        most[0] = max([most[0], *(one.transport.get_write_buffer_size() for one in worker.state.connections)])

    with working(unread=0.5) as worker, line_to(worker, room=4096) as line:
        line.socket.setblocking(False)
        deadline, at = time.monotonic() + 30.0, 0
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                try:
                    at = (at + line.socket.send(ask[at:])) % len(ask)
                except ConnectionError:
                    break
            time.sleep(0.002)
            worker.tell(look)
        else:
            pytest.fail("the connection was kept")
    assert 0 < most[0] < 1_000_000


def test_who_reads_late_gets_every_answer(worker):
    asked, long = 120, b"x" * 60_000
    with line_to(worker, room=4096) as line:
        sending = threading.Thread(target=line.send, args=(post(long, LATER) * asked,))
        sending.start()
        until(lambda: any(one.flow.write_paused for one in worker.state.connections))
        assert {(one.status, one.body) for one in (line.answer() for _ in range(asked))} == {(200, long)}
        sending.join()
        line.send(post(BODY, "/echo"))
        assert line.answer().body == BODY


def test_what_is_in_hand_is_what_was_taken_on_and_not_answered(worker):
    before = worker.pressure.answered
    with line_to(worker) as line:
        line.send(post(BODY, "/hangs"))
        until(lambda: len(worker.pressure.in_hand) == 1)
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # goes with a reset
    until(lambda: not worker.pressure.in_hand)
    with line_to(worker) as line:
        line.send(post(BODY, LATER))
        assert line.answer().status == 200
    assert worker.pressure.answered == before + 1
    assert not worker.pressure.in_hand


def test_connections_go_without_the_garbage_collector():
    """Those of clients that leave in the middle, too: what waits for the collector costs all requests at once."""
    kinds = (
        post(BODY, "/echo"),
        post(BODY, LATER),
        b"\0",
        post(BODY, "/echo")[:-3],
        b"GET / HTTP/9.9\r\n\r\n",
    )
    with working() as worker:
        gc.disable()
        try:
            for data in kinds * 5:
                with socket.create_connection(("127.0.0.1", worker.port)) as client:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(1 << 16):
                        pass
            until(lambda: not worker.state.connections)
            worker.tell(lambda: None)
            assert not [one for one in gc.get_objects() if isinstance(one, Protocol) and one.guard is worker.guard]
        finally:
            gc.enable()


def test_what_was_asked_before_a_request_that_is_cut_short_is_answered(worker):
    with line_to(worker) as line:
        line.send(post(b"first", LATER) + post(b"second", LATER) + post(BODY, "/echo")[:-3])
        line.end()
        first, second, third = line.answers()
    assert [first.body, second.body, third.code] == [b"first", b"second", "cut_short"]

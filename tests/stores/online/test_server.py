"""The wire to one server: many callers share one write, and each gets its own answers or learns why it gets none."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic

import pytest
import uvloop
from proxy import proxy
from servers import redis_server

from stores.embedded import embedded_binary, running
from stores.online.server import MOST_ASKED
from stores.online.wire import command, wire

pytestmark = pytest.mark.anyio

PATIENCE = 5.0


@asynccontextmanager
async def wired(url: str, timeout: float = PATIENCE):
    made = wire(url, timeout)
    try:
        yield made
    finally:
        await made.close()


def ask(made, *questions: tuple, within: float = PATIENCE):
    return made.ask(*map(command, questions), due=monotonic() + within)


class Counted:
    """What goes out on a connection."""

    def __init__(self, made) -> None:
        self.writes = []
        send = made._inside.send

        def counted(asked):
            self.writes.append([one.count for one in asked])
            send(asked)

        made._inside.send = counted


async def test_what_is_asked_in_one_turn_goes_out_at_once_and_each_caller_gets_its_own(valkey_url):
    async with wired(valkey_url) as made:
        await ask(made, ("PING",))
        counted = Counted(made)
        asks = [ask(made, *(("ECHO", f"{n}-{k}") for k in range(n % 3 + 1))) for n in range(50)]
        answers = await asyncio.gather(*asks)
        assert answers == [[f"{n}-{k}".encode() for k in range(n % 3 + 1)] for n in range(50)]
        assert counted.writes == [[n % 3 + 1 for n in range(50)]]


async def test_one_refused_command_spoils_no_others_answer(valkey_url):
    async with wired(valkey_url) as made:
        refused, fine = await asyncio.gather(ask(made, ("NONSENSE", "x"), ("ECHO", "too")), ask(made, ("ECHO", "fine")))
        assert isinstance(refused[0], Exception)
        assert (refused[1], fine) == (b"too", [b"fine"])


async def test_a_caller_who_gives_up_keeps_nobody_else_waiting(valkey_url):
    async with wired(valkey_url) as made:
        hasty, patient = ask(made, ("ECHO", "hasty")), ask(made, ("ECHO", "patient"))
        hasty.cancel()
        assert await patient == [b"patient"]


async def test_what_is_given_up_in_the_turn_it_was_asked_is_never_sent(valkey_url):
    async with wired(valkey_url) as made:
        await ask(made, ("DEL", "given-up"))
        ask(made, ("SET", "given-up", "1")).cancel()
        assert await ask(made, ("GET", "given-up")) == [None]


async def test_without_a_server_every_caller_learns_why_and_none_waits(tmp_path):
    async with wired(f"unix://{tmp_path}/nobody.sock") as made:
        answers = await asyncio.gather(*(ask(made, ("GET", "x")) for _ in range(3)))
        assert all(isinstance(answer, OSError) for (answer,) in answers)
        assert ask(made, ("GET", "x")).done(), "whoever comes later learns it at once"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stall_of_our_own_does_not_cost_an_answer_that_has_arrived(new_loop, valkey_url):
    async def story():
        async with wired(valkey_url) as made:
            await ask(made, ("PING",))
            for _ in range(5):
                answers = ask(made, ("ECHO", "here"), within=0.02)
                await asyncio.sleep(0.002)  # it is sent
                time.sleep(0.05)  # past the deadline, with the loop at a standstill
                assert await answers == [b"here"]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())


@pytest.mark.parametrize("fault", [None, ("slow", {"seconds": 0.03, "share": 0.3}), ("cut", {}), ("reset", {})])
async def test_no_answer_ever_reaches_another_question(debian_url, fault):
    """Callers that give up at any moment, deadlines that pass, a way that delays, cuts or resets."""
    random, told, failed = Random(7), 0, 0
    with proxy(debian_url) as between:
        async with wired(between.url, timeout=0.25) as made:

            async def caller(name: int) -> None:
                nonlocal told, failed
                for number in range(30):
                    words = [f"{name}-{number}-{place}" + "x" * random.choice((0, 9, 40_000)) for place in range(3)]
                    asked = ask(made, *(("ECHO", word) for word in words), within=random.choice((0.005, 0.05, 1.0)))
                    if random.random() < 0.3:
                        asyncio.get_running_loop().call_later(random.random() / 100, asked.cancel)
                    with suppress(asyncio.CancelledError):
                        for answer, word in zip(await asked, words, strict=True):
                            failed += isinstance(answer, Exception)
                            if not isinstance(answer, Exception):
                                assert answer == word.encode()
                                told += 1
                    if random.random() < 0.2:
                        await asyncio.sleep(random.random() / 50)

            async def trouble() -> None:
                for _ in range(4):
                    await asyncio.sleep(0.05)
                    with between.fault(fault[0], **fault[1]):
                        await asyncio.sleep(0.02)

            await asyncio.gather(*map(caller, range(16)), *([trouble()] if fault else []))
            assert told
            assert failed or not fault

            async def is_well() -> bool:
                return await ask(made, ("ECHO", "well")) == [b"well"]

            await until(is_well)


async def until(is_so, within: float = 2.0) -> None:
    async with asyncio.timeout(within):
        while not await is_so():
            await asyncio.sleep(0.02)


async def test_nobody_waits_for_a_connection_that_was_lost_and_it_is_there_again_soon(tmp_path):
    with running(tmp_path) as url:
        made = wire(url, 1.0)
        assert await ask(made, ("SET", "kept", "1")) == [b"OK"]

    async def is_told() -> bool:
        asked = ask(made, ("GET", "kept"))
        return asked.done() and isinstance(asked.result()[0], OSError)

    await until(is_told)
    with running(tmp_path):

        async def is_back() -> bool:
            return await ask(made, ("GET", "kept")) == [b"1"]

        await until(is_back)
        await made.close()
        assert isinstance((await ask(made, ("PING",)))[0], OSError), "closed is closed"


async def test_who_asks_never_connects(valkey_url):
    """However many ask while nobody answers, attempts come at their own pace."""
    with proxy(valkey_url) as between:
        async with wired(between.url, timeout=0.25) as made:
            assert await ask(made, ("PING",)) == [b"PONG"]
            with between.fault("reset"):
                before, started = between.connects, monotonic()
                while monotonic() < started + 0.6:
                    asks = [ask(made, ("PING",)) for _ in range(100)]
                    assert all(isinstance(told, OSError) for (told,) in await asyncio.gather(*asks))
                    await asyncio.sleep(0.005)
                assert between.connects - before < 15


async def test_a_server_that_falls_silent_is_left_and_found_again(valkey_url):
    with proxy(valkey_url) as between:
        async with wired(between.url, timeout=0.25) as made:
            assert await ask(made, ("PING",)) == [b"PONG"]
            with between.fault("swallow"):
                started = monotonic()
                late, patient = ask(made, ("PING",), within=0.02), ask(made, ("PING",), within=60.0)
                assert isinstance((await late)[0], TimeoutError)
                (told,) = await patient
                assert isinstance(told, OSError)
                assert not isinstance(told, TimeoutError)
                assert 0.2 < monotonic() - started < 5.0
                assert ask(made, ("PING",)).done(), "nobody waits for a server that hangs"

            async def is_back() -> bool:
                return await ask(made, ("PING",)) == [b"PONG"]

            await until(is_back)


async def test_a_server_that_is_far_behind_is_asked_no_more(tmp_path):
    with redis_server(tmp_path, embedded_binary()) as server:
        async with wired(server.url, timeout=30.0) as made:
            assert await ask(made, ("PING",)) == [b"PONG"]
            with server.hanging():
                many = [ask(made, ("PING",), within=30.0) for _ in range(MOST_ASKED + 1)]
                assert isinstance(many[-1].result()[0], ConnectionRefusedError)
                assert not many[-2].done()
            assert await asyncio.gather(*many[:-1]) == [[b"PONG"]] * MOST_ASKED
            with server.hanging():
                large = [ask(made, ("ECHO", b"x" * 2**20), within=30.0) for _ in range(24)]
                await asyncio.sleep(0.05)
                (told,) = await ask(made, ("PING",))
                assert isinstance(told, ConnectionRefusedError), "what it does not take piles up here"
            assert await asyncio.gather(*large) == [[b"x" * 2**20]] * 24
            assert await ask(made, ("PING",)) == [b"PONG"]


@pytest.mark.parametrize("answer", [b"+PONG\r\n+PONG\r\n", b"+PONG\r\n?\r\n", b"?", b"$4294967296000\r\n"])
async def test_answers_that_nobody_asked_for_and_garbage_end_the_connection(tmp_path, answer):
    async def serve(reader, writer):
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "liar.sock")
    async with wired(f"unix://{tmp_path}/liar.sock", timeout=0.25) as made:
        (told,) = await ask(made, ("GET", "x"))
        assert isinstance(told, Exception)
    server.close()

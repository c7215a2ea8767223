"""The wire to one server: many callers share one write, and each gets its own answers or learns why it gets none."""

import asyncio
import time
from contextlib import asynccontextmanager
from time import monotonic

import pytest
import uvloop

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

"""Many callers share one write, and each gets its own answers."""

import asyncio

import pytest

from stores.online.gathering import Gathering
from stores.online.wire import wire


class Counting:
    """A wire that counts how often it is asked."""

    has_others = False

    def __init__(self, inner):
        self.inner, self.asked = inner, []

    async def ask(self, *commands):
        self.asked.append(len(commands))
        return await self.inner.ask(*commands)

    async def close(self):
        await self.inner.close()


def run(url, story):
    async def told():
        counting = Counting(wire(url, 5.0))
        gathering = Gathering(counting)
        try:
            return await story(gathering), counting.asked
        finally:
            await gathering.close()

    return asyncio.run(told())


def test_what_is_asked_in_one_turn_goes_out_at_once_and_each_caller_gets_its_own(valkey_url):
    async def story(gathering):
        asks = (gathering.ask(*(("ECHO", f"{n}-{k}") for k in range(n % 3 + 1))) for n in range(50))
        return await asyncio.gather(*asks)

    answers, asked = run(valkey_url, story)
    assert answers == [[f"{n}-{k}".encode() for k in range(n % 3 + 1)] for n in range(50)]
    assert asked == [sum(n % 3 + 1 for n in range(50))]


def test_one_refused_command_spoils_no_others_answer(valkey_url):
    async def story(gathering):
        return await asyncio.gather(gathering.ask(("NONSENSE", "x")), gathering.ask(("ECHO", "fine")))

    (refused, fine), _ = run(valkey_url, story)
    assert isinstance(refused[0], Exception)
    assert fine == [b"fine"]


def test_a_caller_who_gives_up_keeps_nobody_else_waiting(valkey_url):
    async def story(gathering):
        hasty = asyncio.create_task(gathering.ask(("ECHO", "hasty")))
        patient = asyncio.create_task(gathering.ask(("ECHO", "patient")))
        await asyncio.sleep(0)
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        return await patient

    answer, _ = run(valkey_url, story)
    assert answer == [b"patient"]


def test_without_a_server_every_caller_learns_why(tmp_path):
    async def story(gathering):
        return await asyncio.gather(*(gathering.ask(("GET", "x")) for _ in range(3)))

    answers, _ = run(f"unix://{tmp_path}/nobody.sock", story)
    assert all(isinstance(answer, Exception) for (answer,) in answers)

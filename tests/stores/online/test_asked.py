"""A question is awaited like a future, and whoever waits goes on at the moment that it is told."""

import asyncio
from contextvars import ContextVar

import pytest
import uvloop

from stores.online.asked import Asked

WHO = ContextVar("who", default="nobody")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


def asked(count: int = 1) -> Asked:
    return Asked(asyncio.get_running_loop(), b"", count, 0.0)


async def from_the_loop(call) -> None:
    """Has a call made where no task is running, as all that comes from a connection is."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: (call(), done.set_result(None)))
    await done


def test_who_waits_goes_on_at_once_in_order_and_in_a_context_of_its_own(runner):
    async def story() -> None:
        one, log = asked(), []

        async def caller(name: str) -> None:
            WHO.set(name)
            log.append((name, await one, WHO.get()))

        callers = [asyncio.create_task(caller(name)) for name in ("ann", "bob")]
        await asyncio.sleep(0)

        def tell() -> None:
            one.tell([b"PONG"])
            assert not log
            one.wake()
            assert log == [("ann", [b"PONG"], "ann"), ("bob", [b"PONG"], "bob")]

        await from_the_loop(tell)
        await asyncio.gather(*callers)
        assert await one == [b"PONG"], "whoever comes later need not wait"

    runner.run(story())


def test_one_that_fails_keeps_no_other_waiting(runner):
    async def story() -> None:
        one, told, wrong = asked(), [], []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: wrong.append(what["exception"]))
        one.add_done_callback(lambda _: 1 / 0)
        one.add_done_callback(told.append)
        one.tell([1])
        await from_the_loop(one.wake)
        assert told == [one]
        assert [type(error) for error in wrong] == [ZeroDivisionError]

    runner.run(story())


def test_it_fails_and_is_given_up_as_a_future_is(runner):
    async def story() -> None:
        failed, given_up, late = asked(2), asked(), asked()
        waits = [asyncio.create_task(asyncio.wait_for(one, 5.0)) for one in (failed, given_up, late)]
        await asyncio.sleep(0)
        failed.fail(error := OSError("gone"))
        assert given_up.cancel()
        assert not given_up.cancel()
        waits[2].cancel()
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert found[0] == [error, error]
        assert [type(one) for one in found[1:]] == [asyncio.CancelledError] * 2
        assert late.cancelled()
        for one in (given_up, late):
            one.tell([1])  # the answer comes all the same
            one.wake()
            one.fail(error)
            with pytest.raises(asyncio.CancelledError):
                one.result()
        assert failed.exception() is None
        with pytest.raises(asyncio.InvalidStateError):
            asked().result()

    runner.run(story())


def test_gather_and_wait_take_it_for_a_future(runner):
    async def story() -> None:
        here, there, never = asked(), asked(), asked()
        assert asyncio.isfuture(here)
        asyncio.get_running_loop().call_soon(lambda: (here.tell([1]), here.wake()))
        asyncio.get_running_loop().call_later(0.01, lambda: (there.tell([2]), there.wake()))
        assert await asyncio.gather(here, there) == [[1], [2]]
        done, pending = await asyncio.wait({here, never}, timeout=0.01)
        assert (done, pending) == ({here}, {never})
        assert never.remove_done_callback(print) == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(never, 0.01)
        assert never.cancelled()

    runner.run(story())

"""A deadline is fair to an answer that has arrived already."""

import asyncio
import socket
import time

import pytest
import uvloop

from stores.online.deadline import within


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stall_of_our_own_does_not_cost_an_answer_that_has_arrived(new_loop):
    async def story():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            reading = asyncio.create_task(within(0.01, asyncio.get_running_loop().sock_recv(ours, 9)))
            await asyncio.sleep(0)
            theirs.send(b"an answer")
            time.sleep(0.03)  # past the deadline, with the loop at a standstill
            assert await reading == b"an answer"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())

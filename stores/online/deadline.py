"""A deadline that is fair to an answer that has arrived already."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, call: Awaitable[T]) -> T:
    """Awaits `call` for so many seconds; raises TimeoutError after that.

    Unlike asyncio.timeout it is fair when this process itself was held up: then the timer and the answer are due in the
    same turn of the loop, and the timer must not win over an answer that has arrived already.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:
        # Two steps: what the timer does takes effect a turn later than what has arrived.
        timer = loop.call_later(seconds, lambda: deadline.reschedule(loop.time()))
        try:
            return await call
        finally:
            timer.cancel()

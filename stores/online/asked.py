"""A question on its way, and whoever waits for what comes of it."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

Waiter = Callable[["Asked"], object]

_GIVEN_UP: list[Any] = []
"""In place of answers that nobody wants any more."""


class Asked:
    """Some commands that go out together. Awaited, it gives the list of their answers.

    Tasks, `gather` and `wait` take it for a future. It is cheaper than one: whoever waits goes on at once when `wake`
    is called, and not in a later turn of the event loop.
    """

    __slots__ = ("_answers", "_asyncio_future_blocking", "_loop", "_waiters", "count", "due", "packed")

    def __init__(self, loop: asyncio.AbstractEventLoop, packed: bytes, count: int, due: float) -> None:
        """`packed`: the bytes of `count` commands. `due`: until when (monotonic seconds) answers may come."""
        self._loop, self.packed, self.count, self.due = loop, packed, count, due
        self._answers: list[Any] | None = None
        self._waiters: list[tuple[Waiter, Context | None]] = []
        self._asyncio_future_blocking = False  # by which a task knows that somebody awaits it

    def __await__(self) -> Generator["Asked", None, list[Any]]:
        if self._answers is None:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # --- What comes of it

    def tell(self, answers: list[Any]) -> None:
        """Notes the answers; `wake` has to follow. Who has given up is told nothing."""
        if self._answers is None:
            self._answers = answers

    def wake(self) -> None:
        """Lets whoever waits go on, here and now: no task may be running, and what they do may be anything."""
        waiters, self._waiters = self._waiters, []
        for waiter, context in waiters:
            try:
                if context is None:
                    waiter(self)
                else:
                    context.run(waiter, self)
            except Exception as error:  # noqa: BLE001  one of them must not keep the others waiting
                self._loop.call_exception_handler({"message": "who waited for an answer failed", "exception": error})

    def fail(self, error: Exception) -> None:
        """Gives an error as the answer to each command, in the next turn."""
        if self._answers is None:
            self._answers = [error] * self.count
            self._wake_soon()

    # --- As of a future

    def done(self) -> bool:
        return self._answers is not None

    def cancelled(self) -> bool:
        return self._answers is _GIVEN_UP

    def result(self) -> list[Any]:
        if self._answers is None:
            raise asyncio.InvalidStateError("there is no answer yet")
        if self._answers is _GIVEN_UP:
            raise asyncio.CancelledError
        return self._answers

    def exception(self) -> None:
        """None: what went wrong is in the answers. Raises what `result` raises."""
        self.result()

    def cancel(self, msg: str | None = None) -> bool:
        if self._answers is not None:
            return False
        self._answers = _GIVEN_UP
        self._wake_soon()
        return True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, waiter: Waiter, *, context: Context | None = None) -> None:
        if self._answers is None:
            self._waiters.append((waiter, context))
        else:
            self._loop.call_soon(waiter, self, context=context)

    def remove_done_callback(self, waiter: Waiter) -> int:
        before, self._waiters = self._waiters, [one for one in self._waiters if one[0] != waiter]
        return len(before) - len(self._waiters)

    def _wake_soon(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter, context in waiters:
            self._loop.call_soon(waiter, self, context=context)

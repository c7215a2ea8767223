"""A question on its way, and whoever waits for what comes of it."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

import msgspec

Waiter = Callable[["Asked"], object]

_GIVEN_UP: list[Any] = []
"""In place of answers that nobody wants any more."""


class Asked(msgspec.Struct, eq=False):
    """Some commands that go out together. Awaited, it gives the list of their answers.

    Tasks, `gather` and `wait` take it for a future. It is cheaper than one: whoever waits goes on at once when `wake`
    is called, and not in a later turn of the event loop.
    """

    loop: asyncio.AbstractEventLoop
    packed: bytes
    """The bytes of `count` commands."""
    count: int
    due: float
    """Until when (monotonic seconds) answers may come."""
    _result: Any = None
    """What whoever waits is given; None as long as they wait."""
    _waiters: list[tuple[Waiter, Context | None]] = []
    _asyncio_future_blocking: bool = False
    """By which a task knows that somebody awaits it."""

    def __await__(self) -> Generator["Asked", None, Any]:
        if self._result is None:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # --- What comes of it

    def tell(self, answers: list[Any]) -> None:
        """Notes the answers; `wake` has to follow. Who has given up is told nothing."""
        if self._result is None:
            self._result = answers

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
                self.loop.call_exception_handler({"message": "who waited for an answer failed", "exception": error})

    def fail(self, error: Exception) -> None:
        """Gives an error as the answer to each command, in the next turn."""
        if self._result is None:
            self._result = [error] * self.count
            self._wake_soon()

    # --- As of a future

    def done(self) -> bool:
        return self._result is not None

    def cancelled(self) -> bool:
        return self._result is _GIVEN_UP

    def result(self) -> Any:
        """Raises CancelledError, and InvalidStateError as long as there is none."""
        if self._result is None:
            raise asyncio.InvalidStateError("there is no answer yet")
        if self._result is _GIVEN_UP:
            raise asyncio.CancelledError
        return self._result

    def exception(self) -> Exception | None:
        """None: what went wrong is in the answers. Raises what `result` raises."""
        self.result()

    def cancel(self, msg: str | None = None) -> bool:
        if self._result is not None:
            return False
        self._result = _GIVEN_UP
        self._wake_soon()
        return True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, waiter: Waiter, *, context: Context | None = None) -> None:
        if self._result is None:
            self._waiters.append((waiter, context))
        else:
            self.loop.call_soon(waiter, self, context=context)

    def remove_done_callback(self, waiter: Waiter) -> int:
        before, self._waiters = self._waiters, [one for one in self._waiters if one[0] != waiter]
        return len(before) - len(self._waiters)

    def _wake_soon(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter, context in waiters:
            self.loop.call_soon(waiter, self, context=context)

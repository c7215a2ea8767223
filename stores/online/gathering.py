"""A wire that gathers: whatever many callers ask in one turn of the event loop goes out in one write."""

import asyncio
from typing import Any

from stores.online.wire import Command, Wire


class Gathering:
    """For callers that come by the hundred, as in a batch: each still gets the answers to its own commands."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: list[tuple[tuple[Command, ...], asyncio.Future[list[Any]]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def is_one_server(self) -> bool:
        return self._wire.is_one_server

    @property
    def has_others(self) -> bool:
        return self._wire.has_others

    async def ask(self, *commands: Command) -> list[Any]:
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        answers: asyncio.Future[list[Any]] = loop.create_future()
        self._asked.append((commands, answers))
        return await answers

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.create_task(self._ask_all(asked))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _ask_all(self, asked: list[tuple[tuple[Command, ...], asyncio.Future[list[Any]]]]) -> None:
        """A wire never raises; should it be cancelled, so is everybody who waits."""
        try:
            found = await self._wire.ask(*(command for commands, _ in asked for command in commands))
        except BaseException:
            for _, answers in asked:
                answers.cancel()
            raise
        start = 0
        for commands, answers in asked:
            if not answers.done():  # the caller may have given up
                answers.set_result(found[start : start + len(commands)])
            start += len(commands)

    async def close(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending)
        await self._wire.close()

"""What all reads of one turn of the event loop have in common: asked once, and made sense of once."""

import asyncio
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from stores.online.layout import Pointer, Version
from stores.online.questions import Questions
from stores.online.reading import Part, budgets_part, killed_part
from stores.online.wire import Wire

Budgets = tuple[str, ...]


class Turn:
    """Which offers are switched off, what is out of budgets and, with `asks_version`, which version is current.

    `at`: the moment for which leases are counted, in epoch seconds. `due`: until when answers may come. They are asked
    for before those who share them ask anything else, so that on one server these have them when their own arrive.
    """

    def __init__(self, wire: Wire, questions: Questions, at: float, due: float, *, asks_version: bool) -> None:
        self._wire, self._questions, self._at, self._due = wire, questions, at, due
        self.asks_version = asks_version
        asked = (questions.killed, questions.current) if asks_version else (questions.killed,)
        self._general = self._ask(asked)
        self._counters: dict[Budgets, asyncio.Future[list[Any]]] = {}
        self._killed: Part | None = None
        self._budgets: dict[Budgets, Part] = {(): Part({})}

    def count(self, budgets: Budgets) -> None:
        """Asks for their counters, unless somebody has."""
        if budgets and budgets not in self._counters:
            self._counters[budgets] = self._ask(self._questions.counters(budgets, self._at))

    def has(self, budgets: Budgets) -> bool:
        """Whether all answers are there."""
        return self._general.done() and (not budgets or self._counters[budgets].done())

    async def arrive(self, budgets: Budgets, due: float) -> None:
        """Waits for the answers, but no longer than `due`. Whoever gives up takes nothing from the others."""
        asked = (self._general, self._counters[budgets]) if budgets else (self._general,)
        await asyncio.wait(asked, timeout=max(0.0, due - monotonic()))

    @property
    def is_down(self) -> bool:
        """Whether not even what concerns nobody in particular could be told."""
        return isinstance(_told(self._general, 1)[0], Exception)

    def killed(self) -> Part:
        if self._killed is None:
            part = killed_part(_told(self._general, 1)[0])
            if not self._general.done():
                return part
            self._killed = part
        return self._killed

    def budgets(self, names: Budgets) -> Part:
        if names not in self._budgets:
            asked = self._counters[names]
            part = budgets_part(names, _told(asked, 2 * len(names)))
            if not asked.done():
                return part
            self._budgets[names] = part
        return self._budgets[names]

    def version(self) -> Version | Exception | None:
        """The version that is current, or why that can't be told."""
        pointer = _told(self._general, 2)[1]
        if not isinstance(pointer, bytes):
            return pointer
        try:
            return Pointer.decode(pointer).current
        except ValueError:
            return ResponseError("WRONGTYPE the pointer can't be read")

    def _ask(self, commands: Any) -> "asyncio.Future[list[Any]]":
        return asyncio.ensure_future(self._wire.ask(*commands, due=self._due))


def _told(asked: "asyncio.Future[list[Any]]", count: int) -> list[Any]:
    return asked.result() if asked.done() else [TimeoutError("no answer in time")] * count

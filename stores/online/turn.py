"""What all reads of one turn of the event loop have in common: asked once, and made sense of once."""

import asyncio
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from stores.online.asked import Asked
from stores.online.layout import Pointer, Version
from stores.online.questions import Questions
from stores.online.reading import Shared, budgets_part, killed_part, shared
from stores.online.wire import Command, Wire

Budgets = tuple[str, ...]
Answers = Asked | asyncio.Future[list[Any]]


class Turn:
    """Which offers are switched off, what is out of budgets and, with `asks_version`, which version is current.

    `at`: the moment for which leases are counted, in epoch seconds. `due`: until when answers may come. They are asked
    for before those who share them ask anything else, so that on one server these have them when their own arrive.
    `budgets`: those of the first who shares them.
    """

    def __init__(
        self, wire: Wire, questions: Questions, at: float, due: float, budgets: Budgets, *, asks_version: bool
    ) -> None:
        self._wire, self._questions, self._at, self._due = wire, questions, at, due
        self.asks_version = asks_version
        general: list[Command] = [questions.killed, questions.current] if asks_version else [questions.killed]
        first = len(general)
        if wire.is_one_server:  # else a node that is down could keep back what others tell
            general += questions.counters(budgets, at)
        self._general = self._ask(*general)
        self.counted: dict[Budgets, tuple[Answers, int]] = {(): (self._general, first)}
        """By budgets, where their counters are: from which place on among which answers."""
        if wire.is_one_server:
            self.counted[budgets] = self._general, first
        self.told: dict[Budgets, Shared] = {}
        """By budgets, what all answers came to."""

    def count(self, budgets: Budgets) -> None:
        """Asks for counters that nobody has asked for."""
        self.counted[budgets] = self._ask(*self._questions.counters(budgets, self._at)), 0

    async def arrive(self, budgets: Budgets, due: float) -> Shared:
        """What is off, and what is out of these budgets: all that is told by `due`.

        Whoever gives up takes nothing from the others.
        """
        if not self.has_arrived(budgets):  # as on a cluster: another node has not told yet
            asked = {self._general, self.counted[budgets][0]}
            await asyncio.wait(asked, timeout=max(0.0, due - monotonic()))
        return self.shared(budgets)

    def has_arrived(self, budgets: Budgets) -> bool:
        """Whether all is told of these budgets that ever will be."""
        return self._general.done() and self.counted[budgets][0].done()

    def shared(self, budgets: Budgets) -> Shared:
        """What is off, and what is out of these budgets, as far as it has been told."""
        if (known := self.told.get(budgets)) is not None:
            return known
        counted, first = self.counted[budgets]
        numbers = _told(counted, first, 2 * len(budgets))
        found = shared(killed_part(self._killed()), budgets_part(budgets, numbers))
        if self.has_arrived(budgets):
            self.told[budgets] = found
        return found

    @property
    def is_down(self) -> bool:
        """Whether not even what concerns nobody in particular could be told."""
        return isinstance(self._killed(), Exception)

    def version(self) -> Version | Exception | None:
        """The version that is current, or why that can't be told."""
        (pointer,) = _told(self._general, 1, 1)
        if not isinstance(pointer, bytes):
            return pointer
        try:
            return Pointer.decode(pointer).current
        except ValueError:
            return ResponseError("WRONGTYPE the pointer can't be read")

    def _killed(self) -> Any:
        return _told(self._general, 0, 1)[0]

    def _ask(self, *commands: Command) -> Answers:
        asked = self._wire.ask(*commands, due=self._due)
        return asked if isinstance(asked, Asked) else asyncio.ensure_future(asked)


def _told(asked: Answers, first: int, count: int) -> list[Any]:
    return asked.result()[first : first + count] if asked.done() else [TimeoutError("no answer in time")] * count

"""Reads of a Redis store: a user's facts, in one round trip."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from math import inf
from time import monotonic
from typing import Any

from decisioning.domain import Facts
from features.schema import Schema
from stores.connect import address
from stores.online.about import About, about
from stores.online.asked import Asked
from stores.online.layout import Keys, Version
from stores.online.port import Damaged, PartDown, ReadOnly, StoreDown, TooSlow
from stores.online.questions import Questions
from stores.online.reading import facts, is_damage, refuses_writes
from stores.online.server import Server
from stores.online.turn import Turn
from stores.online.wire import Command, wire

Budgets = tuple[str, ...]
Check = Callable[[Facts | Exception, str], Facts]


class Reading(Asked, eq=False, kw_only=True):
    """One user's facts, on their way: a future that raises StoreDown. Where all is usual no coroutine is needed.

    Its answers are three: the user's history, fresh values, and vector.
    """

    reader: "Reader"
    user: str
    budgets: Budgets
    turn: Turn
    about: About
    check: Check | None = None
    """By facts (or what went wrong) and user, the facts that whoever waits is given."""
    _answers: list[Any] | None = None
    _rest: Coroutine[Any, Any, Facts] | None = None
    """What is done with unusual answers."""

    def tell(self, answers: list[Any]) -> None:
        if self._answers is None:
            self._answers = answers

    def fail(self, error: Exception) -> None:
        if self._answers is None and self._result is None:
            self._answers = [error] * self.count
            self.loop.call_soon(self.wake)

    def wake(self) -> None:
        """Lets whoever waits go on with the facts: here and now, where nothing more must be asked for them."""
        if self._result is not None:  # they have given up
            return
        answers, turn = self._answers, self.turn
        try:
            shared = turn.told.get(self.budgets)
            if shared is None and turn.has_arrived(self.budgets):
                shared = turn.shared(self.budgets)
            if shared is None or turn.asks_version or isinstance(answers[0], Exception):
                self._go_on(answers)
            else:
                self._end(self.about.facts(answers, shared))
        except Exception as error:  # noqa: BLE001  nonsense from the server
            self._end(self.reader.down(error))

    def result(self) -> Facts:
        found = self._result
        if type(found) is Facts:
            return found
        raise super().result()

    def exception(self) -> Exception | None:
        found = super().result()
        return found if isinstance(found, Exception) else None

    def _go_on(self, answers: list[Any]) -> None:
        known = self.about
        self._rest = self.reader.rest(
            self.turn, known.version, known.schema, self.user, self.budgets, answers, "", self.due
        )
        self._step()

    def _step(self, _: object = None) -> None:
        """Up to the next wait, or to the end, as a task does it."""
        try:
            waits_for = self._rest.send(None)
        except StopIteration as end:
            self._end(end.value)
        except Exception as error:  # noqa: BLE001  for whoever waits
            self._end(self.reader.down(error))
        else:
            waits_for._asyncio_future_blocking = False
            waits_for.add_done_callback(self._step)

    def _end(self, found: Facts | Exception) -> None:
        if self._result is None:
            self._result = found if self.check is None else self.check(found, self.user)
            Asked.wake(self)


class Reader:
    """The part of a `RedisStore` that reads: what it is given is told there."""

    def __init__(
        self, url: str, timeout: float, namespace: str, refresh_seconds: float, clock: Callable[[], float] | None
    ) -> None:
        self._keys = Keys(namespace)
        self._timeout = timeout
        self._refresh_seconds = refresh_seconds
        self._questions = Questions(self._keys)
        self._wire = wire(url, timeout)
        self._where = address(url).shown
        self._clock = clock
        self._version: Version | None = None
        self._refreshed = -inf
        self._turn: Turn | None = None
        self._about: About | None = None
        """Of the version and the schema that were read last."""

    def read(
        self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "", *, timeout: float | None = None
    ) -> Awaitable[Facts]:
        due = monotonic() + (self._timeout if timeout is None else timeout)
        wire, version, budgets = self._wire, self._version, tuple(budgets)
        if version is None or own or type(wire) is not Server:
            return self._read(user, schema, budgets, own, due)
        known = self._about
        if known is None or known.version is not version or known.schema is not schema:
            known = self._about = about(self._questions, version, schema)
        try:
            question, turn, loop = known.question(user), self._turn_of(budgets), asyncio.get_running_loop()
            reading = Reading(loop, question, 3, due, reader=self, user=user, budgets=budgets, turn=turn, about=known)
            wire.put(reading)
        except Exception:  # noqa: BLE001  such as a text that can't be sent: who awaits it learns why
            return self._read(user, schema, budgets, own, due)
        return reading

    def down(self, error: Exception) -> StoreDown:
        """What an error says of the store."""
        if isinstance(error, StoreDown):
            return error
        kind = StoreDown
        if is_damage(error):
            kind = Damaged
        elif self._wire.has_others:
            kind = PartDown
        elif isinstance(error, TimeoutError):
            kind = TooSlow
        elif refuses_writes(error):
            kind = ReadOnly
        return kind(f"{type(error).__name__}: {error} ({self._where})")

    async def _read(
        self,
        user: str,
        schema: Schema,
        budgets: Budgets,
        own: str,
        due: float,
        more: tuple[Command, ...] = (),
        told: list[Any] | None = None,
    ) -> Facts:
        """The facts; `told` takes the answers to `more`. StoreDown for whatever goes wrong, nonsense included."""
        try:
            turn, version = self._turn_of(budgets), self._version
            answers = await self._wire.ask(*self._questions.about(user, version), *more, due=due)
            if told is not None:
                told += answers[-len(more) :]
            return await self.rest(turn, version, schema, user, budgets, answers, own, due)
        except StoreDown:
            raise
        except Exception as error:
            raise self.down(error) from error

    async def rest(
        self,
        turn: Turn,
        version: Version | None,
        schema: Schema,
        user: str,
        budgets: Budgets,
        answers: list[Any],
        own: str,
        due: float,
    ) -> Facts:
        """The facts of answers that may be anything. Raises what it meets."""
        shared = turn.told.get(budgets) or await turn.arrive(budgets, due)
        if isinstance(answers[0], Exception):
            self._check(answers, turn)
        packed = answers[2] if version is not None else None
        if turn.asks_version:
            version, packed = await self._current(turn, user, version, packed, due)
        return facts(version, packed, answers[0], answers[1], shared, schema, own)

    def _check(self, answers: Sequence[Any], turn: Turn) -> None:
        """Raises StoreDown where nothing at all could be read, or nothing of this user in time."""
        history = answers[0]
        if all(isinstance(answer, Exception) for answer in answers) and turn.is_down:
            if isinstance(history, TimeoutError):
                raise TooSlow(str(history))
            if not self._wire.has_others:
                raise self.down(history) from history

    async def _current(
        self, turn: Turn, user: str, version: Version | None, packed: Any, due: float
    ) -> tuple[Version | None, Any]:
        """The version that counts, and the user's vector in it; `packed` is that of `version`."""
        current = turn.version()
        if isinstance(current, Exception):  # the version that was current holds; without one, nothing is known
            return version, current if version is None else packed
        self._refreshed = monotonic()
        if current == version:
            return version, packed
        # What was read may belong to a version that is gone by now: read again, from the one that counts.
        self._version, packed = current, None
        if current is not None:
            (packed,) = await self._wire.ask(self._questions.vector(user, current), due=due)
        return current, packed

    def _turn_of(self, budgets: Budgets) -> Turn:
        """This turn of the event loop, in which these budgets are asked about."""
        turn = self._turn or self._new_turn(budgets)
        if budgets not in turn.counted:
            turn.count(budgets)
        return turn

    def _new_turn(self, budgets: Budgets) -> Turn:
        now, at = monotonic(), self._clock() if self._clock else time.time()
        is_old = now - self._refreshed >= self._refresh_seconds
        self._turn = turn = Turn(self._wire, self._questions, at, now + self._timeout, budgets, asks_version=is_old)
        asyncio.get_running_loop().call_soon(self._end_turn)
        return turn

    def _end_turn(self) -> None:
        self._turn = None

"""Events that the store has still to take. The log has them already; here they wait to be counted."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import structlog

from decisioning.domain import DECISION, Event, EventType, Facts, HistoryEvent
from stores.online.port import Damaged, OnlineStore, PartDown, unread

MAX_BACKLOG = 10_000
"""Events kept. Beyond this the oldest miss the counters."""
AT_ONCE = 64
"""Events applied together when the store takes them again."""
MOST_REFUSED = 20
"""Events that a part refused, before the rest of them wait for the next pass."""
APPLY_TIMEOUT = 0.25
"""Seconds for one event."""

_SHOWN = (EventType.IMPRESSION, DECISION)

log = structlog.get_logger()


class Backlog:
    """Each event once, in the order in which they came."""

    def __init__(self) -> None:
        self.missed = 0
        """Events that found no room: no counter will know of them."""
        self._is_short = False
        """Whether such an event came before what waits now was done."""
        self.waiting: OrderedDict[tuple[str, str], tuple[Event, Sequence[str]]] = OrderedDict()
        """By user and event id: the event, and the budgets that it counts towards."""
        self._users: dict[str, dict[str, Event]] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def concerns(self, user: str) -> bool:
        return user in self._users

    def add(self, event: Event, budgets: Sequence[str]) -> None:
        key = event.user, event.event_id
        if key in self.waiting:
            return
        if len(self.waiting) >= MAX_BACKLOG:
            oldest, _ = next(iter(self.waiting.values()))
            self._remove(oldest)
            self.missed += 1
            if not self._is_short:
                log.error(
                    "events_missed", why=f"more than {MAX_BACKLOG} wait for the store: the log alone has them all"
                )
            self._is_short = True
        self.waiting[key] = event, budgets
        self._users.setdefault(event.user, {})[event.event_id] = event

    def told(self, facts: Facts, user: str, own: str = "") -> Facts:
        """The facts with what waits of this user, so that caps know of it.

        What the decision `own` itself showed is left out, as the store does. Where events were missed, nobody knows
        whose: then every history counts as unread, and so every cap as reached.
        """
        if "history" in facts.unread:
            return facts
        if self._is_short:
            return replace(facts, unread=facts.unread | {"history"}, degraded=(*facts.degraded, unread("history")))
        waiting = tuple(
            HistoryEvent(event.type, event.offer, event.surface, event.at)
            for event in self._users.get(user, {}).values()
            if not (own and event.decision_id == own and event.type in _SHOWN)
        )
        return replace(facts, history=(*facts.history, *waiting)) if waiting else facts

    async def catch_up(self, store: OnlineStore, most: int = MAX_BACKLOG) -> None:
        """Applies the first `most` of what waits. An event counts once, however often it is applied.

        What a part that is down has to take goes to the end of the line. Raises the first failure that concerns the
        whole store; what was not applied waits on.
        """
        todo, refused = list(islice(self.waiting.values(), most)), 0
        for start in range(0, len(todo), AT_ONCE):
            batch = todo[start : start + AT_ONCE]
            calls = (store.apply(event, budgets, timeout=APPLY_TIMEOUT) for event, budgets in batch)
            found = await asyncio.gather(*calls, return_exceptions=True)
            for (event, _), result in zip(batch, found, strict=True):
                if isinstance(result, PartDown):
                    self.waiting.move_to_end((event.user, event.event_id))
                    refused += 1
                elif isinstance(result, Damaged):  # no repetition would help
                    log.error("event_refused", why=str(result))
                    self._remove(event)
                elif not isinstance(result, BaseException):
                    self._remove(event)
            for result in found:
                if isinstance(result, BaseException) and not isinstance(result, PartDown | Damaged):
                    raise result
            if refused >= MOST_REFUSED:
                return

    def _remove(self, event: Event) -> None:
        """Nothing to do for one that had to make room meanwhile."""
        if self.waiting.pop((event.user, event.event_id), None) is None:
            return
        mine = self._users[event.user]
        del mine[event.event_id]
        if not mine:
            del self._users[event.user]
        self._is_short = self._is_short and bool(self.waiting)

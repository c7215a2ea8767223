"""The online store in memory: the twin for tests, trials and simulations. One process, nothing kept."""

import time
from collections.abc import Callable, Mapping, Sequence

from decisioning.domain import Event, Facts, Value
from features.schema import Schema
from stores.online.budgets import MemoryBudgets, Want
from stores.online.fresh import pack_fresh
from stores.online.layout import pack_event
from stores.online.port import HISTORY_LIMIT, HISTORY_SECONDS, PASSING
from stores.online.reading import budgets_part, facts, killed_part, shared
from stores.publishing.memory_store import MemoryShelf

ANSWERS_SWEPT = 1024
"""After so many remembered answers, those that are over are forgotten."""


class MemoryStore(MemoryShelf):
    """Both an OnlineStore and the Shelf that snapshots are published to. Leases end by `clock`, in seconds."""

    def __init__(self, *, history_limit: int = HISTORY_LIMIT, clock: Callable[[], float] = time.time):
        super().__init__()
        self._limit = history_limit
        self._clock = clock
        self._history: dict[str, dict[str, Event]] = {}
        self._trimmed: dict[str, dict[str, float]] = {}
        self._budgets = MemoryBudgets(clock)
        self._answers: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._killed: set[str] = set()
        self._fresh: dict[str, dict[str, tuple[float, bytes]]] = {}

    async def read(
        self, user: str, schema: Schema, budgets: Sequence[str] = (), own: str = "", *, timeout: float | None = None
    ) -> Facts:
        version, packed = self.vector(user)
        history = [pack_event(event) for event in self._history.get(user, {}).values()]
        fresh = [word for name, (_, value) in self._fresh.get(user, {}).items() for word in (name.encode(), value)]
        counted = [number for name in budgets for number in (self._budgets.out(name), 0)]
        killed = [offer.encode() for offer in self._killed]
        common = shared(killed_part(killed), budgets_part(budgets, counted))
        return facts(version, packed, history, fresh, common, schema, own)

    async def read_again(
        self, user: str, schema: Schema, budgets: Sequence[str], decision_id: str, *, timeout: float | None = None
    ) -> tuple[Facts, bytes | None]:
        return await self.read(user, schema, budgets, decision_id), await self.recall(user, decision_id)

    async def apply(self, event: Event, budgets: Sequence[str] = (), *, timeout: float | None = None) -> bool:
        history = self._history.setdefault(event.user, {})
        trimmed = self._trimmed.setdefault(event.user, {})
        if event.event_id in history or event.event_id in trimmed:
            return False
        history[event.event_id] = event
        if len(history) > self._limit and not self._trim(history, trimmed, event):
            return False
        for name in budgets:
            self._budgets.count(name, event.decision_id, event.offer)
        return True

    async def refresh(self, user: str, values: Mapping[str, Value], at: float) -> int:
        known = self._fresh.setdefault(user, {})
        taken = {name: value for name, value in values.items() if name not in known or known[name][0] < at}
        known.update((name, (at, pack_fresh(value, at))) for name, value in taken.items())
        return len(taken)

    async def reserve(
        self, decision_id: str, wants: Sequence[Want], lasts: float, *, timeout: float | None = None
    ) -> dict[str, int]:
        return await self._budgets.reserve(decision_id, wants, lasts)

    async def recall(self, user: str, decision_id: str, *, timeout: float | None = None) -> bytes | None:
        answer, until = self._answers.get((user, decision_id), (None, 0.0))
        return answer if self._clock() < until else None

    async def remember(
        self,
        user: str,
        decision_id: str,
        answer: bytes,
        lasts: float,
        instead_of: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes | None:
        found, now = await self.recall(user, decision_id), self._clock()
        if found is not None and found != instead_of:
            return found
        if len(self._answers) % ANSWERS_SWEPT == ANSWERS_SWEPT - 1:
            self._answers = {key: kept for key, kept in self._answers.items() if now < kept[1]}
        self._answers[user, decision_id] = answer, now + lasts
        return None

    def _trim(self, history: dict[str, Event], trimmed: dict[str, float], event: Event) -> bool:
        """Drop the oldest event; False when that is the one that just came, and it came too late to count.

        Half of the room is for what users did about offers: up to there the others make way.
        """
        passing = [one for one in history.values() if one.type in PASSING]
        lasting = [one for one in history.values() if one.type not in PASSING]
        crowd = passing if passing and len(lasting) <= self._limit // 2 else lasting or passing
        oldest = min(crowd, key=lambda one: (one.at, one.event_id))
        horizon = max(one.at for one in history.values()) - HISTORY_SECONDS
        del history[oldest.event_id]
        if oldest is event and oldest.at < horizon:
            return False
        trimmed[oldest.event_id] = oldest.at
        for event_id in [one for one, at in trimmed.items() if at < horizon]:
            del trimmed[event_id]
        return True

    async def kill(self, offer: str) -> None:
        self._killed.add(offer)

    async def revive(self, offer: str) -> None:
        self._killed.discard(offer)

    async def close(self) -> None:
        pass

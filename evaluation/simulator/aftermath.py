"""What follows from simulated decisions: impressions, clicks, dismissals, late conversions, and new states."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from decisioning.catalog import DAY, Catalog, Offer
from decisioning.domain import Decision, EventType, HistoryEvent
from evaluation.simulator.listening import EVENTS
from evaluation.simulator.world import NOTICED, Population, Truth
from features.declared.account import ADDONS, TIERS

DELAY = {"plan_upgrade": 1.2 * DAY, "plan_switch": 2.0 * DAY, "addon": 0.8 * DAY, "merch": 1.5 * DAY}
"""Mean seconds from an impression to a conversion, by group."""
OTHER_DELAY = 1.0 * DAY
ONCE = ("plan_upgrade", "plan_switch", "addon")
"""Groups of which a user takes one offer and then no other."""


class Aftermath:
    """Keeps every user's own past for the engine, and what the tables will say of it."""

    def __init__(self, catalog: Catalog, people: Population, truth: Truth, end: float) -> None:
        self.catalog, self.people, self.truth, self.end = catalog, people, truth, end
        self._past: dict[int, list[HistoryEvent]] = {}
        self._closed: dict[int, np.ndarray] = {}
        self._outcomes: list[tuple[str, str, str, float]] = []
        self._events: list[tuple[str, float, str, str | None]] = []
        self._tiers: list[tuple[float, int, int]] = []
        self._memory = max(catalog.longest_memory, 28 * DAY)
        groups = [catalog.offers[name].group for name in truth.offers]
        self._group = np.array(groups)

    def history(self, user: int, now: float) -> tuple[HistoryEvent, ...]:
        """What the engine may know: events of the user up to now, as far back as any rule looks."""
        past = self._past.get(user, ())
        return tuple(event for event in past if now - self._memory <= event.at <= now)

    def true_p(self, user: int, surface: str, now: float) -> np.ndarray:
        past = self._past.get(user, ())
        seen = sum(event.type == EventType.IMPRESSION and now - 7 * DAY <= event.at <= now for event in past)
        return self.truth.true_p(user, surface, seen, self._closed.get(user))

    def follow(self, decision: Decision, user: int, now: float, p: float, fate: np.ndarray) -> None:
        """`p` is the chance of a conversion; `fate` four uniform numbers, so that equal seeds meet equal fates."""
        offer = self.catalog.offers[decision.first]
        if fate[0] >= NOTICED:
            return
        chance = p / NOTICED
        self._remember(user, EventType.IMPRESSION, decision, now + 1)
        if fate[1] < chance:
            delay = -np.log1p(-fate[2]) * DELAY.get(offer.group, OTHER_DELAY)
            self._record(user, EventType.CLICK, decision, now + 8)
            self._convert(user, offer, decision, now + 60 + float(delay))
        elif fate[3] < 0.02 + chance:
            self._record(user, EventType.CLICK, decision, now + 8)
        elif fate[3] > 0.94:
            self._remember(user, EventType.DISMISS, decision, now + 4)

    def _convert(self, user: int, offer: Offer, decision: Decision, at: float) -> None:
        """The conversion, which may come after the end and then is never seen, and the state that it brings."""
        if offer.group in ONCE:
            closed = self._closed.setdefault(user, np.zeros(len(self.truth.offers), dtype=bool))
            closed |= self._group == offer.group
        if at >= self.end:
            return
        self._record(user, EventType.CONVERT, decision, at)
        kind = str(offer.attributes.get("kind", ""))
        if offer.group == "plan_upgrade" and kind != "pass":
            tier = "basic" if kind == "basic" else "premium"
            self._tiers.append((at, user, TIERS.index(tier)))
            self._event(user, "tier_change", tier, at)
            self._event(user, "payment", "ok", at)
            if kind == "trial":
                self._event(user, "trial_start", offer.name, at)
        elif kind in ADDONS and offer.group == "addon":
            self._event(user, f"addon_{kind}", "on", at)
        elif offer.group == "merch":
            self._event(user, "merch_purchase", offer.name, at)

    def tiers_as_of(self, now: float) -> None:
        """Bring the plans of those who upgraded before this moment up to date."""
        due = [change for change in self._tiers if change[0] < now]
        self._tiers = [change for change in self._tiers if change[0] >= now]
        for _, user, tier in sorted(due):
            self.people.tier[user] = tier

    def _record(self, user: int, type: str, decision: Decision, at: float) -> None:
        """An outcome of the decision, which is also an event of the user's past."""
        if at < self.end:
            self._outcomes.append((f"{decision.decision_id}-{type}", decision.decision_id, str(type), at))
            self._remember(user, type, decision, at)

    def _remember(self, user: int, type: str, decision: Decision, at: float) -> None:
        if at < self.end:
            event = HistoryEvent(str(type), decision.first, decision.surface, at)
            self._past.setdefault(user, []).append(event)
            self._event(user, str(type), decision.first, at)

    def _event(self, user: int, type: str, item: str | None, at: float) -> None:
        self._events.append((str(self.people.ids[user]), at, type, item))

    def new_events(self) -> pa.Table:
        """The events since the last call. Some lie in the future: features see each when its time has come."""
        ids, at, types, items = zip(*self._events, strict=True) if self._events else ((), (), (), ())
        self._events = []
        columns: dict[str, Any] = {
            "user_id": pa.array(ids, pa.string()),
            "at": pa.array((np.array(at, float) * 1e6).astype("datetime64[us]"), EVENTS.field("at").type),
            "type": pa.array(types, pa.string()),
            "item": pa.array(items, pa.string()),
            "amount": pa.nulls(len(ids), pa.float64()),
            "hour": pa.nulls(len(ids), pa.int64()),
        }
        return pa.table(columns, schema=EVENTS)

    def outcomes(self) -> pd.DataFrame:
        """The outcomes table, in order of time."""
        frame = pd.DataFrame(self._outcomes, columns=["event_id", "decision_id", "type", "at"])
        frame = frame.astype({"event_id": "string", "decision_id": "string", "type": "string", "at": "float64"})
        at = pd.to_datetime((frame["at"] * 1e6).round().astype("int64"), unit="us", utc=True)
        frame = frame.assign(value=np.nan, at=at.astype("datetime64[ns, UTC]"))
        return frame.sort_values(["at", "event_id"], ignore_index=True)[
            ["event_id", "decision_id", "type", "value", "at"]
        ]

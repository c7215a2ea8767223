"""Rules about a user's own past and about shared budgets: suppression, quiet hours, exclusivity, caps, budgets.

Each rule answers with the set of offers that it drops now, one bit an offer. History may come in any order and with the
clocks of many devices: nothing here relies on its order, and an event from the future counts as one of now. Windows
roll, to the second: an event counts while it is less than `per` old.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from math import inf
from typing import NamedTuple
from zoneinfo import ZoneInfo

from decisioning.catalog import (
    EVERYTHING,
    Budget,
    Cap,
    CapBy,
    Catalog,
    Exclusive,
    Offer,
    QuietHours,
    Same,
    Scope,
    Suppression,
)
from decisioning.domain import EventType, Facts, HistoryEvent, Reason, Request, Stage, Value

Drop = tuple[Stage, int, int]
"""The stage, the position of the rule among the catalog's rules of that stage, and the offers it drops as bits."""

# Plain text where it is a key: an enumeration's members hash ten times slower.
_IMPRESSION = str(EventType.IMPRESSION)


class _Reach(NamedTuple):
    """What past events bear on, in the eyes of one rule: offers of this surface, as bits."""

    by_offer: Mapping[str, int]
    """By the offer of the event; absent for an offer whose events the rule overlooks."""
    strangers: int
    """For an event of an offer that the catalog no longer has."""
    only: frozenset[str]
    """The surfaces whose events count; empty for all."""
    never: frozenset[str]
    """The surfaces whose events do not."""

    def of(self, event: HistoryEvent) -> int:
        if (self.only and event.surface not in self.only) or event.surface in self.never:
            return 0
        return self.by_offer.get(event.offer, self.strangers)

    def often(self, events: Sequence[HistoryEvent], count: int) -> set[int]:
        """What at least `count` of the events bear on: that alone tells an offer, group or surface from the others."""
        if len(events) < count:
            return set()
        bearing = [self.of(event) for event in events]
        return {bits for bits in bearing if bearing.count(bits) >= count}


class Limits:
    """The limits of one surface. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._catalog, self._surface = catalog, surface
        self._bits = {offer.name: 1 << position for position, offer in enumerate(offers)}
        self._groups: dict[str, int] = {}
        for offer in offers:
            self._groups[offer.group] = self._groups.get(offer.group, 0) | self._bits[offer.name]
        self._everything = (1 << len(offers)) - 1

        def covered(scope: Scope) -> int:
            return sum(self._bits[o.name] for o in offers if scope.covers(o.name, o.group, surface))

        self._silencers = [
            (n, rule, str(rule.after), covers, self._reach(rule.same, EVERYTHING))
            for n, rule in enumerate(catalog.suppressions)
            if (covers := covered(rule.scope))
        ]
        self._caps = [
            (n, cap, str(cap.counts), covers, self._reach(cap.by, cap.scope))
            for n, cap in enumerate(catalog.caps)
            if (covers := covered(cap.scope))
        ]
        self._exclusives = [
            (n, rule, members) for n, rule in enumerate(catalog.exclusives) if (members := self._bits_of(rule.offers))
        ]
        self._budgets = [
            (n, budget, members)
            for n, budget in enumerate(catalog.budgets)
            if (members := self._bits_of(budget.offers))
        ]
        self._quiet = [(n, rule) for n, rule in enumerate(catalog.quiet_hours) if surface in rule.surfaces]

    def _bits_of(self, names: frozenset[str]) -> int:
        return sum(bit for name, bit in self._bits.items() if name in names)

    def _reach(self, by: Same | CapBy, scope: Scope) -> _Reach:
        """What the events within a scope bear on, for a rule that looks at the same offer, group, … as theirs."""
        anywhere = replace(scope, only_surfaces=frozenset(), except_surfaces=frozenset())
        by_offer = {
            offer.name: self._bits_behind(by, offer.name, offer.group)
            if anywhere.covers(offer.name, offer.group, "")
            else 0
            for offer in self._catalog.offers.values()
        }
        strangers = self._bits_behind(by, "", "") if anywhere.covers("", "", "") else 0
        only = frozenset({self._surface}) if by is CapBy.SURFACE else scope.only_surfaces
        return _Reach(by_offer, strangers, only, scope.except_surfaces)

    def _bits_behind(self, by: Same | CapBy, offer: str, group: str) -> int:
        match by:
            case Same.OFFER | CapBy.OFFER:
                return self._bits.get(offer, 0)
            case Same.GROUP | CapBy.GROUP:
                return self._groups.get(group, 0)
        return self._everything

    def drops(self, request: Request, facts: Facts, values: Mapping[str, Value]) -> Iterator[Drop]:
        """What each rule drops, in the order of the catalog's semantics; rules that drop nothing are left out."""
        now, past = request.now, _by_type(facts.history)
        for n, rule, after, covers, reach in self._silencers:
            if after in past and (mask := _silenced(rule, reach, past[after], now) & covers):
                yield Stage.SUPPRESSED, n, mask
        for n, quiet in self._quiet:
            if is_quiet(quiet, now, values):
                yield Stage.QUIET, n, self._everything
        if shown := past.get(_IMPRESSION):
            for n, exclusive, members in self._exclusives:
                if mask := self._kept_away(exclusive, members, shown, now):
                    yield Stage.EXCLUSIVE, n, mask
        unread = "history" in facts.unread
        for n, cap, counts, covers, reach in self._caps:
            if unread:
                yield Stage.CAP, n, covers
            elif counts in past and (mask := _reached(cap, reach, past[counts], now) & covers):
                yield Stage.CAP, n, mask
        for n, budget, members in self._budgets:
            if is_spent(budget, facts, now):
                yield Stage.BUDGET, n, members

    def _kept_away(self, rule: Exclusive, members: int, shown: Sequence[HistoryEvent], now: float) -> int:
        """An offer of the rule that was shown keeps the others away; two that were keep each other away."""
        since = now - rule.lasts
        names = {event.offer for event in shown if event.offer in rule.offers and event.at > since}
        if len(names) == 1:
            return members & ~self._bits.get(names.pop(), 0)
        return members if names else 0

    def reason(self, drop: Drop, offer: Offer, request: Request, facts: Facts) -> Reason:
        """A drop in words, for one of the offers that it takes."""
        stage, position, _ = drop
        bit = self._bits[offer.name]
        rule: Suppression | QuietHours | Exclusive | Cap | Budget
        match stage:
            case Stage.SUPPRESSED:
                rule = self._catalog.suppressions[position]
                detail = _silence_words(rule, self._reach(rule.same, EVERYTHING), bit, request, facts)
            case Stage.QUIET:
                rule = self._catalog.quiet_hours[position]
                detail = f"{self._surface} is quiet from {_clock(rule.start)} to {_clock(rule.end)}"
            case Stage.EXCLUSIVE:
                rule = self._catalog.exclusives[position]
                detail = _exclusive_words(rule, offer.name, request, facts)
            case Stage.CAP:
                rule = self._catalog.caps[position]
                detail = _cap_words(rule, self._reach(rule.by, rule.scope), bit, request, facts)
            case _:
                rule = self._catalog.budgets[position]
                detail = _budget_words(rule, facts)
        return Reason(offer.name, stage, rule.name, detail, str(rule.place))


def _silenced(rule: Suppression, reach: _Reach, events: Sequence[HistoryEvent], now: float) -> int:
    """The offers that are silent now."""
    mask = 0
    if rule.count == 1:
        for event in events:
            if event.at + rule.lasts > now:
                mask |= reach.of(event)
        return mask
    oldest = now - rule.lasts - (inf if rule.within is None else rule.within) - 1.0  # a second for what rounding takes
    recent = [event for event in events if event.at > oldest]
    for bits in reach.often(recent, rule.count):
        times = sorted(min(event.at, now) for event in recent if reach.of(event) == bits)
        until = silent_until(times, rule)
        if until is not None and until > now:
            mask |= bits
    return mask


def _reached(cap: Cap, reach: _Reach, events: Sequence[HistoryEvent], now: float) -> int:
    """The offers that have had all that a cap allows."""
    since, mask = now - cap.per, 0
    for bits in reach.often([event for event in events if event.at > since], cap.max):
        mask |= bits
    return mask


def _silence_words(rule: Suppression, reach: _Reach, bit: int, request: Request, facts: Facts) -> str:
    now = request.now
    until = silent_until(sorted(min(event.at, now) for event in _behind(reach, bit, rule.after, facts)), rule)
    what = rule.after if rule.count == 1 else f"{rule.count} {rule.after}s"
    return f"quiet after {what} (same {rule.same}), again in {span((until or now) - now)}"


def _cap_words(cap: Cap, reach: _Reach, bit: int, request: Request, facts: Facts) -> str:
    if "history" in facts.unread:
        return "the history could not be read, so the cap counts as reached"
    count = sum(event.at > request.now - cap.per for event in _behind(reach, bit, cap.counts, facts))
    return f"{count} {cap.counts}s by {cap.by} in {span(cap.per)}, at most {cap.max}"


def _behind(reach: _Reach, bit: int, what: str, facts: Facts) -> list[HistoryEvent]:
    """The events of a type that bear on an offer."""
    return [event for event in facts.history if event.type == what and reach.of(event) & bit]


def _exclusive_words(rule: Exclusive, offer: str, request: Request, facts: Facts) -> str:
    others = sorted(
        event.offer
        for event in facts.history
        if event.type == EventType.IMPRESSION
        and event.offer in rule.offers
        and event.offer != offer
        and event.at > request.now - rule.lasts
    )
    return f"{others[0]} was shown, and the two exclude each other for {span(rule.lasts)}"


def _budget_words(budget: Budget, facts: Facts) -> str:
    spent = facts.budgets.get(budget.name)
    if spent is None:
        return "the budget could not be read, and it is a hard one"
    later = " (more later: it is paced)" if spent < budget.impressions else ""
    return f"{spent} of {budget.impressions} impressions are spent{later}"


def _by_type(history: Sequence[HistoryEvent]) -> dict[str, list[HistoryEvent]]:
    found: dict[str, list[HistoryEvent]] = {}
    for event in history:
        found.setdefault(event.type, []).append(event)
    return found


def silent_until(times: list[float], rule: Suppression) -> float | None:
    """When the silence of a suppression ends, given the sorted moments of its events; None where none began.

    A silence begins with each event that is the `count`-th within `within` seconds.
    """
    for last in range(len(times) - 1, rule.count - 2, -1):
        if rule.within is None or times[last] - times[last - rule.count + 1] <= rule.within:
            return times[last] + rule.lasts
    return None


def is_spent(budget: Budget, facts: Facts, now: float) -> bool:
    """Whether a budget has nothing left by now. One that could not be read has nothing left if it is a hard one."""
    spent = facts.budgets.get(budget.name)
    return budget.hard if spent is None else spent >= allowance(budget, now)


def allowance(budget: Budget, now: float) -> float:
    """How many impressions a budget allows by now: all of them, or an even share of the time that has passed."""
    if not budget.even or budget.starts is None or budget.until is None or now >= budget.until:
        return float(budget.impressions)
    passed = max(0.0, now - budget.starts) / (budget.until - budget.starts)
    return budget.impressions * passed


def is_quiet(rule: QuietHours, now: float, values: Mapping[str, Value]) -> bool:
    """Whether it is a quiet hour now, by the wall clock of the rule's or the user's time zone."""
    name = rule.timezone or values.get("timezone")
    local = datetime.fromtimestamp(now, _zone(name if isinstance(name, str) else "UTC"))
    minute = local.hour * 60 + local.minute
    if rule.start <= rule.end:
        return rule.start <= minute < rule.end
    return minute >= rule.start or minute < rule.end


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    """A time zone by its IANA name; UTC for a name that nobody knows, as a client may send anything."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def _clock(minute: int) -> str:
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def span(seconds: float) -> str:
    """A duration as people say it, in its largest fitting unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(1, round(seconds))} s"

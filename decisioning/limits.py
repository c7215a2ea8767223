"""Rules about a user's own past and about shared budgets: suppression, quiet hours, exclusivity, caps, budgets.

Each rule answers with the set of offers that it drops now, one bit an offer. History may come in any order and with the
clocks of many devices: nothing here relies on its order, and an event from the future counts as one of now. Windows
roll, to the second: an event counts while it is less than `per` old.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from decisioning.catalog import Budget, Cap, CapBy, Catalog, Exclusive, Offer, QuietHours, Same, Scope, Suppression
from decisioning.domain import EventType, Facts, HistoryEvent, Reason, Request, Stage, Value

Drop = tuple[Stage, int, int]
"""The stage, the position of the rule among the catalog's rules of that stage, and the offers it drops as bits."""

ByType = Mapping[str, Sequence[HistoryEvent]]


class Limits:
    """The limits of one surface. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._catalog, self._surface = catalog, surface
        self._bits = {offer.name: 1 << position for position, offer in enumerate(offers)}
        self._groups: dict[str, int] = {}
        for offer in offers:
            self._groups[offer.group] = self._groups.get(offer.group, 0) | self._bits[offer.name]
        self._group_of = {name: offer.group for name, offer in catalog.offers.items()}
        self._everything = (1 << len(offers)) - 1

        def covered(scope: Scope) -> int:
            return sum(self._bits[o.name] for o in offers if scope.covers(o.name, o.group, surface))

        self._silencers = [(n, rule, covered(rule.scope)) for n, rule in enumerate(catalog.suppressions)]
        self._caps = [(n, cap, covered(cap.scope)) for n, cap in enumerate(catalog.caps)]
        self._exclusives = [(n, rule, self._bits_of(rule.offers)) for n, rule in enumerate(catalog.exclusives)]
        self._budgets = [(n, budget, self._bits_of(budget.offers)) for n, budget in enumerate(catalog.budgets)]
        self._quiet = [(n, rule) for n, rule in enumerate(catalog.quiet_hours) if surface in rule.surfaces]

    def _bits_of(self, names: frozenset[str]) -> int:
        return sum(bit for name, bit in self._bits.items() if name in names)

    def drops(self, request: Request, facts: Facts, values: Mapping[str, Value]) -> Iterator[Drop]:
        """What each rule drops, in the order of the catalog's semantics; rules that drop nothing are left out."""
        now, past = request.now, _by_type(facts.history)
        for n, rule, covered in self._silencers:
            mask = self._silenced(rule, past, now) & covered if rule.after in past else 0
            if mask:
                yield Stage.SUPPRESSED, n, mask
        for n, quiet in self._quiet:
            if is_quiet(quiet, now, values):
                yield Stage.QUIET, n, self._everything
        for n, exclusive, members in self._exclusives:
            mask = self._kept_away(exclusive, members, past, now)
            if mask:
                yield Stage.EXCLUSIVE, n, mask
        for n, cap, covered in self._caps:
            mask = covered if "history" in facts.unread else self._reached(cap, past, now) & covered
            if mask:
                yield Stage.CAP, n, mask
        for n, budget, members in self._budgets:
            if members and is_spent(budget, facts, now):
                yield Stage.BUDGET, n, members

    def _silenced(self, rule: Suppression, past: ByType, now: float) -> int:
        mask = 0
        for key in self.silences(rule, past.get(rule.after, ()), now):
            mask |= self._bits_behind(rule.same, key)
        return mask

    def _kept_away(self, rule: Exclusive, members: int, past: ByType, now: float) -> int:
        """An offer of the rule that was shown keeps the others away; two that were keep each other away."""
        shown = {
            e.offer for e in past.get(EventType.IMPRESSION, ()) if e.offer in rule.offers and e.at > now - rule.lasts
        }
        if not members or not shown:
            return 0
        return members & ~self._bits.get(next(iter(shown)), 0) if len(shown) == 1 else members

    def _reached(self, cap: Cap, past: ByType, now: float) -> int:
        mask = 0
        if cap.counts in past:
            for key, count in self.counts(cap, past[cap.counts], now).items():
                if count >= cap.max:
                    mask |= self._bits_behind(cap.by, key)
        return mask

    def silences(self, rule: Suppression, events: Sequence[HistoryEvent], now: float) -> dict[str, float]:
        """Until when each key (an offer, a group, everything) is silent, of those that are now."""
        moments: dict[str, list[float]] = defaultdict(list)
        for event in events:
            moments[self.key(rule.same, event)].append(min(event.at, now))
        found = {}
        for key, times in moments.items():
            until = silent_until(sorted(times), rule)
            if until is not None and until > now:
                found[key] = until
        return found

    def counts(self, cap: Cap, events: Sequence[HistoryEvent], now: float) -> dict[str, int]:
        """The events in the window by key (an offer, a group, a surface, the user)."""
        found: dict[str, int] = {}
        for event in events:
            group = self._group_of.get(event.offer, "")
            if event.at > now - cap.per and cap.scope.covers(event.offer, group, event.surface):
                key = self.key(cap.by, event)
                found[key] = found.get(key, 0) + 1
        return found

    def key(self, reach: Same | CapBy, event: HistoryEvent) -> str:
        """What an event counts towards. The group of an offer that the catalog no longer has is ""."""
        match reach:
            case Same.OFFER | CapBy.OFFER:
                return event.offer
            case Same.GROUP | CapBy.GROUP:
                return self._group_of.get(event.offer, "")
            case CapBy.SURFACE:
                return event.surface
        return "*"

    def _bits_behind(self, reach: Same | CapBy, key: str) -> int:
        """The offers of this surface that a key bears on."""
        match reach:
            case Same.OFFER | CapBy.OFFER:
                return self._bits.get(key, 0)
            case Same.GROUP | CapBy.GROUP:
                return self._groups.get(key, 0)
            case CapBy.SURFACE:
                return self._everything if key == self._surface else 0
        return self._everything

    def reason(self, drop: Drop, offer: Offer, request: Request, facts: Facts) -> Reason:
        """A drop in words, for one of the offers that it takes."""
        stage, position, _ = drop
        event = HistoryEvent("", offer.name, self._surface, request.now)
        rule: Suppression | QuietHours | Exclusive | Cap | Budget
        match stage:
            case Stage.SUPPRESSED:
                rule = self._catalog.suppressions[position]
                detail = self._silence_words(rule, self.key(rule.same, event), request, facts)
            case Stage.QUIET:
                rule = self._catalog.quiet_hours[position]
                detail = f"{self._surface} is quiet from {_clock(rule.start)} to {_clock(rule.end)}"
            case Stage.EXCLUSIVE:
                rule = self._catalog.exclusives[position]
                detail = _exclusive_words(rule, offer.name, request, facts)
            case Stage.CAP:
                rule = self._catalog.caps[position]
                detail = self._cap_words(rule, self.key(rule.by, event), request, facts)
            case _:
                rule = self._catalog.budgets[position]
                detail = _budget_words(rule, facts)
        return Reason(offer.name, stage, rule.name, detail, str(rule.place))

    def _silence_words(self, rule: Suppression, key: str, request: Request, facts: Facts) -> str:
        until = self.silences(rule, _by_type(facts.history)[rule.after], request.now)[key]
        what = rule.after if rule.count == 1 else f"{rule.count} {rule.after}s"
        return f"quiet after {what} (same {rule.same}), again in {span(until - request.now)}"

    def _cap_words(self, cap: Cap, key: str, request: Request, facts: Facts) -> str:
        if "history" in facts.unread:
            return "the history could not be read, so the cap counts as reached"
        count = self.counts(cap, _by_type(facts.history)[cap.counts], request.now)[key]
        return f"{count} {cap.counts}s by {cap.by} in {span(cap.per)}, at most {cap.max}"


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

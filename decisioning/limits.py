"""Rules about a user's own past, about the hour, and about shared budgets: what each drops now, and in words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from decisioning.catalog import Catalog, Offer
from decisioning.domain import EventType, Facts, HistoryEvent, Reason, Request, Stage, Value
from decisioning.past import Past
from decisioning.rules import Budget, Cap, Exclusive, QuietHours, Suppression
from decisioning.slate import Room
from decisioning.tallies import Drop, silent_until
from decisioning.words import counted

__all__ = ["Drop", "Limits", "allowance", "is_quiet", "is_running", "is_spent", "silent_until", "span"]


class Limits:
    """The limits of one surface. `offers` are its offers: bit i stands for the i-th."""

    def __init__(self, catalog: Catalog, surface: str, offers: Sequence[Offer]) -> None:
        self._catalog, self._surface = catalog, surface
        self._bits = {offer.name: 1 << position for position, offer in enumerate(offers)}
        self._everything = (1 << len(offers)) - 1
        self.past = Past(catalog, surface, offers)
        members = [sum(bit for name, bit in self._bits.items() if name in one.offers) for one in catalog.budgets]
        self.budgets: list[tuple[Budget, Drop]] = [
            (budget, (Stage.BUDGET, n, members[n])) for n, budget in enumerate(catalog.budgets) if members[n]
        ]
        """Those of offers of this surface, and what each drops when it is spent."""
        self.quiet = [(n, rule) for n, rule in enumerate(catalog.quiet_hours) if surface in rule.surfaces]
        if self.quiet:
            _zones()

    def drops(self, request: Request, facts: Facts, values: Mapping[str, Value]) -> list[Drop]:
        """What each rule drops, in the order of the catalog's semantics; rules that drop nothing are left out."""
        now = request.now
        found = self.past.drops(facts.history, now, unread="history" in facts.unread)
        if self.quiet:  # after suppression, before exclusivity
            silences = sum(drop[0] is Stage.SUPPRESSED for drop in found)
            quiet = [(Stage.QUIET, n, self._everything) for n, rule in self.quiet if is_quiet(rule, now, values)]
            found[silences:silences] = quiet
        found += [drop for budget, drop in self.budgets if is_spent(budget, facts, now)]
        return found

    def rooms(self, request: Request, facts: Facts, slots: int) -> list[Room]:
        """How many offers of some sets a slate may hold, so that no cap is exceeded by what it shows at once."""
        return self.past.rooms(facts.history, request.now, slots) if slots > 1 else []

    def reason(self, drop: Drop, offer: Offer, request: Request, facts: Facts) -> Reason:
        """A drop in words, for one of the offers that it takes."""
        stage, position, _ = drop
        bit = self._bits[offer.name]
        rule: Suppression | QuietHours | Exclusive | Cap | Budget
        match stage:
            case Stage.SUPPRESSED:
                rule = self._catalog.suppressions[position]
                detail = _silence_words(rule, self.past.behind(stage, position, bit, facts.history), request.now)
            case Stage.QUIET:
                rule = self._catalog.quiet_hours[position]
                detail = f"{self._surface} is quiet from {_clock(rule.start)} to {_clock(rule.end)}"
            case Stage.EXCLUSIVE:
                rule = self._catalog.exclusives[position]
                detail = _exclusive_words(rule, offer.name, request, facts)
            case Stage.CAP:
                rule = self._catalog.caps[position]
                detail = _cap_words(rule, self.past.behind(stage, position, bit, facts.history), request, facts)
            case _:
                rule = self._catalog.budgets[position]
                detail = _budget_words(rule, facts)
        return Reason(offer.name, stage, rule.name, detail, str(rule.place))


def _silence_words(rule: Suppression, events: Sequence[HistoryEvent], now: float) -> str:
    until = silent_until(sorted(min(event.at, now) for event in events), rule)
    what = rule.after if rule.count == 1 else counted(rule.count, rule.after)
    return f"quiet after {what} (same {rule.same}), again in {span((until or now) - now)}"


def _cap_words(cap: Cap, events: Sequence[HistoryEvent], request: Request, facts: Facts) -> str:
    if "history" in facts.unread:
        return "the history could not be read, so the cap counts as reached"
    count = sum(request.now - event.at < cap.per for event in events)
    return f"{counted(count, cap.counts)} by {cap.by} in {span(cap.per)}, at most {cap.max}"


def _exclusive_words(rule: Exclusive, offer: str, request: Request, facts: Facts) -> str:
    others = sorted(
        event.offer
        for event in facts.history
        if event.type == EventType.IMPRESSION
        and event.offer in rule.offers
        and event.offer != offer
        and request.now - event.at < rule.lasts
    )
    return f"{others[0]} was shown, and the two exclude each other for {span(rule.lasts)}"


def _budget_words(budget: Budget, facts: Facts) -> str:
    spent = facts.budgets.get(budget.name)
    if spent is None:
        return "the budget could not be read, and it is a hard one"
    later = " (more later: it is paced)" if spent < budget.impressions else ""
    return f"{spent} of {budget.impressions} impressions are spent{later}"


def is_running(budget: Budget, now: float) -> bool:
    """Whether a budget is in force: before it begins and after it ends it counts nothing and holds nothing back."""
    return (budget.starts or 0.0) <= now and (budget.until is None or now < budget.until)


def is_spent(budget: Budget, facts: Facts, now: float) -> bool:
    """Whether a budget has nothing left by now. One that could not be read has nothing left if it is a hard one."""
    if not is_running(budget, now):
        return False
    spent = facts.budgets.get(budget.name)
    if spent is None:
        return budget.hard
    return spent >= (allowance(budget, now) if budget.even else budget.impressions)


def allowance(budget: Budget, now: float) -> float:
    """How many impressions a budget allows by now: all of them, or an even share of the time that has passed."""
    if not budget.even or budget.starts is None or budget.until is None or now >= budget.until:
        return float(budget.impressions)
    passed = max(0.0, now - budget.starts) / (budget.until - budget.starts)
    return budget.impressions * passed


def is_quiet(rule: QuietHours, now: float, values: Mapping[str, Value]) -> bool:
    """Whether it is a quiet hour now, by the wall clock of the rule's or the user's time zone."""
    name = rule.timezone or values.get("timezone")
    # A client may send anything: what is no zone counts as UTC.
    local = datetime.fromtimestamp(now, _zones().get(name, UTC) if isinstance(name, str) else UTC)
    minute = local.hour * 60 + local.minute
    if rule.start <= rule.end:
        return rule.start <= minute < rule.end
    return minute >= rule.start or minute < rule.end


@lru_cache(maxsize=1)
def _zones() -> Mapping[str, tzinfo]:
    """Every time zone by its IANA name, read when the first plan is made, so that a decision reads no files."""
    return {name: ZoneInfo(name) for name in available_timezones()}


def _clock(minute: int) -> str:
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def span(seconds: float) -> str:
    """A duration as people say it, in its largest fitting unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(1, round(seconds))} s"

"""Rules about a user's own past and about shared budgets: suppression, quiet hours, exclusivity, caps, budgets.

History may come in any order and with the clocks of many devices: nothing here relies on its order, and an event
from the future counts as one of now. Windows roll, to the second: an event counts while it is less than `per` old.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from decisioning.catalog import Budget, Cap, CapBy, Catalog, Offer, QuietHours, Same, Suppression
from decisioning.domain import EventType, Facts, Reason, Request, Stage, Value

MINUTES_A_DAY = 24 * 60


class Limits:
    """The limits of one request, its history counted once for all offers."""

    def __init__(self, catalog: Catalog, request: Request, facts: Facts, values: Mapping[str, Value]) -> None:
        self._catalog, self._request, self._facts = catalog, request, facts
        self._silences = [(rule, self._silenced(rule)) for rule in catalog.suppressions] if facts.history else []
        self._counts = [(cap, self._counted(cap)) for cap in catalog.caps]
        self._quiet = next((rule for rule in catalog.quiet_hours if is_quiet(rule, request, values)), None)

    def drop(self, offer: Offer) -> Reason | None:
        """The first limit that an offer meets, in the order of the catalog's semantics."""
        return (
            self._suppressed(offer)
            or self._quiet_now(offer)
            or self._excluded(offer)
            or self._capped(offer)
            or self._spent(offer)
        )

    def _group(self, offer: str) -> str:
        """The group of an offer; "" for one that the catalog no longer has."""
        known = self._catalog.offers.get(offer)
        return known.group if known else ""

    def _reach(self, same: Same, offer: str) -> str:
        return {Same.OFFER: offer, Same.GROUP: self._group(offer), Same.ANY: "*"}[same]

    def _silenced(self, rule: Suppression) -> dict[str, float]:
        """Until when each key of a suppression is silent, for those that are silent now."""
        moments: dict[str, list[float]] = defaultdict(list)
        for event in self._facts.history:
            if event.type == rule.after:
                moments[self._reach(rule.same, event.offer)].append(min(event.at, self._request.now))
        silent = {}
        for key, times in moments.items():
            until = silent_until(sorted(times), rule)
            if key and until is not None and until > self._request.now:
                silent[key] = until
        return silent

    def _suppressed(self, offer: Offer) -> Reason | None:
        for rule, silent in self._silences:
            until = silent.get(self._reach(rule.same, offer.name))
            if until is not None and rule.scope.covers(offer.name, offer.group, self._request.surface):
                what = rule.after if rule.count == 1 else f"{rule.count} {rule.after}s"
                detail = f"quiet after {what} (same {rule.same}), again in {_span(until - self._request.now)}"
                return Reason(offer.name, Stage.SUPPRESSED, rule.name, detail, str(rule.place))
        return None

    def _quiet_now(self, offer: Offer) -> Reason | None:
        if self._quiet is None:
            return None
        detail = f"{self._request.surface} is quiet from {_clock(self._quiet.start)} to {_clock(self._quiet.end)}"
        return Reason(offer.name, Stage.QUIET, self._quiet.name, detail, str(self._quiet.place))

    def _excluded(self, offer: Offer) -> Reason | None:
        for rule in self._catalog.exclusives:
            if offer.name not in rule.offers:
                continue
            for event in self._facts.history:
                other = event.offer in rule.offers and event.offer != offer.name
                if other and event.type == EventType.IMPRESSION and event.at > self._request.now - rule.lasts:
                    detail = f"{event.offer} was shown, and the two exclude each other for {_span(rule.lasts)}"
                    return Reason(offer.name, Stage.EXCLUSIVE, rule.name, detail, str(rule.place))
        return None

    def _counted(self, cap: Cap) -> Counter[str]:
        counts: Counter[str] = Counter()
        for event in self._facts.history:
            if event.type == cap.counts and event.at > self._request.now - cap.per:
                group = self._group(event.offer)
                if cap.scope.covers(event.offer, group, event.surface):
                    counts[_cap_key(cap, event.offer, group, event.surface)] += 1
        return counts

    def _capped(self, offer: Offer) -> Reason | None:
        for cap, counts in self._counts:
            if not cap.scope.covers(offer.name, offer.group, self._request.surface):
                continue
            if "history" in self._facts.unread:
                detail = "the history could not be read, so the cap counts as reached"
                return Reason(offer.name, Stage.CAP, cap.name, detail, str(cap.place))
            count = counts[_cap_key(cap, offer.name, offer.group, self._request.surface)]
            if count >= cap.max:
                detail = f"{count} {cap.counts}s by {cap.by} in {_span(cap.per)}, at most {cap.max}"
                return Reason(offer.name, Stage.CAP, cap.name, detail, str(cap.place))
        return None

    def _spent(self, offer: Offer) -> Reason | None:
        for budget in self._catalog.budgets:
            if offer.name not in budget.offers:
                continue
            spent = self._facts.budgets.get(budget.name)
            if spent is None:
                if not budget.hard:
                    continue
                detail = "the budget could not be read, and it is a hard one"
            elif spent >= allowance(budget, self._request.now):
                detail = f"{spent} of {budget.impressions} impressions are spent"
                detail += " (more later: it is paced)" if spent < budget.impressions else ""
            else:
                continue
            return Reason(offer.name, Stage.BUDGET, budget.name, detail, str(budget.place))
        return None


def silent_until(times: list[float], rule: Suppression) -> float | None:
    """When the silence of a suppression ends, given the sorted moments of its events; None where none began.

    A silence begins with each event that is the `count`-th within `within` seconds.
    """
    for last in range(len(times) - 1, rule.count - 2, -1):
        if rule.within is None or times[last] - times[last - rule.count + 1] <= rule.within:
            return times[last] + rule.lasts
    return None


def allowance(budget: Budget, now: float) -> float:
    """How many impressions a budget allows by now: all of them, or an even share of the time that has passed."""
    if not budget.even or budget.starts is None or budget.until is None or now >= budget.until:
        return float(budget.impressions)
    passed = max(0.0, now - budget.starts) / (budget.until - budget.starts)
    return budget.impressions * passed


def is_quiet(rule: QuietHours, request: Request, values: Mapping[str, Value]) -> bool:
    """Whether a surface is silent now, by the wall clock of the rule's or the user's time zone."""
    if request.surface not in rule.surfaces:
        return False
    name = rule.timezone or values.get("timezone")
    local = datetime.fromtimestamp(request.now, _zone(name if isinstance(name, str) else "UTC"))
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


def _cap_key(cap: Cap, offer: str, group: str, surface: str) -> str:
    return {CapBy.OFFER: offer, CapBy.GROUP: group, CapBy.SURFACE: surface, CapBy.USER: "*"}[cap.by]


def _clock(minute: int) -> str:
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def _span(seconds: float) -> str:
    """A duration as people say it, in its largest fitting unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(1, round(seconds))} s"

"""When a rule that has to do with time lets an offer through by itself. Asked only when a decision is explained."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import inf, nextafter
from typing import NamedTuple

from decisioning.catalog import Catalog, Offer
from decisioning.domain import EventType, Facts, HistoryEvent, Request, Stage, Value
from decisioning.limits import is_quiet, is_spent, silent_until
from decisioning.plan import SurfacePlan
from decisioning.rules import Budget, Cap, CapBy, Exclusive, QuietHours, Same, Suppression


class End(NamedTuple):
    """The first moment at which a rule may let an offer through, and what happens then."""

    at: float
    when: str


def end(
    plan: SurfacePlan,
    stage: Stage,
    position: int,
    offer: Offer,
    request: Request,
    facts: Facts,
    values: Mapping[str, Value],
) -> End | None:
    """When a rule that drops an offer ceases to, as things stand; None where time alone changes nothing."""
    catalog, now = plan.catalog, request.now
    match stage:
        case Stage.LIVE if offer.live_from is not None and now < offer.live_from:
            return End(offer.live_from, "it goes live")
        case Stage.SUPPRESSED:
            return _silence(catalog, catalog.suppressions[position], offer, facts, now)
        case Stage.QUIET:
            until = _loud(catalog.quiet_hours[position], now // 60, values.get("timezone"))
            return None if until is None else End(until, "the quiet hours end")
        case Stage.EXCLUSIVE:
            return _others(catalog.exclusives[position], offer, facts)
        case Stage.CAP:
            return _cap(catalog, catalog.caps[position], offer, request, facts)
        case Stage.BUDGET:
            return _budget(catalog.budgets[position], facts, now)
    return None


def _silence(catalog: Catalog, rule: Suppression, offer: Offer, facts: Facts, now: float) -> End:
    events = _behind(catalog, rule.same, offer, facts)
    times = sorted(min(e.at, now) for e in events if catalog.counts_as(rule.after, e.type, e.offer))
    return End(silent_until(times, rule) or now, f"{rule.name} ends")


@lru_cache(maxsize=256)
def _loud(rule: QuietHours, minute: float, timezone: Value) -> float | None:
    """Minute by minute, so that a clock that changes in the night is right too; None where it is always quiet."""
    start = datetime.fromtimestamp(minute * 60, UTC)
    for minutes in range(1, 26 * 60):
        until = (start + timedelta(minutes=minutes)).timestamp()
        if not is_quiet(rule, until, {"timezone": timezone}):
            return until
    return None


def _others(rule: Exclusive, offer: Offer, facts: Facts) -> End:
    last = max(
        e.at
        for e in facts.history
        if e.type == EventType.IMPRESSION and e.offer in rule.offers and e.offer != offer.name
    )
    return End(last + rule.lasts, f"{rule.name} ends")


def _cap(catalog: Catalog, cap: Cap, offer: Offer, request: Request, facts: Facts) -> End | None:
    """The window frees when as many of its oldest events have left as stand above the cap, and one more."""
    if "history" in facts.unread or cap.max < 1:
        return None
    times = sorted(
        e.at
        for e in _behind(catalog, cap.by, offer, facts, request.surface)
        if catalog.counts_as(cap.counts, e.type, e.offer)
        and request.now - e.at < cap.per
        and cap.scope.covers(e.offer, _group(catalog, e.offer), e.surface)
    )
    return End(times[len(times) - cap.max] + cap.per, "the cap frees")


def _budget(budget: Budget, facts: Facts, now: float) -> End | None:
    """When its pace allows one more; or when it has ended, and counts no more."""
    spent, until = facts.budgets.get(budget.name), budget.until
    if spent is None:
        return None
    if budget.even and budget.starts is not None and until is not None and spent < budget.impressions:
        moment = budget.starts + (until - budget.starts) * spent / budget.impressions
        while moment < until and is_spent(budget, facts, moment):  # its share is `spent` to the bit, or rounded
            moment = nextafter(moment, inf)
        return End(min(moment, until), "its pace allows more")
    return None if until is None else End(until, f"the budget {budget.name} ends")


def _behind(
    catalog: Catalog, reach: Same | CapBy, offer: Offer, facts: Facts, surface: str = ""
) -> Iterable[HistoryEvent]:
    """The past events that bear on an offer, as far as a rule reaches."""
    for event in facts.history:
        match reach:
            case Same.OFFER | CapBy.OFFER:
                bears = event.offer == offer.name
            case Same.GROUP | CapBy.GROUP:
                bears = _group(catalog, event.offer) == offer.group
            case CapBy.SURFACE:
                bears = event.surface == surface
            case _:
                bears = True
        if bears:
            yield event


def _group(catalog: Catalog, offer: str) -> str:
    known = catalog.offers.get(offer)
    return known.group if known else ""

"""The least change that would have shown an offer: what to wait for, which lever to pull, what the user should be.

Asked only when a decision is explained, so written for clarity: it looks at the rules one by one.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import ulp

from decisioning.catalog import Budget, Cap, CapBy, Catalog, Exclusive, Offer, QuietHours, Same, Suppression
from decisioning.conditions import AllOf, AnyOf, Condition, holds
from decisioning.domain import Change, EventType, Facts, HistoryEvent, Request, Stage, Value
from decisioning.limits import is_quiet, silent_until, span
from decisioning.plan import SurfacePlan
from decisioning.words import words


def undo(
    plan: SurfacePlan,
    stages: Iterable[tuple[Stage, int]],
    offer: Offer,
    request: Request,
    facts: Facts,
    values: Mapping[str, Value],
) -> Change:
    """The least change that undoes every drop of an offer: all of them have to give way."""
    changes = [_undo(plan, stage, position, offer, request, facts, values) for stage, position in stages]
    told = list(dict.fromkeys(change.words for change in changes))
    waits = [change.wait for change in changes]
    wait = max((w for w in waits if w is not None), default=None) if None not in waits else None
    return Change("; and ".join(told), wait)


def _undo(
    plan: SurfacePlan,
    stage: Stage,
    position: int,
    offer: Offer,
    request: Request,
    facts: Facts,
    values: Mapping[str, Value],
) -> Change:
    catalog, now = plan.catalog, request.now
    match stage:
        case Stage.KILLED:
            return Change("revive it")
        case Stage.EXCLUDED:
            return Change("leave it out of the request's exclude")
        case Stage.LIVE:
            if offer.live_from is not None and now < offer.live_from:
                return _wait(offer.live_from, now, "when it goes live")
            return Change("a later end of its live window")
        case Stage.ELIGIBLE:
            return Change(f"if {_unmet(offer.eligible or AllOf(()), values, now)}")
        case Stage.INVARIANT | Stage.GUARD:
            rule = plan.rules[position]
            return Change(
                f"if {_unmet(rule.condition, values, now)}" if rule.wanted else f"unless {words(rule.condition)}"
            )
        case Stage.SUPPRESSED:
            return _after_silence(catalog, catalog.suppressions[position], offer, facts, now)
        case Stage.QUIET:
            return _after_quiet(catalog.quiet_hours[position], now, values)
        case Stage.EXCLUSIVE:
            return _after_others(catalog.exclusives[position], offer, facts, now)
        case Stage.CAP:
            return _after_cap(catalog, catalog.caps[position], offer, request, facts)
        case _:
            return _after_budget(catalog.budgets[position], facts, now)


def _wait(until: float, now: float, why: str) -> Change:
    return Change(f"again in {span(until - now)}, {why}", until - now)


def _unmet(condition: Condition, values: Mapping[str, Value], now: float) -> str:
    """The clauses of a conjunction that do not hold: all of them would have to."""
    if isinstance(condition, AllOf):
        unmet = [_unmet(child, values, now) for child in condition.children if not holds(child, values, now)]
        return " and ".join(unmet) or words(condition)
    return f"({words(condition)})" if isinstance(condition, AnyOf) and len(condition.children) > 1 else words(condition)


def _after_silence(catalog: Catalog, rule: Suppression, offer: Offer, facts: Facts, now: float) -> Change:
    times = sorted(min(e.at, now) for e in _behind(catalog, rule.same, offer, facts) if e.type == rule.after)
    return _wait(silent_until(times, rule) or now, now, f"when {rule.name} ends")


def _after_quiet(rule: QuietHours, now: float, values: Mapping[str, Value]) -> Change:
    """Minute by minute, so that a clock that changes in the night is right too."""
    start = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0)
    for minutes in range(1, 26 * 60):
        until = (start + timedelta(minutes=minutes)).timestamp()
        if not is_quiet(rule, until, values):
            return _wait(until, now, "when the quiet hours end")
    return Change("if the quiet hours were shorter")


def _after_others(rule: Exclusive, offer: Offer, facts: Facts, now: float) -> Change:
    last = max(
        e.at
        for e in facts.history
        if e.type == EventType.IMPRESSION and e.offer in rule.offers and e.offer != offer.name
    )
    return _wait(last + rule.lasts, now, f"when {rule.name} ends")


def _after_cap(catalog: Catalog, cap: Cap, offer: Offer, request: Request, facts: Facts) -> Change:
    """The window frees when as many of its oldest events have left as stand above the cap, and one more."""
    if "history" in facts.unread:
        return Change("when the history can be read again")
    if cap.max == 0:
        return Change(f"never, while {cap.name} allows none")
    times = sorted(
        e.at
        for e in _behind(catalog, cap.by, offer, facts, request.surface)
        if e.type == cap.counts
        and request.now - e.at < cap.per
        and cap.scope.covers(e.offer, _group(catalog, e.offer), e.surface)
    )
    return _wait(times[len(times) - cap.max] + cap.per, request.now, "when the cap frees")


def _after_budget(budget: Budget, facts: Facts, now: float) -> Change:
    spent = facts.budgets.get(budget.name)
    if spent is None:
        return Change("when the budget can be read again")
    if not budget.even or budget.starts is None or budget.until is None or spent >= budget.impressions:
        return Change(f"if the budget were more than {spent} impressions")
    moment = budget.starts + (budget.until - budget.starts) * spent / budget.impressions
    return _wait(max(moment, now + 1.0), now, "when its pace allows more")


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


def reach_score(catalog: Catalog, score: float, lever_now: float, wanted: float, what: str) -> Change:
    """The lever with which an offer's score would be `wanted` or more."""
    bare = score / lever_now
    if bare <= 0:
        return Change(f"{what} if it were worth more: no lever turns a score of {score:.4g}")
    lever = wanted / bare
    lever += ulp(lever)  # what rounding took away must not make it fall short
    if lever > catalog.lever_max:
        return Change(
            f"{what} if its lever were {lever:.4g}, more than the bound of {catalog.lever_max:g}", lever=lever
        )
    return Change(f"{what} if its lever is at least {lever:.4g}", lever=lever)

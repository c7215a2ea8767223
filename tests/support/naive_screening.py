"""Screening written straight from its documented meaning, one offer and one event at a time, unlike the engine."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from random_conditions import naive

from decisioning.catalog import Catalog, Offer
from decisioning.conditions import AllOf, AnyOf, Condition, Test
from decisioning.domain import Facts, HistoryEvent, Request, Value
from decisioning.rules import Scope, Suppression

Fate = tuple[str, str | None] | None
"""(stage, rule) of the first rule that says no; None for an offer that every rule leaves. A wish has no name."""


def known(catalog: Catalog, request: Request, facts: Facts) -> dict[str, Value]:
    """What is known: fresh snapshot values, declared context, defaults for the rest."""
    found = {}
    for name, spec in catalog.features.items():
        if spec.from_context:
            value = request.context.get(name)
        else:
            value = facts.features.get(name)
            if spec.max_age is not None and facts.as_of is not None and request.now - facts.as_of > spec.max_age:
                value = None
        value = spec.default if value is None else value
        if value is not None:
            found[name] = value
    return found


def fates(catalog: Catalog, request: Request, facts: Facts) -> dict[str, Fate]:
    """Of every offer on the request's surface."""
    values = known(catalog, request, facts)
    on = [offer for offer in catalog.offers.values() if request.surface in offer.surfaces]
    return {offer.name: next(against(catalog, offer, request, facts, values), None) for offer in on}


def against(catalog: Catalog, offer: Offer, request: Request, facts: Facts, values: dict[str, Value]):
    """Every rule against an offer, in the order of evaluation."""
    now = request.now
    if offer.name in facts.killed:
        yield "killed", offer.name
    if offer.name in request.exclude:
        yield "excluded", None
    if (offer.live_from is not None and now < offer.live_from) or (
        offer.live_until is not None and now >= offer.live_until
    ):
        yield "live", offer.name
    if offer.eligible is not None and not naive(offer.eligible, values, now):
        yield "eligible", offer.name
    for rule in catalog.invariants:
        if covers(rule.never, offer, request.surface) and naive(rule.when, values, now):
            yield "invariant", rule.name
    for rule in catalog.guards:
        if covers(rule.scope, offer, request.surface) and not _lets(rule, catalog, values, now):
            yield "guard", rule.name
    for rule in catalog.suppressions:
        if covers(rule.scope, offer, request.surface) and _is_silent(rule, catalog, offer, facts, now):
            yield "suppressed", rule.name
    for rule in catalog.quiet_hours:
        zone = ZoneInfo(rule.timezone or values.get("timezone") or "UTC")
        local = datetime.fromtimestamp(now, UTC).astimezone(zone)
        minute = local.hour * 60 + local.minute
        after, before = minute >= rule.start, minute < rule.end
        if request.surface in rule.surfaces and ((after and before) if rule.start <= rule.end else (after or before)):
            yield "quiet_hours", rule.name
    for rule in catalog.exclusives:
        others = [
            e for e in facts.history if e.type == "impression" and e.offer in rule.offers and e.offer != offer.name
        ]
        if offer.name in rule.offers and any(now - e.at < rule.lasts for e in others):
            yield "exclusive", rule.name
    for rule in catalog.caps:
        if covers(rule.scope, offer, request.surface) and _is_capped(rule, catalog, offer, request, facts):
            yield "cap", rule.name
    for rule in catalog.budgets:
        if offer.name in rule.offers and _is_spent(rule, facts, now):
            yield "budget", rule.name


def covers(scope: Scope, offer: Offer, surface: str) -> bool:
    return _covers(scope, offer.name, offer.group, surface)


def _covers(scope: Scope, offer: str, group: str, surface: str) -> bool:
    pairs = [
        (offer, scope.only_offers, scope.except_offers),
        (group, scope.only_groups, scope.except_groups),
        (surface, scope.only_surfaces, scope.except_surfaces),
    ]
    return all((not only or name in only) and name not in but for name, only, but in pairs)


def _lets(rule, catalog: Catalog, values: dict[str, Value], now: float) -> bool:
    for condition in (rule.allows, rule.blocks):
        for name in _names(condition) if condition is not None else ():
            if catalog.features[name].blocks_if_missing and name not in values:
                return False
    if rule.allows is not None and not naive(rule.allows, values, now):
        return False
    return rule.blocks is None or not naive(rule.blocks, values, now)


def _names(condition: Condition) -> set[str]:
    if isinstance(condition, Test):
        return {condition.feature}
    children = condition.children if isinstance(condition, AllOf | AnyOf) else ()
    return {name for child in children for name in _names(child)}


def _group(catalog: Catalog, name: str) -> str:
    return catalog.offers[name].group if name in catalog.offers else ""


def _is(wanted: str, event: HistoryEvent, catalog: Catalog) -> bool:
    kinds = {wanted}
    if wanted == "convert" and _group(catalog, event.offer) in catalog.groups:
        kinds.add(catalog.groups[_group(catalog, event.offer)].converts_on)
    return event.type in kinds


def _is_silent(rule: Suppression, catalog: Catalog, offer: Offer, facts: Facts, now: float) -> bool:
    times = []
    for event in facts.history:
        same = {
            "offer": event.offer == offer.name,
            "group": _group(catalog, event.offer) == offer.group,
            "any": True,
        }[rule.same]
        if _is(rule.after, event, catalog) and same:
            times.append(min(event.at, now))
    times.sort()
    for last in range(rule.count - 1, len(times)):
        first = times[last - rule.count + 1]
        if (rule.within is None or times[last] - first <= rule.within) and now - times[last] < rule.lasts:
            return True
    return False


def _is_capped(rule, catalog: Catalog, offer: Offer, request: Request, facts: Facts) -> bool:
    if "history" in facts.unread:
        return True
    count = 0
    for event in facts.history:
        group = _group(catalog, event.offer)
        same = {
            "offer": event.offer == offer.name,
            "group": group == offer.group,
            "surface": event.surface == request.surface,
            "user": True,
        }[rule.by]
        inside = _covers(rule.scope, event.offer, group, event.surface)
        count += _is(rule.counts, event, catalog) and same and inside and request.now - event.at < rule.per
    return count >= rule.max


def _is_spent(rule, facts: Facts, now: float) -> bool:
    if (rule.starts is not None and now < rule.starts) or (rule.until is not None and now >= rule.until):
        return False
    spent = facts.budgets.get(rule.name)
    if spent is None:
        return rule.hard
    if not rule.even or rule.starts is None or rule.until is None:
        return spent >= rule.impressions
    passed = max(0.0, now - rule.starts) / (rule.until - rule.starts)
    return spent >= rule.impressions * passed

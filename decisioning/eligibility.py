"""Which offers may be shown at all: every rule before scoring, and one Reason for each offer dropped."""

from collections.abc import Mapping
from datetime import UTC, datetime

from decisioning.catalog import Catalog, Guard, Offer
from decisioning.conditions import first_failure, holds, reads, words
from decisioning.domain import Facts, Reason, Request, Stage, Value
from decisioning.limits import Limits


def screen(
    catalog: Catalog, request: Request, facts: Facts, values: Mapping[str, Value]
) -> tuple[list[Offer], list[Reason]]:
    """The offers of the request's surface that every rule lets through, and a Reason for each of the others."""
    limits = Limits(catalog, request, facts, values)
    left, dropped = [], []
    for offer in catalog.offers_on(request.surface):
        reason = drop(catalog, offer, request, facts, values) or limits.drop(offer)
        if reason is None:
            left.append(offer)
        else:
            dropped.append(reason)
    return left, dropped


def drop(catalog: Catalog, offer: Offer, request: Request, facts: Facts, values: Mapping[str, Value]) -> Reason | None:
    """The first rule that forbids an offer to this user, limits aside; None where all allow it."""
    return (
        switched_off(offer, request, facts)
        or _not_live(offer, request.now)
        or _not_eligible(offer, values, request.now)
        or forbidden(catalog, offer, request, values)
    )


def forbidden(catalog: Catalog, offer: Offer, request: Request, values: Mapping[str, Value]) -> Reason | None:
    """The first invariant or guard against an offer: what even a fallback must obey."""
    for invariant in catalog.invariants:
        if invariant.never.covers(offer.name, offer.group, request.surface) and holds(
            invariant.when, values, request.now
        ):
            detail = f"never where {words(invariant.when)}"
            return Reason(offer.name, Stage.INVARIANT, invariant.name, detail, str(invariant.place))
    for guard in catalog.guards:
        if guard.scope.covers(offer.name, offer.group, request.surface):
            detail = _blocked(catalog, guard, values, request.now)
            if detail:
                return Reason(offer.name, Stage.GUARD, guard.name, detail, str(guard.place))
    return None


def _blocked(catalog: Catalog, guard: Guard, values: Mapping[str, Value], now: float) -> str:
    """Why a guard says no; empty where it does not. A guard that reads a blocking feature fails closed without it."""
    for condition in (guard.allows, guard.blocks):
        if condition is not None:
            for name in sorted(reads(condition)):
                if name not in values and catalog.features[name].blocks_if_missing:
                    return f"{name} is missing, and this guard needs it"
    if guard.allows is not None:
        failure = first_failure(guard.allows, values, now)
        if failure is not None:
            return failure.detail
    if guard.blocks is not None and holds(guard.blocks, values, now):
        return f"blocked where {words(guard.blocks)}"
    return ""


def switched_off(offer: Offer, request: Request, facts: Facts) -> Reason | None:
    """A Reason where the kill switch or the request itself takes an offer out."""
    if offer.name in facts.killed:
        return Reason(offer.name, Stage.KILLED, offer.name, "switched off by the kill switch", str(offer.place))
    if offer.name in request.exclude:
        return Reason(offer.name, Stage.EXCLUDED, offer.name, "the request excludes it")
    return None


def _not_live(offer: Offer, now: float) -> Reason | None:
    if offer.live_from is not None and now < offer.live_from:
        detail = f"goes live on {_moment(offer.live_from)}"
    elif offer.live_until is not None and now >= offer.live_until:
        detail = f"ended on {_moment(offer.live_until)}"
    else:
        return None
    return Reason(offer.name, Stage.LIVE, offer.name, detail, str(offer.place))


def _not_eligible(offer: Offer, values: Mapping[str, Value], now: float) -> Reason | None:
    if offer.eligible is None or holds(offer.eligible, values, now):
        return None
    failure = first_failure(offer.eligible, values, now)
    detail, place = (failure.detail, failure.place) if failure else ("not eligible", offer.place)
    return Reason(offer.name, Stage.ELIGIBLE, offer.name, detail, str(place))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Why a rule took an offer away, in words: from what a screen dropped, with the rule's name and its place."""

from collections.abc import Mapping
from datetime import UTC, datetime

from decisioning.catalog import Offer
from decisioning.conditions import AllOf, Condition, Op, Test, reads
from decisioning.domain import Facts, Reason, Request, Stage, Value
from decisioning.limits import Drop
from decisioning.plan import Rule, Screen, SurfacePlan
from decisioning.words import first_failure, words


def reason(
    plan: SurfacePlan, drop: Drop, offer: Offer, request: Request, facts: Facts, values: Mapping[str, Value]
) -> Reason:
    """Why a drop takes one of its offers."""
    stage, position, _ = drop
    match stage:
        case Stage.KILLED:
            return Reason(offer.name, stage, offer.name, "switched off by the kill switch", str(offer.place))
        case Stage.EXCLUDED:
            return Reason(offer.name, stage, offer.name, "the request excludes it")
        case Stage.LIVE:
            return Reason(offer.name, stage, offer.name, _live_words(offer, request.now), str(offer.place))
        case Stage.ELIGIBLE:
            failure = first_failure(offer.eligible or AllOf(()), values, request.now)
            detail, place = (failure.detail, failure.place) if failure else ("not eligible", offer.place)
            return Reason(offer.name, stage, offer.name, detail, str(place))
        case Stage.INVARIANT | Stage.GUARD:
            rule = plan.rules[position]
            return Reason(offer.name, stage, rule.name, _rule_words(rule, values, request.now), str(rule.place))
    return plan.limits.reason(drop, offer, request, facts)


def reasons(
    plan: SurfacePlan, screen: Screen, request: Request, facts: Facts, values: Mapping[str, Value]
) -> dict[str, Reason]:
    """The first rule against each offer of the surface that a screen dropped, by offer."""
    found = {}
    for offer in plan.offers:
        bit = plan.bits[offer.name]
        drop = next((drop for drop in screen.drops if drop[2] & bit), None)
        if drop is not None and bit & plan.everything:
            found[offer.name] = reason(plan, drop, offer, request, facts, values)
    return found


def _rule_words(rule: Rule, values: Mapping[str, Value], now: float) -> str:
    if not rule.wanted:
        return f"{'never' if rule.stage is Stage.INVARIANT else 'blocked'} where {words(rule.condition)}"
    missing = [name for name in sorted(reads(rule.condition)) if name not in values]
    failure = first_failure(rule.condition, values, now)
    if failure is None:
        return words(rule.condition)
    return f"{missing[0]} is missing, and this guard needs it" if _is_presence(rule.condition) else failure.detail


def _is_presence(condition: Condition) -> bool:
    return isinstance(condition, AllOf) and all(isinstance(c, Test) and c.op is Op.PRESENT for c in condition.children)


def _live_words(offer: Offer, now: float) -> str:
    if offer.live_from is not None and now < offer.live_from:
        return f"goes live on {_moment(offer.live_from)}"
    return f"ended on {_moment(offer.live_until or now)}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Why an offer is not shown, in words: the rule, threshold or rival that it met first, with its name and place."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from decisioning.arbitration import Ranking, order
from decisioning.catalog import Offer
from decisioning.conditions import AllOf, Condition, Op, Test, reads
from decisioning.domain import NOTHING, Decision, Reason, Stage, Value
from decisioning.engine import Case, company_of
from decisioning.figures import apart
from decisioning.limits import Drop
from decisioning.plan import Rule
from decisioning.rules import Cap, Exclusive
from decisioning.slate import Room
from decisioning.words import first_failure, words


def reasons(case: Case) -> dict[str, Reason]:
    """The first rule against each offer of the surface that the screen dropped, by offer."""
    plan, found = case.plan, {}
    for offer in plan.offers:
        bit = plan.bits[offer.name]
        drop = next((drop for drop in case.screen.drops if drop[2] & bit), None)
        if drop is not None and bit & plan.everything:
            found[offer.name] = reason(case, drop, offer)
    return found


def reason(case: Case, drop: Drop, offer: Offer) -> Reason:
    """Why a drop takes one of its offers."""
    stage, position, _ = drop
    now = case.request.now
    match stage:
        case Stage.KILLED:
            return Reason(offer.name, stage, offer.name, "switched off by the kill switch", str(offer.place))
        case Stage.EXCLUDED:
            return Reason(offer.name, stage, offer.name, "the request excludes it")
        case Stage.LIVE:
            return Reason(offer.name, stage, offer.name, _live_words(offer, now), str(offer.place))
        case Stage.ELIGIBLE:
            failure = first_failure(offer.eligible or AllOf(()), case.values, now)
            detail, place = (failure.detail, failure.place) if failure else ("not eligible", offer.place)
            return Reason(offer.name, stage, offer.name, detail, str(place))
        case Stage.INVARIANT | Stage.GUARD:
            rule = case.plan.rules[position]
            return Reason(offer.name, stage, rule.name, _rule_words(rule, case.values, now), str(rule.place))
    return case.plan.limits.reason(drop, offer, case.request, case.facts)


def missed(case: Case, ranking: Ranking, offer: str) -> Reason:
    """Which threshold an offer missed."""
    p_convert, score = ranking.below[offer]
    least_p, least_score = case.plan.surface.min_p_convert, ranking.factors.min_score
    if least_p is not None and p_convert < least_p:
        own, least = apart(p_convert, least_p)
        rule, detail = "min_p_convert", f"p_convert is {own}, needs at least {least}"
    else:
        own, least = apart(score, least_score or 0.0)
        rule, detail = "min_score", f"score is {own}, needs at least {least}"
    return Reason(offer, Stage.THRESHOLD, rule, detail, str(case.plan.surface.place))


def kept(offer: str, until: float) -> Reason:
    """Why a sticky answer that is given again shows no other offer."""
    return Reason(offer, Stage.OUTRANKED, "sticky", f"the answer of this period is kept until {moment(until)}")


class Contest:
    """The candidates of a decision, and the slate that they were for."""

    def __init__(self, case: Case, ranking: Ranking, decision: Decision) -> None:
        names = ranking.left.names
        self.ranked = [names[place] for place in order(ranking, case.request.user, case.release.id)]
        """Best first."""
        self._case, self._company, self._first = case, company_of(case, ranking), decision.first
        self._champion = decision.policy.champion if decision.policy else NOTHING
        self._slate = [one.offer for one in decision.slate]
        self._ranks = {name: rank for rank, name in enumerate(self.ranked)}
        self._scores = dict(zip(names, ranking.scores, strict=True))
        self._classes = dict(zip(names, ranking.left.of(ranking.factors.priority), strict=True))

    def lost(self, offer: str) -> Reason:
        """Why a candidate is not in the slate: no worth, the draw, no room beside better ones, or no slot left."""
        own, slate = self._scores[offer], self._slate
        if own <= 0 and self._case.plan.surface.allow_nothing:
            return Reason(offer, Stage.OUTRANKED, "score", f"score {own:.4g} is worth no more than showing nothing")
        if self._champion == NOTHING and not slate:  # as where deciding failed
            return Reason(offer, Stage.OUTRANKED, "draw", f"score {own:.4g}; nothing was drawn")
        rival, room = self._company.rival(offer, slate) or (NOTHING, None)
        if rival == self._first != self._champion and not self._above(rival, offer):
            return Reason(offer, Stage.OUTRANKED, "draw", f"score {own:.4g}; the draw fell on {rival}")
        before = 1 + sum(self._above(other, offer) for other in slate[1:])
        if room is not None and before < self._company.slots:
            return _no_room(self._case, offer, room, slate)
        return self._outranked(offer, slate[-1])

    def _outranked(self, offer: str, rival: str) -> Reason:
        mine, theirs = self._classes[offer], self._classes[rival]
        if theirs > mine:
            detail = f"priority class {mine} against {theirs} of {rival}"
            return Reason(offer, Stage.OUTRANKED, "priority", detail)
        own, best = self._scores[offer], self._scores[rival]
        tie = " (a tie, settled by hash)" if own == best else ""
        return Reason(
            offer, Stage.OUTRANKED, "score", "score {} against {} of {}{}".format(*apart(own, best), rival, tie)
        )

    def _above(self, one: str, other: str) -> bool:
        """Whether one ranks above the other; showing nothing above none."""
        return one != NOTHING and self._ranks[one] < self._ranks[other]


def _no_room(case: Case, offer: str, room: Room, slate: Sequence[str]) -> Reason:
    """Which rule lets a slate hold no more beside what it holds."""
    bits, most, rule = room
    beside = " and ".join(name for name in slate if case.plan.bits[name] & bits)
    many = f"{most} more" if isinstance(rule, Cap) else f"{most}"
    match rule:
        case Exclusive():
            detail = f"{beside} is in the slate, and the two exclude each other"
        case Cap():
            detail = f"the cap has room for {many} {rule.counts} by {rule.by}, and {beside} takes it"
        case None:
            group = case.plan.catalog.offers[offer].group
            detail = f"a slate has room for {many} of the group {group}, and {beside} takes it"
    name, place = (rule.name, rule.place) if rule else ("max_per_group", case.plan.surface.place)
    return Reason(offer, Stage.SLATE, name, detail, str(place))


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
        return f"goes live on {moment(offer.live_from)}"
    return f"ended on {moment(offer.live_until or now)}"


def moment(at: float) -> str:
    """A time as people read it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""A decision in words: why this offer, and why not each of the others. From the same inputs, so never out of step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from decisioning.arbitration import Ranking, order
from decisioning.catalog import Catalog
from decisioning.conditions import AllOf, conjuncts
from decisioning.domain import NOTHING, Candidate, Decision, Facts, Reason, Request, Rung, Source, Stage
from decisioning.engine import Case, Release, examine, rank
from decisioning.identity import sticky_until
from decisioning.plan import Rule
from decisioning.reasons import Contest, kept, missed, moment, reason, reasons
from decisioning.recalled import recalled
from decisioning.remedy import least_change
from decisioning.supposed import Remembering, Supposed
from decisioning.words import Failure, words

_STAGES = {stage: position for position, stage in enumerate(Stage)}

OVERLOAD = "overload"
"""What stands for the rule where no offer but the fallback was looked at."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision came out as it did."""

    candidates: tuple[Candidate, ...]
    """The offers that passed every rule and threshold, best first, with their factors."""
    reasons: tuple[Reason, ...]
    """One for each offer of the surface that was dropped, in the order of evaluation."""
    outranked: tuple[Reason, ...]
    """One for each candidate that is not shown, best first."""
    kept_until: float | None = None
    """Where a sticky answer was given again: when the next one is drawn."""

    @property
    def fates(self) -> tuple[Reason, ...]:
        """A Reason for every offer that is not shown."""
        return self.reasons + self.outranked


def explain(
    release: Release, request: Request, facts: Facts, decision: Decision, *, changes: bool = True
) -> Explanation:
    """Why a decision was made, from what it was made of: at once, or years later from its log record.

    Without `changes` the least change of each offer is not looked for, which is most of the work.
    """
    case = examine(release, request, facts)
    ranking = rank(case, case.scorers, simple=case.holdout is not None)
    kept_until = _kept_until(case, decision)
    shown = {one.offer for one in decision.slate}
    dropped = [why for why in _dropped(case, ranking, kept_until) if why.offer not in shown]
    dropped.sort(key=lambda why: (_STAGES[why.stage], why.offer))
    if facts.shed is not None and facts.shed.rung is Rung.FALLBACK:
        unseen = tuple(_unseen(name) for name in ranking.left.names if name not in shown)
        return Explanation((), tuple(dropped), unseen, None)
    outranked = _outranked(case, ranking, decision, kept_until)
    found = Explanation(_candidates(case, ranking), tuple(dropped), tuple(outranked), kept_until)
    if not changes:
        return found
    told = tuple(with_changes(release, request, facts, found))
    return replace(found, reasons=told[: len(dropped)], outranked=told[len(dropped) :])


def with_changes(release: Release, request: Request, facts: Facts, explanation: Explanation) -> Iterator[Reason]:
    """The fates of an explanation, each with the least change that would have shown the offer.

    One at a time, as each may take a millisecond: so a server can see to others in between.
    """
    scorers = {name: Remembering(scorer) for name, scorer in recalled(release.scorers, facts.shed).items()}
    for why in explanation.fates:
        offer = release.catalog.offers[why.offer]
        supposed = Supposed(release, scorers, request, facts, offer, kept_until=explanation.kept_until or 0.0)
        yield replace(why, change=least_change(supposed))


def _kept_until(case: Case, decision: Decision) -> float | None:
    """Until when a sticky answer that was given before is; None for a decision of its own.

    What was drawn has its policy; what a model or the rules chose was drawn.
    """
    repeated = decision.policy is None and decision.source in (Source.MODEL, Source.RULES)
    period = case.plan.surface.sticky
    return sticky_until(case.request.now, period) if repeated and period else None


def _candidates(case: Case, ranking: Ranking) -> tuple[Candidate, ...]:
    found, positions, factors = [], ranking.left.positions, ranking.factors
    for place in order(ranking, case.request.user, case.release.id):
        at = positions[place]
        found.append(
            Candidate(
                ranking.left.names[place],
                ranking.p_convert[place],
                ranking.effect[place],
                factors.net[at],
                factors.context[at],
                factors.lever[at],
                ranking.scores[place],
                factors.priority[at],
            )
        )
    return tuple(found)


def _dropped(case: Case, ranking: Ranking, kept_until: float | None) -> Iterator[Reason]:
    """What the rules dropped, then what missed a threshold; the fallback too, where even that may not be shown."""
    plan, found = case.plan, reasons(case)
    if not ranking.left.names and plan.surface.fallback:
        drop = plan.against_fallback(case.screen)
        if drop is not None:
            found[plan.surface.fallback] = reason(case, drop, case.release.catalog.offers[plan.surface.fallback])
    yield from found.values()
    if kept_until is None:
        yield from (missed(case, ranking, offer) for offer in ranking.below)


def _outranked(case: Case, ranking: Ranking, decision: Decision, kept_until: float | None) -> list[Reason]:
    """The candidates that are not shown. A sticky answer that is given again was not chosen among them."""
    slate = [one.offer for one in decision.slate]
    contest = Contest(case, ranking, decision)
    others = [offer for offer in contest.ranked if offer not in slate]
    if kept_until is None:
        return list(map(contest.lost, others))
    return [kept(offer, kept_until) for offer in (*others, *sorted(ranking.below)) if offer not in slate]


def _unseen(offer: str) -> Reason:
    return Reason(offer, Stage.OUTRANKED, OVERLOAD, "the server was behind and looked at the fallback alone")


# --- In a line --------------------------------------------------------------------------------------------------------


def headline(catalog: Catalog, decision: Decision, explanation: Explanation) -> str:
    """One line that says what is shown and why, with its factors."""
    if explanation.kept_until is not None:
        return f"{decision.first}: the answer of this period, kept until {moment(explanation.kept_until)}."
    if not decision.slate:
        explored = decision.policy is not None and decision.policy.champion != NOTHING
        return "Nothing: the draw explored showing no offer." if explored else "Nothing: no offer is left or worth it."
    first = decision.slate[0]
    if decision.source is Source.FALLBACK:
        if any(one.rule == OVERLOAD for one in explanation.outranked):
            return f"{first.offer}: the fallback of {decision.surface}, as the server was behind."
        return f"{first.offer}: the fallback of {decision.surface}, as every other offer was dropped."
    factors = next(one for one in explanation.candidates if one.offer == first.offer)
    told = f"{first.offer}: {_factors(catalog, factors)}"
    return f"{told}; {_how(decision)}, chance {first.probability:.1%}."


def _factors(catalog: Catalog, one: Candidate) -> str:
    chance = f"p_convert {one.p_convert:.2%}"
    if one.effect != one.p_convert:
        chance += f" (uplift {one.effect:+.2%})"
    context = f" × context {one.context:g}" if one.context != 1.0 else ""
    lever = f" × lever {one.lever:g}" if one.lever != 1.0 else ""
    return f"{chance} × {one.value:.2f} {catalog.currency}{context}{lever} = score {one.score:.4g}"


def _how(decision: Decision) -> str:
    """What put the offer into slot 1."""
    policy = decision.policy
    if decision.holdout:
        return f"the simple policy, as the user is held out ({decision.holdout})"
    if policy is None or decision.first == policy.champion:
        return "ranked first" if decision.source is Source.MODEL else "ranked first by the rules"
    if decision.first == policy.challenger:
        return "the challenger's choice"
    return f"explored instead of {policy.champion}"


# --- From the truth word ----------------------------------------------------------------------------------------------


def decoded(release: Release, decision: Decision) -> dict[str, tuple[Failure, ...]]:
    """What an offer's conditions said no to, from the decision's truth word alone: no facts needed.

    Every clause of eligibility that did not hold, then every invariant and guard: a Reason names the first alone.
    """
    found: dict[str, tuple[Failure, ...]] = {}
    if not decision.truth:  # an answer that is given again, or that no rule was asked for
        return found
    plan, word = release.plans[decision.surface], int(decision.truth, 16)
    for offer in plan.offers:
        clauses = conjuncts(offer.eligible or AllOf(()))
        failed = [Failure(words(clause), clause.place) for clause in clauses if not plan.index.holds(clause, word)]
        for rule in plan.rules:
            if rule.covers & plan.bits[offer.name] and plan.index.holds(rule.condition, word) is not rule.wanted:
                failed.append(Failure(_rule_words(rule), rule.place))
        if failed:
            found[offer.name] = tuple(failed)
    return found


def _rule_words(rule: Rule) -> str:
    if rule.wanted:
        return f"{rule.name}: only where {words(rule.condition)}"
    return f"{rule.name}: {'never' if rule.stage is Stage.INVARIANT else 'blocked'} where {words(rule.condition)}"

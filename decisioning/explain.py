"""A decision in words: why this offer, and why not each of the others. From the same inputs, so never out of step."""

from collections.abc import Sequence
from dataclasses import dataclass

from decisioning.arbitration import Ranking, order
from decisioning.catalog import Catalog
from decisioning.domain import NOTHING, Candidate, Decision, Facts, Reason, Request, Source, Stage
from decisioning.engine import Case, Release, examine, rank


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision came out as it did."""

    candidates: tuple[Candidate, ...]
    """The offers that passed every rule and threshold, best first, with their factors."""
    reasons: tuple[Reason, ...]
    """One for each offer of the surface that was dropped, in the order of evaluation."""
    outranked: tuple[Reason, ...]
    """One for each candidate that is not shown, best first."""

    @property
    def fates(self) -> tuple[Reason, ...]:
        """A Reason for every offer that is not shown."""
        return self.reasons + self.outranked


def explain(release: Release, request: Request, facts: Facts, decision: Decision) -> Explanation:
    """Why a decision was made, from what it was made of: at once, or years later from its log record."""
    case = examine(release, request, facts)
    ranking = rank(case, release.scorers, simple=case.holdout is not None)
    candidates = _candidates(case, ranking)
    shown = {one.offer for one in decision.slate}
    stages = {stage: position for position, stage in enumerate(Stage)}
    dropped = [reason for reason in _dropped(case, ranking) if reason.offer not in shown]
    outranked = tuple(_outranked(decision, candidates, one) for one in candidates if one.offer not in shown)
    dropped.sort(key=lambda reason: (stages[reason.stage], reason.offer))
    return Explanation(candidates, tuple(dropped), outranked)


def _candidates(case: Case, ranking: Ranking) -> tuple[Candidate, ...]:
    found = []
    for place in order(ranking, case.request.user, case.release.id):
        at = ranking.left.positions[place]
        factors = ranking.factors
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


def _dropped(case: Case, ranking: Ranking) -> list[Reason]:
    """What the rules dropped, then what missed a threshold; the fallback too, where even that may not be shown."""
    plan = case.plan
    found = plan.reasons(case.screen, case.request, case.facts, case.values)
    for offer, (p_convert, score) in ranking.below.items():
        least_p, least_score = plan.surface.min_p_convert, ranking.factors.min_score
        if least_p is not None and p_convert < least_p:
            rule, detail = "min_p_convert", f"p_convert is {p_convert:.4g}, needs at least {least_p:g}"
        else:
            rule, detail = "min_score", f"score is {score:.4g}, needs at least {least_score:g}"
        found[offer] = Reason(offer, Stage.THRESHOLD, rule, detail, str(plan.surface.place))
    drop = plan.against_fallback(case.screen)
    if drop is not None and plan.surface.fallback and not ranking.left.names:
        fallback = case.release.catalog.offers[plan.surface.fallback]
        found[fallback.name] = plan.reason(drop, fallback, case.request, case.facts, case.values)
    return list(found.values())


def _outranked(decision: Decision, candidates: Sequence[Candidate], one: Candidate) -> Reason:
    best = next((other.score for other in candidates if other.offer == decision.first), None)
    against = f" against {best:.4g} of {decision.first}" if best is not None else ""
    return Reason(one.offer, Stage.OUTRANKED, "score", f"score {one.score:.4g}{against}")


def headline(catalog: Catalog, decision: Decision, explanation: Explanation) -> str:
    """One line that says what is shown and why, with its factors."""
    if not decision.slate:
        explored = decision.policy is not None and decision.policy.champion != NOTHING
        return "Nothing: the draw explored showing no offer." if explored else "Nothing: no offer is left or worth it."
    first = decision.slate[0]
    if decision.source is Source.FALLBACK:
        return f"{first.offer}: the fallback of {decision.surface}, as every other offer was dropped."
    factors = next(one for one in explanation.candidates if one.offer == first.offer)
    words = f"{first.offer}: {_factors(catalog, factors)}"
    return f"{words}; {_how(decision)}, chance {first.probability:.1%}."


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

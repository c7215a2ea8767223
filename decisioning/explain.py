"""A decision in words: why this offer, and why not each of the others. From the same inputs, so never out of step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from decisioning.arbitration import Ranking, order
from decisioning.catalog import Catalog
from decisioning.conditions import AllOf, conjuncts
from decisioning.domain import NOTHING, Candidate, Change, Decision, Facts, Reason, Request, Source, Stage
from decisioning.engine import Case, Release, examine, rank
from decisioning.reasons import reason, reasons
from decisioning.remedy import reach_score, undo
from decisioning.words import Failure, words


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
    outranked = tuple(
        _outranked(release.catalog, decision, candidates, one) for one in candidates if one.offer not in shown
    )
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
    found = {
        name: replace(why, change=_undone(case, name))
        for name, why in reasons(plan, case.screen, case.request, case.facts, case.values).items()
    }
    for offer, (p_convert, score) in ranking.below.items():
        least_p, least_score = plan.surface.min_p_convert, ranking.factors.min_score
        if least_p is not None and p_convert < least_p:
            rule, detail = "min_p_convert", f"p_convert is {p_convert:.4g}, needs at least {least_p:g}"
            change = Change("shown if it were likelier to convert: no lever lifts it past this threshold")
        else:
            rule, detail = "min_score", f"score is {score:.4g}, needs at least {least_score:g}"
            lever = ranking.factors.lever[plan.position(offer)]
            change = reach_score(case.release.catalog, score, lever, least_score or 0.0, "past the threshold")
        found[offer] = Reason(offer, Stage.THRESHOLD, rule, detail, str(plan.surface.place), change)
    drop = plan.against_fallback(case.screen)
    if drop is not None and plan.surface.fallback and not ranking.left.names:
        fallback = case.release.catalog.offers[plan.surface.fallback]
        why = reason(plan, drop, fallback, case.request, case.facts, case.values)
        found[fallback.name] = replace(why, change=_undone(case, fallback.name))
    return list(found.values())


def _undone(case: Case, offer: str) -> Change:
    """What would undo every rule against an offer at once."""
    bit = case.plan.bits[offer]
    against = [(stage, position) for stage, position, mask in case.screen.drops if mask & bit]
    return undo(case.plan, against, case.release.catalog.offers[offer], case.request, case.facts, case.values)


def _outranked(catalog: Catalog, decision: Decision, candidates: Sequence[Candidate], one: Candidate) -> Reason:
    best = next((other.score for other in candidates if other.offer == decision.first), None)
    against = f" against {best:.4g} of {decision.first}" if best is not None else ""
    change = _to_win(catalog, decision, candidates, one)
    return Reason(one.offer, Stage.OUTRANKED, "score", f"score {one.score:.4g}{against}", change=change)


def _to_win(catalog: Catalog, decision: Decision, candidates: Sequence[Candidate], one: Candidate) -> Change:
    """What would put a candidate into slot 1, as far as ranking goes."""
    champion = decision.policy.champion if decision.policy else NOTHING
    rival = next((other for other in candidates if other.offer == champion), None)
    if one.offer == champion:
        return Change("it ranks first: another draw shows it")
    if decision.holdout:
        return Change("if the user were not held out")
    if rival is not None and rival.priority > one.priority:
        return Change(f"wins if its priority class is {rival.priority} or more")
    return reach_score(catalog, one.score, one.lever, rival.score if rival else 0.0, "wins")


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


def decoded(release: Release, decision: Decision) -> dict[str, tuple[Failure, ...]]:
    """The clauses of eligibility that did not hold, by offer, from the decision's truth word alone: no facts needed."""
    plan, word = release.plans[decision.surface], int(decision.truth or "0", 16)
    found = {}
    for offer in plan.offers:
        clauses = conjuncts(offer.eligible or AllOf(()))
        failed = tuple(Failure(words(clause), clause.place) for clause in clauses if not plan.index.holds(clause, word))
        if failed:
            found[offer.name] = failed
    return found

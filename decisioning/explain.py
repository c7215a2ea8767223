"""A decision in words: why this offer, and why not each of the others."""

from decisioning.catalog import Catalog
from decisioning.domain import Candidate, Decision, Reason, Source, Stage


def fates(decision: Decision) -> tuple[Reason, ...]:
    """A Reason for every offer that was not shown: those dropped, in the order of evaluation, then those outranked."""
    order = {stage: position for position, stage in enumerate(Stage)}
    shown = {one.offer for one in decision.slate}
    dropped = sorted(decision.reasons, key=lambda reason: (order[reason.stage], reason.offer))
    return (*dropped, *(_outranked(decision, one) for one in decision.candidates if one.offer not in shown))


def _outranked(decision: Decision, one: Candidate) -> Reason:
    first = decision.first
    best = next((other.score for other in decision.candidates if other.offer == first), None)
    against = f" against {best:.4g} of {first}" if best is not None else ""
    return Reason(one.offer, Stage.OUTRANKED, "score", f"score {one.score:.4g}{against}")


def headline(catalog: Catalog, decision: Decision) -> str:
    """One line that says what is shown and why, with its factors."""
    if not decision.slate:
        explored = decision.policy is not None
        return "Nothing: the draw explored showing no offer." if explored else "Nothing: every offer was dropped."
    first = decision.slate[0]
    if decision.source is Source.FALLBACK:
        return f"{first.offer}: the fallback of {decision.surface}, as every other offer was dropped."
    factors = next(one for one in decision.candidates if one.offer == first.offer)
    words = f"{first.offer}: {_factors(catalog, factors)}"
    return f"{words}; {_how(decision)}, chance {first.probability:.1%}."


def _factors(catalog: Catalog, one: Candidate) -> str:
    chance = f"p_convert {one.p_convert:.2%}"
    if one.effect != one.p_convert:
        chance += f" (uplift {one.effect:+.2%})"
    lever = f" × lever {one.lever:g}" if one.lever != 1.0 else ""
    return f"{chance} × {one.value:.2f} {catalog.currency}{lever} = score {one.score:.4g}"


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

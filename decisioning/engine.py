"""`decide`: the one function that makes every decision, online, in batch, in replay, in simulation, in evaluation.

Pure: the same release, request and facts give the same Decision, to the last bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from decisioning.arbitration import above_thresholds, candidates, fill, rank, scores_of
from decisioning.catalog import Catalog, Offer, Surface
from decisioning.domain import (
    MILLION,
    NOTHING,
    Candidate,
    Decision,
    Facts,
    Policy,
    Reason,
    Request,
    Scorer,
    Shown,
    Source,
    Value,
)
from decisioning.eligibility import forbidden, screen, switched_off
from decisioning.errors import UserError
from decisioning.experiments import arms_of, holdout_of, overrides_of
from decisioning.exploration import certain, chosen, mixture
from decisioning.identity import draw
from decisioning.knowledge import known_values


@dataclass(frozen=True, slots=True)
class Release:
    """All that a decision needs besides facts. Without scorers, the rules decide by the catalog's priors."""

    id: str
    catalog: Catalog
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    challengers: Mapping[str, Scorer] = field(default_factory=dict)
    salt: str = ""


@dataclass(frozen=True, slots=True)
class _Case:
    """One request on its way to a decision: what was asked, what is known, and what the rules left."""

    release: Release
    surface: Surface
    request: Request
    facts: Facts
    values: Mapping[str, Value]
    left: Sequence[Offer]
    dropped: Sequence[Reason]
    arms: Mapping[str, str]
    holdout: str | None


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What is left of a case in the order of one set of scorers."""

    ranked: tuple[Candidate, ...]
    reasons: Sequence[Reason]
    labels: frozenset[str]
    choice: str
    """What it shows first: NOTHING where the surface allows that and no offer is worth more."""


def decide(release: Release, request: Request, facts: Facts) -> Decision:
    """Which offers this user sees, and why: drop what the rules forbid, score and rank what is left, draw.

    Raises UserError for a surface that the catalog does not have; nothing else, whatever the facts.
    """
    case = _open(release, request, facts)
    simple = case.holdout is not None
    ranking = _rank(case, release.scorers, simple=simple)
    if not ranking.ranked:
        return _fall_back(case, ranking)
    fate = draw(release.salt, request.decision_id)
    policy = certain(ranking.choice, fate) if simple else _policy(case, ranking, fate)
    return Decision(
        decision_id=request.decision_id,
        surface=case.surface.name,
        release=release.id,
        slate=_slate(case, ranking.ranked, policy),
        source=Source.MODEL if ranking.labels else Source.RULES,
        model=",".join(sorted(ranking.labels)) or None,
        degraded=_degraded(case),
        candidates=ranking.ranked,
        reasons=_sorted([*case.dropped, *ranking.reasons]),
        policy=policy,
        arms=case.arms,
        holdout=case.holdout,
        ghost=_ghost(case, fate) if simple else None,
    )


def _open(release: Release, request: Request, facts: Facts) -> _Case:
    """What is known, what the rules leave of the surface's offers, and where the user stands in experiments."""
    catalog = release.catalog
    surface = catalog.surfaces.get(request.surface)
    if surface is None:
        raise UserError(f"There is no surface of that name. The catalog has: {', '.join(sorted(catalog.surfaces))}.")
    values = known_values(catalog, request, facts)
    holdout = holdout_of(catalog, request.user, request.surface)
    arms = {} if holdout else arms_of(catalog, request.user, values, request.now)
    left, dropped = screen(catalog, request, facts, values)
    return _Case(release, surface, request, facts, values, left, dropped, arms, holdout.name if holdout else None)


def _rank(case: _Case, scorers: Mapping[str, Scorer], *, simple: bool = False) -> _Ranking:
    """Score, pull the levers, apply the thresholds, rank.

    Unread features leave no room for personal scores. `simple` is the best single offer policy that the held out get:
    each offer's mean for everybody, no levers, no experiments.
    """
    catalog, surface, request = case.release.catalog, case.surface, case.request
    personal = not simple and "features" not in case.facts.unread
    overrides = overrides_of(catalog, case.arms)
    scores, labels = scores_of(case.left, scorers, case.values, surface.name, personal)
    levers = () if simple else catalog.levers
    found = candidates(catalog, case.left, scores, surface.name, request.now, overrides, levers)
    found, reasons = above_thresholds(surface, found, overrides)
    ranked = rank(found, request.user, case.release.id)
    worthy = (one.offer for one in ranked if one.score > 0 or not surface.allow_nothing)
    return _Ranking(ranked, reasons, frozenset(labels), next(worthy, NOTHING))


def _policy(case: _Case, ranking: _Ranking, fate: int) -> Policy:
    """The mixture over what is left. A challenger's choice counts only where it is among that."""
    actions = {one.offer for one in ranking.ranked} | ({NOTHING} if case.surface.allow_nothing else set())
    challenger = None
    if case.release.challengers:
        theirs = _rank(case, case.release.challengers).choice
        challenger = theirs if theirs in actions else None
    exploration = case.release.catalog.exploration
    return mixture(
        actions,
        ranking.choice,
        challenger,
        uniform=exploration.uniform,
        canary=exploration.challenger,
        draw=fate,
    )


def _ghost(case: _Case, fate: int) -> str:
    """What a held-out user would have been shown first."""
    full = _rank(case, case.release.scorers)
    return chosen(_policy(case, full, fate)) if full.ranked else NOTHING


def _slate(case: _Case, ranked: tuple[Candidate, ...], policy: Policy) -> tuple[Shown, ...]:
    """The slots, and the chance that each had of holding what it holds. Only slot 1 explores."""
    catalog, surface = case.release.catalog, case.surface
    slots = min(case.request.slots or surface.slots, surface.slots)
    first = chosen(policy)
    if first == NOTHING:
        return ()
    slate = fill(catalog, surface, ranked, slots, first)
    odds = [0] * len(slate)
    for action, weight in zip(policy.offers, policy.weights, strict=True):
        if weight and action != NOTHING:
            other = (action,) if slots == 1 else fill(catalog, surface, ranked, slots, action)
            for slot, (ours, theirs) in enumerate(zip(slate, other, strict=False)):
                odds[slot] += weight if ours == theirs else 0
    by_name = {one.offer: one for one in ranked}
    return tuple(
        Shown(
            offer=offer,
            slot=slot + 1,
            creative=_creative(catalog.offers[offer], case.request),
            p_convert=by_name[offer].p_convert,
            score=by_name[offer].score,
            probability=odds[slot] / MILLION,
        )
        for slot, offer in enumerate(slate)
    )


def _fall_back(case: _Case, ranking: _Ranking) -> Decision:
    """Nothing is left: the surface's fallback, itself subject to guards; or no offer, with the reasons."""
    catalog = case.release.catalog
    reasons = {reason.offer: reason for reason in [*case.dropped, *ranking.reasons]}
    offer = catalog.offers.get(case.surface.fallback) if case.surface.fallback else None
    if offer is not None:
        no = switched_off(offer, case.request, case.facts) or forbidden(catalog, offer, case.request, case.values)
        reasons.pop(offer.name, None)
        if no is not None:
            reasons[offer.name], offer = no, None
    return Decision(
        decision_id=case.request.decision_id,
        surface=case.surface.name,
        release=case.release.id,
        slate=(Shown(offer.name, 1, _creative(offer, case.request), None, None, 1.0),) if offer else (),
        source=Source.FALLBACK if offer else Source.NONE,
        model=None,
        degraded=_degraded(case),
        candidates=(),
        reasons=_sorted(reasons.values()),
        policy=None,
        arms=case.arms,
        holdout=case.holdout,
    )


def _sorted(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=lambda reason: reason.offer))


def _creative(offer: Offer, request: Request) -> str | None:
    locale = request.context.get("locale")
    return offer.creative.localised(locale if isinstance(locale, str) else None) if offer.creative else None


def _degraded(case: _Case) -> tuple[str, ...]:
    """What the answer must admit: what the facts lack, and models that the catalog asks for and nobody brought."""
    absent = [f"model:{name}:none" for name in case.release.catalog.models if name not in case.release.scorers]
    return (*case.facts.degraded, *absent)

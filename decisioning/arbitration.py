"""What is left gets a score, is held against the thresholds, and is ranked."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Surface
from decisioning.domain import NOTHING, Scorer, Value, record
from decisioning.factors import Factors
from decisioning.identity import tie_break
from decisioning.passes import best, weigh
from decisioning.plan import Left, SurfacePlan

Number = TypeVar("Number", float, NDArray[np.float64])


def score(effect: Number, worth: Number) -> Number:
    """effect × worth, which is value net of cost × context weight × levers: what every ranking uses, elementwise."""
    return effect * worth


@record
class Ranking:
    """What is left of a surface's offers in the eyes of one set of scorers. Sequences go with `left.names`."""

    left: Left
    p_convert: Sequence[float]
    effect: Sequence[float]
    scores: Sequence[float]
    factors: Factors
    labels: frozenset[str]
    """The models that gave personal scores."""
    below: Mapping[str, tuple[float, float]]
    """p_convert and score of each offer that missed a threshold."""


_Scored = tuple[Sequence[float], Sequence[float], frozenset[str]]
"""p_convert, effect, and the labels of the models behind them."""


def arbitrate(
    plan: SurfacePlan,
    left: int,
    factors: Factors,
    scorers: Mapping[str, Scorer],
    values: Mapping[str, Value],
    *,
    personal: bool,
) -> Ranking:
    """Score the offers of a bit set and hold them against the thresholds.

    `min_p_convert` looks at the raw probability, so that no lever lifts an offer past it; `min_score` at the score.
    """
    offers = plan.offers_of(left)
    if plan.only_model is not None and offers.names:
        p_convert, effect, labels = _scored_by(scorers.get(plan.only_model), plan, offers.names, values, personal)
    else:
        p_convert, effect, labels = _scored(plan, offers, scorers, values, personal)
    scores = weigh(effect, factors.worth, offers.flags)  # `score`, of each
    least_p, least_score = plan.surface.min_p_convert, factors.min_score
    below: dict[str, tuple[float, float]] = {}
    if least_p is not None or least_score is not None:
        for name, p, s in zip(offers.names, p_convert, scores, strict=True):
            if (least_p is not None and p < least_p) or (least_score is not None and s < least_score):
                below[name] = p, s
    if below:
        kept = [place for place, name in enumerate(offers.names) if name not in below]
        offers = plan.offers_of(left & ~plan.bits_of(below))
        p_convert, effect, scores = ([row[place] for place in kept] for row in (p_convert, effect, scores))
    return Ranking(offers, p_convert, effect, scores, factors, labels, below)


def _scored(
    plan: SurfacePlan, offers: Left, scorers: Mapping[str, Scorer], values: Mapping[str, Value], personal: bool
) -> _Scored:
    """The scores of all models together."""
    by_model: dict[str | None, list[int]] = {}
    for place, model in enumerate(offers.of(plan.models)):
        by_model.setdefault(model, []).append(place)
    p_convert, effect = [0.0] * len(offers.names), [0.0] * len(offers.names)
    labels: frozenset[str] = frozenset()
    for model, places in by_model.items():
        names = tuple([offers.names[place] for place in places])
        theirs = _scored_by(scorers.get(model or ""), plan, names, values, personal)
        for place, p, e in zip(places, theirs[0], theirs[1], strict=True):
            p_convert[place], effect[place] = p, e
        labels |= theirs[2]
    return p_convert, effect, labels


def _scored_by(
    scorer: Scorer | None, plan: SurfacePlan, names: tuple[str, ...], values: Mapping[str, Value], personal: bool
) -> _Scored:
    """What one model says of its offers.

    Without `personal`, or without a model, an offer gets its prior: the model's mean, or else the catalog's own guess.
    A score that is no number counts as no score.
    """
    if scorer is None:
        priors = plan.priors(names)
        return priors, priors, frozenset()
    found = scorer.score(values, plan.surface.name, names) if personal else scorer.prior(plan.surface.name, names)
    labels = frozenset({scorer.label}) if personal and scorer.label else frozenset()
    p_convert, effect = found.p_convert, found.effect
    is_whole = len(p_convert) == len(effect) == len(names)
    if is_whole and isfinite(sum(effect)) and (effect is p_convert or isfinite(sum(p_convert))):
        return p_convert, effect, labels
    triples = list(zip(p_convert, effect, plan.priors(names), strict=True))
    numbers = [isfinite(p) and isfinite(e) for p, e, _ in triples]
    p_convert = [p if ok else prior for (p, _, prior), ok in zip(triples, numbers, strict=True)]
    effect = [e if ok else prior for (_, e, prior), ok in zip(triples, numbers, strict=True)]
    return p_convert, effect, labels if any(numbers) else frozenset()


def choice(ranking: Ranking, surface: Surface, user: str, release: str) -> str:
    """What a ranking shows first: NOTHING where the surface allows that and no offer is worth more."""
    names, scores = ranking.left.names, ranking.scores
    if not names:
        return NOTHING
    if ranking.factors.one_class and (place := best(scores)) >= 0:  # no need to put all in order
        return NOTHING if scores[place] <= 0 and surface.allow_nothing else names[place]
    first = next((p for p in order(ranking, user, release) if scores[p] > 0 or not surface.allow_nothing), None)
    return NOTHING if first is None else names[first]


def order(ranking: Ranking, user: str, release: str) -> list[int]:
    """Places within `left.names`, best first: by priority class, then score.

    Ties are settled by a hash of user, offer and release, never by name.
    """
    names, scores = ranking.left.names, ranking.scores
    classes = tuple(ranking.left.of(ranking.factors.priority))

    def rank(place: int) -> tuple[int, float]:
        return -classes[place], -scores[place]

    if ranking.factors.one_class and len(set(scores)) == len(scores):  # the quick way to the same
        return sorted(range(len(names)), key=scores.__getitem__, reverse=True)
    places = sorted(range(len(names)), key=rank)
    settled: list[int] = []
    for _, tied in groupby(places, key=rank):
        settled += sorted(tied, key=lambda place: tie_break(user, names[place], release))
    return settled

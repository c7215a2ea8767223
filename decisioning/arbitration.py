"""What is left gets a score, is held against the thresholds, ranked, and put into slots."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import isfinite, prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Catalog, Lever, Offer, Surface
from decisioning.domain import Candidate, Reason, Scorer, Scores, Stage, Value
from decisioning.identity import tie_break

Number = TypeVar("Number", float, NDArray[np.float64])


def score(effect: Number, net: Number, lever: Number) -> Number:
    """effect × value net of cost × lever: what every ranking uses, online and (elementwise) in evaluation."""
    return effect * net * lever


def candidates(
    catalog: Catalog,
    offers: Sequence[Offer],
    scores: Mapping[str, tuple[float, float]],
    surface: str,
    now: float,
    overrides: Mapping[str, float],
    levers: Sequence[Lever],
) -> list[Candidate]:
    """Each offer with its factors. `scores` holds (p_convert, effect) by offer, `overrides` what experiments set."""
    active = [lever for lever in levers if (lever.starts is None or now >= lever.starts) and now < lever.until]
    found = []
    for offer in offers:
        p_convert, effect = scores[offer.name]
        base = f"offers.{offer.name}."
        net = overrides.get(base + "score.value", offer.score.value) - overrides.get(
            base + "score.cost", offer.score.cost
        )
        lever = _lever(catalog, active, offer, surface, overrides)
        priority = int(overrides.get(base + "priority", offer.priority))
        found.append(Candidate(offer.name, p_convert, effect, net, lever, score(effect, net, lever), priority))
    return found


def _lever(
    catalog: Catalog, active: Sequence[Lever], offer: Offer, surface: str, overrides: Mapping[str, float]
) -> float:
    """The product of the levers on an offer, held within the catalog's bounds; 1 where none applies."""
    pulled = [
        overrides.get(f"levers.{lever.name}.times", lever.times)
        for lever in active
        if lever.scope.covers(offer.name, offer.group, surface)
    ]
    return min(max(prod(pulled), catalog.lever_min), catalog.lever_max) if pulled else 1.0


def scores_of(
    offers: Sequence[Offer],
    scorers: Mapping[str, Scorer],
    values: Mapping[str, Value],
    surface: str,
    personal: bool,
) -> tuple[dict[str, tuple[float, float]], set[str]]:
    """(p_convert, effect) by offer, and the labels of the models that gave personal scores.

    Without `personal`, or without a model, an offer gets its prior: the model's mean, or else the catalog's own guess.
    A score that is no number counts as no score.
    """
    found: dict[str, tuple[float, float]] = {}
    labels = set()
    by_model: dict[str | None, list[Offer]] = {}
    for offer in offers:
        by_model.setdefault(offer.score.model, []).append(offer)
    for model, theirs in by_model.items():
        scorer = scorers.get(model) if model else None
        given: Scores | None = None
        names = [offer.name for offer in theirs]
        if scorer is not None:
            given = scorer.score(values, surface, names) if personal else scorer.prior(surface, names)
        for index, offer in enumerate(theirs):
            pair = (given.p_convert[index], given.effect[index]) if given is not None else None
            if pair is not None and isfinite(pair[0]) and isfinite(pair[1]):
                found[offer.name] = pair
                if personal and scorer is not None:
                    labels.add(scorer.label)
            else:
                found[offer.name] = (offer.score.prior, offer.score.prior)
    return found, labels


def above_thresholds(
    surface: Surface, found: Iterable[Candidate], overrides: Mapping[str, float]
) -> tuple[list[Candidate], list[Reason]]:
    """Those that reach the surface's thresholds, and a Reason for each of the others.

    `min_p_convert` looks at the raw probability, so that no lever lifts an offer past it; `min_score` at the score.
    """
    least_p = surface.min_p_convert
    least_score = overrides.get(f"surfaces.{surface.name}.min_score", surface.min_score)
    left, dropped = [], []
    for one in found:
        if least_p is not None and one.p_convert < least_p:
            rule, detail = "min_p_convert", f"p_convert is {one.p_convert:.4g}, needs at least {least_p:g}"
        elif least_score is not None and one.score < least_score:
            rule, detail = "min_score", f"score is {one.score:.4g}, needs at least {least_score:g}"
        else:
            left.append(one)
            continue
        dropped.append(Reason(one.offer, Stage.THRESHOLD, rule, detail, str(surface.place)))
    return left, dropped


def rank(found: Iterable[Candidate], user: str, release: str) -> tuple[Candidate, ...]:
    """Best first: by priority class, then score; ties by a hash of user, offer and release, never by name."""
    ordered = sorted(found, key=lambda one: (-one.priority, -one.score))
    ranked: list[Candidate] = []
    for _, tied in groupby(ordered, key=lambda one: (one.priority, one.score)):
        run = list(tied)
        ranked += sorted(run, key=lambda one: tie_break(user, one.offer, release)) if len(run) > 1 else run
    return tuple(ranked)


def fill(catalog: Catalog, surface: Surface, ranked: Sequence[Candidate], slots: int, first: str) -> tuple[str, ...]:
    """The slate that starts with `first`: the rest greedily by rank, under group limits and exclusivity.

    Where the surface may show nothing, an offer that is worth less than nothing fills no further slot.
    """
    slate = [first]
    for one in ranked:
        if len(slate) == slots:
            break
        worthless = surface.allow_nothing and one.score <= 0
        if one.offer not in slate and not worthless and _fits(catalog, surface, slate, one.offer):
            slate.append(one.offer)
    return tuple(slate)


def _fits(catalog: Catalog, surface: Surface, slate: Sequence[str], offer: str) -> bool:
    if surface.max_per_group is not None:
        group = catalog.offers[offer].group
        if sum(catalog.offers[other].group == group for other in slate) >= surface.max_per_group:
            return False
    return not any(offer in rule.offers and rule.offers.intersection(slate) for rule in catalog.exclusives)

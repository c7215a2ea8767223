"""What a valid catalog says to no effect: offers that can't win or be seen, levers that pull nothing, unused names.

Warnings rather than errors, since each may be meant: an offer that has ended, an audience that is to be used soon. They
are only given where the thing is proved.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf, prod

from decisioning.catalog import Catalog, Offer, Surface
from decisioning.catalog_invariants import blocked_by
from decisioning.domain import Place
from decisioning.proofs import EVERYBODY, Proofs
from decisioning.rules import EVERYTHING, Scope
from decisioning.yaml_nodes import Problem, Problems

Where = Callable[[str, str], Place]
"""(section, name) → where the name stands."""
Warned = Iterator[tuple[str, str]]
"""What is wrong, and what to do about it."""
Named = Iterator[tuple[str, str, str, str]]
"""Section and name, then the same."""

_MOST_RIVALS = 20
"""How many offers of higher classes are held against each offer: every comparison is a proof."""


def find_warnings(
    catalog: Catalog, now: float, proofs: Proofs, problems: Problems, where: Where, idle: Iterable[str]
) -> tuple[Problem, ...]:
    """The warnings of a valid catalog at a moment, by place. `idle` are the audiences that nothing uses.

    `problems` holds the lines of the files; nothing is added to it.
    """
    told = Problems(problems.lines, limit=inf)
    steady = {surface.name: _steady(surface, catalog) for surface in catalog.surfaces.values()}
    for offer in catalog.offers.values():
        for message, hint in _against(offer, catalog, now, proofs, steady):
            told.add_at(offer.place, f"offers.{offer.name}", message, hint)
    for section, name, message, hint in (
        *_levers(catalog, now),
        *_weights(catalog, proofs),
        *_experiments(catalog, proofs),
        *_rules(catalog),
    ):
        told.add_at(where(section, name), f"{section}.{name}", message, hint)
    for name in idle:
        told.add_at(where("audiences", name), f"audiences.{name}", "nobody uses it", "Use it, or take it away.")
    for name in catalog.groups.keys() - {offer.group for offer in catalog.offers.values()}:
        told.add_at(
            where("groups", name), f"groups.{name}", "no offer is in it", "Take it away, or mend a group's name."
        )
    return told.in_order()


# --- Offers -----------------------------------------------------------------------------------------------------------


def _against(
    offer: Offer, catalog: Catalog, now: float, proofs: Proofs, steady: Mapping[str, Sequence[Offer]]
) -> Warned:
    if offer.live_until is not None and offer.live_until <= now:
        yield "it has ended, and is never shown again", "Take it away, or give it a new end."
    if offer.creative and len(offer.creative.locales) > 1 and "locale" not in catalog.features:
        message = f"everybody gets the locale {offer.creative.fallback_locale}: no feature tells the user's"
        yield message, "Declare features: {locale: {type: text, from: context}}."
    for cap in catalog.caps:
        covered = [cap.scope.covers(offer.name, offer.group, surface) for surface in offer.surfaces]
        if cap.max == 0 and covered and all(covered):
            yield f"nobody can ever see it: caps.{cap.name} allows none", "Raise max, or leave the offer out of it."
    for name in offer.surfaces:
        surface = catalog.surfaces[name]
        if guards := blocked_by(offer, name, catalog, proofs):
            message = f"nobody can ever see it on {name}: its eligibility contradicts {', '.join(guards)}"
            yield message, f"Take {name} away."
        elif why := _too_little(offer, surface, catalog):
            yield f"it can never win on {name}: {why}", "Raise its value or its prior, or lower the threshold."
        elif above := _above(offer, surface, catalog, proofs, steady[name]):
            message = (
                f"it is in the shadow of {', '.join(above)} on {name}: of a higher class, and there whenever it is"
            )
            yield message, "Lower their priority, or tell their audiences apart."


def _too_little(offer: Offer, surface: Surface, catalog: Catalog) -> str:
    """Why even the most that an offer can score is too little. Only what no model scores has a score that is known."""
    if {offer.name, surface.name} & _tried(catalog):
        return ""
    if offer.score.net <= 0 and surface.allow_nothing:
        return "it is worth nothing, and showing nothing is allowed"
    if offer.score.model is not None:
        return ""
    prior = offer.score.prior
    if surface.min_p_convert is not None and prior < surface.min_p_convert:
        return f"its prior is {prior:g}, and min_p_convert is {surface.min_p_convert:g}"
    scopes = [lever.scope for lever in catalog.levers]
    pulled = any(scope.covers(offer.name, offer.group, surface.name) for scope in scopes)
    weights = [w for w in catalog.context_weights if w.scope.covers(offer.name, offer.group, surface.name)]
    if surface.min_score is None or any(weight.name in _tried(catalog) for weight in weights):
        return ""
    most = prior * offer.score.net * (catalog.lever_max if pulled else 1.0) * prod(max(1.0, w.times) for w in weights)
    return f"it scores {most:.4g} at most, and min_score is {surface.min_score:g}" if most < surface.min_score else ""


def _tried(catalog: Catalog) -> set[str]:
    """The names of what some experiment changes."""
    paths = (path for one in catalog.experiments for arm in one.arms for path in arm.overrides)
    return {path.split(".")[1] for path in paths}


def _above(
    offer: Offer, surface: Surface, catalog: Catalog, proofs: Proofs, steady: Sequence[Offer]
) -> tuple[str, ...]:
    """Offers of a higher class that fill every slot whenever this one could: exploration aside, it never shows."""
    own = offer.eligible or EVERYBODY
    rivals = (
        other.name
        for other in steady
        if other.priority > offer.priority
        and _lives_through(other, offer)
        and not proofs.possible(own, proofs.complement(other.eligible or EVERYBODY))
    )
    above = tuple(islice(rivals, surface.slots))
    return above if len(above) == surface.slots and offer.name not in _tried(catalog) else ()


def _steady(surface: Surface, catalog: Catalog) -> tuple[Offer, ...]:
    """Some offers of the highest classes that no rule but eligibility and the live window can ever take away here."""
    thresholds = (surface.min_score, surface.min_p_convert, surface.max_per_group)
    if surface.allow_nothing or thresholds != (None, None, None):
        return ()
    scopes = [guard.scope for guard in catalog.guards] + [cap.scope for cap in catalog.caps]
    scopes += [rule.scope for rule in catalog.suppressions]
    named = _tried(catalog).union(*(b.offers for b in catalog.budgets), *(e.offers for e in catalog.exclusives))
    if any(scope == EVERYTHING for scope in scopes):
        return ()
    found = [
        offer
        for offer in catalog.offers_on(surface.name)
        if offer.name not in named and not any(scope.covers(offer.name, offer.group, surface.name) for scope in scopes)
    ]
    return tuple(sorted(found, key=lambda offer: -offer.priority)[:_MOST_RIVALS])


def _lives_through(other: Offer, offer: Offer) -> bool:
    from_start = other.live_from is None or (offer.live_from is not None and other.live_from <= offer.live_from)
    to_end = other.live_until is None or (offer.live_until is not None and offer.live_until <= other.live_until)
    return from_start and to_end


# --- Levers, weights, rules -------------------------------------------------------------------------------------------

_NOTHING_COVERED = "it never applies: no offer on any surface is in its scope"


def _levers(catalog: Catalog, now: float) -> Named:
    for lever in catalog.levers:
        covered = _covered(lever.scope, catalog)
        if lever.until <= now:
            yield "levers", lever.name, "it has ended, and pulls no more", "Take it away."
        elif not covered:
            yield "levers", lever.name, _NOTHING_COVERED, "Mend only and except."
        elif all(_never_together(offer, lever.starts, lever.until) for offer in covered):
            yield "levers", lever.name, "it never applies: its offers are not live while it is", "Mend its dates."


def _weights(catalog: Catalog, proofs: Proofs) -> Named:
    for weight in catalog.context_weights:
        covered = _covered(weight.scope, catalog)
        if not covered:
            yield "context_weights", weight.name, _NOTHING_COVERED, "Mend only and except."
        elif not any(proofs.possible(weight.when, offer.eligible or EVERYBODY) for offer in covered):
            message = "it never applies: no offer in its scope is for those of whom it speaks"
            yield "context_weights", weight.name, message, "Mend when, only or except."


def _experiments(catalog: Catalog, proofs: Proofs) -> Named:
    for experiment in catalog.experiments:
        audience = experiment.audience or EVERYBODY
        paths = {path for arm in experiment.arms for path in arm.overrides}
        for section, name in sorted({tuple(path.split(".")[:2]) for path in paths}):
            if section == "offers" and not proofs.possible(audience, catalog.offers[name].eligible or EVERYBODY):
                message = f"it changes nothing for {name}: its audience contradicts that offer's eligibility"
                yield "experiments", experiment.name, message, "Mend its audience, or what its arms set."


def _rules(catalog: Catalog) -> Named:
    scopes = [("guards", rule.name, rule.scope) for rule in catalog.guards]
    scopes += [("suppress", rule.name, rule.scope) for rule in catalog.suppressions]
    scopes += [("caps", rule.name, rule.scope) for rule in catalog.caps]
    for section, name, scope in scopes:
        if not _covered(scope, catalog):
            yield section, name, _NOTHING_COVERED, "Mend only and except."


def _covered(scope: Scope, catalog: Catalog) -> list[Offer]:
    """The offers that a scope speaks of on some surface where they compete or are the fallback."""
    return [
        offer
        for offer in catalog.offers.values()
        if any(
            scope.covers(offer.name, offer.group, surface.name)
            for surface in catalog.surfaces.values()
            if surface.name in offer.surfaces or surface.fallback == offer.name
        )
    ]


def _never_together(offer: Offer, starts: float | None, until: float) -> bool:
    begins_after = offer.live_from is not None and offer.live_from >= until
    return begins_after or (offer.live_until is not None and starts is not None and offer.live_until <= starts)

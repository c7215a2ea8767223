"""What has to be true of a whole catalog, and is proved before it is used."""

from collections.abc import Iterator, Mapping

from decisioning.catalog import Catalog, Experiment, Offer, Surface
from decisioning.conditions import AllOf, Condition
from decisioning.proofs import EVERYBODY, Proofs
from decisioning.rules import Guard, Invariant
from decisioning.satisfiable import TooManyAlternatives
from decisioning.words import words
from decisioning.yaml_nodes import Problems


def check_invariants(catalog: Catalog, proofs: Proofs, problems: Problems) -> None:
    """Adds a problem for each thing that is not proved. Only records that could be read are looked at."""
    for surface in catalog.surfaces.values():
        _check_fallback(surface, catalog, problems)
    fallbacks = {surface.fallback for surface in catalog.surfaces.values()}
    for offer in catalog.offers.values():
        if not offer.surfaces and offer.name not in fallbacks:
            message = "nobody can ever see it: it is on no surface and no surface's fallback"
            problems.add_at(offer.place, f"offers.{offer.name}", message, "Give it surfaces.")
        _check_reach(offer, catalog, proofs, problems)
        for invariant in catalog.invariants:
            _check_never(invariant, offer, catalog, proofs, problems)
    _check_overrides(catalog, problems)
    _check_worth(catalog, problems)


def _check_fallback(surface: Surface, catalog: Catalog, problems: Problems) -> None:
    """A fallback is what is left when nothing else is, so nothing may take it away."""
    offer = catalog.offers.get(surface.fallback or "")
    if offer is None:
        return
    competes = surface.name in offer.surfaces
    rules = [(f"invariants.{rule.name}", rule.never) for rule in catalog.invariants]
    rules += [(f"guards.{rule.name}", rule.scope) for rule in catalog.guards]
    if competes:
        # Limits bind what competes, and never a fallback: one that is both would be shown although they drop it.
        rules += [(f"suppress.{rule.name}", rule.scope) for rule in catalog.suppressions]
        rules += [(f"caps.{rule.name}", rule.scope) for rule in catalog.caps]
    reasons = [name for name, scope in rules if scope.covers(offer.name, offer.group, surface.name)]
    reasons += [f"quiet_hours.{rule.name}" for rule in catalog.quiet_hours if surface.name in rule.surfaces]
    reasons += [f"exclusive.{rule.name}" for rule in catalog.exclusives if competes and offer.name in rule.offers]
    budgets = (rule for rule in catalog.budgets if (competes or rule.hard) and offer.name in rule.offers)
    reasons += [f"budgets.{rule.name}" for rule in budgets]
    if offer.eligible is not None:
        reasons.append(f"offers.{offer.name}.eligible")
    if offer.live_from is not None or offer.live_until is not None:
        reasons.append(f"offers.{offer.name}.live")
    if reasons:
        message = f'the fallback "{offer.name}" can be filtered away by {" and ".join(reasons)}'
        hint = "Except it there, choose an offer that everybody may see at any time, or say fallback: null."
        problems.add_at(surface.place, f"surfaces.{surface.name}.fallback", message, hint)


def _check_reach(offer: Offer, catalog: Catalog, proofs: Proofs, problems: Problems) -> None:
    """An offer whose eligibility contradicts the guards of every surface that it names can't ever be shown."""
    in_the_way: set[str] = set()
    for surface in offer.surfaces:
        guards = blocked_by(offer, surface, catalog, proofs)
        if not guards:
            return
        in_the_way.update(guards)
    if in_the_way:
        message = f"nobody can ever see it: its eligibility contradicts {', '.join(sorted(in_the_way))}"
        problems.add_at(offer.place, f"offers.{offer.name}", message)


def blocked_by(offer: Offer, surface: str, catalog: Catalog, proofs: Proofs) -> tuple[str, ...]:
    """The guards that leave nobody who could see the offer on a surface; empty where somebody can."""
    guards = [guard for guard in catalog.guards if guard.scope.covers(offer.name, offer.group, surface)]
    if not guards:
        return ()
    own = offer.eligible or EVERYBODY
    if proofs.possible(own, *(part for guard in guards for part in _passed(guard, proofs))):
        return ()
    alone = (guard.name for guard in guards if not proofs.possible(own, *_passed(guard, proofs)))
    return tuple(alone) or tuple(guard.name for guard in guards)


def _passed(guard: Guard, proofs: Proofs) -> Iterator[Condition]:
    """What has to hold for a guard to let an offer through."""
    if guard.allows is not None:
        yield guard.allows
    if guard.blocks is not None:
        yield proofs.complement(guard.blocks)


def _check_never(invariant: Invariant, offer: Offer, catalog: Catalog, proofs: Proofs, problems: Problems) -> None:
    """The offer's own eligibility has to rule out everybody of whom the invariant speaks.

    Where the offer is the fallback, `_check_fallback` says so: it can have no eligibility.
    """
    competes = (name for name in offer.surfaces if catalog.surfaces[name].fallback != offer.name)
    if not any(invariant.never.covers(offer.name, offer.group, surface) for surface in competes):
        return
    try:
        if not proofs.satisfiable(AllOf((invariant.when, offer.eligible or EVERYBODY)), at_least=0):
            return
        message = f"its eligibility lets users through for whom {words(invariant.when)}"
    except TooManyAlternatives:
        what = "the catalog" if proofs.is_spent else "its eligibility"
        message = f"{what} has too many alternatives to prove that it excludes those for whom {words(invariant.when)}"
    hint = f"invariants.{invariant.name} ({invariant.place}) forbids it; exclude them under eligible."
    problems.add_at(offer.place, f"offers.{offer.name}.eligible", message, hint)


def _check_overrides(catalog: Catalog, problems: Problems) -> None:
    """Two layers may hold the same user, so what one experiment sets no other layer may set."""
    owner: dict[str, str] = {}
    for experiment in catalog.experiments:
        for path in sorted({path for arm in experiment.arms for path in arm.overrides}):
            layer = owner.setdefault(path, experiment.layer)
            if layer != experiment.layer:
                message = f"{path} is set in layer {layer} too, and one user can be in both"
                problems.add_at(experiment.place, f"experiments.{experiment.name}", message, "Use one layer.")


def _check_worth(catalog: Catalog, problems: Problems) -> None:
    """What arms set may not make an offer's conversions lose money, as it may not be written in the offer either."""
    scored: dict[str, list[tuple[Experiment, Mapping[str, float]]]] = {}
    for experiment in catalog.experiments:
        for arm in experiment.arms:
            for path in arm.overrides:
                section, name, *what = path.split(".")
                if section == "offers" and what[0] == "score":
                    scored.setdefault(name, []).append((experiment, arm.overrides))
    for offer in (catalog.offers[name] for name in scored if name in catalog.offers):
        value_path, cost_path = (f"offers.{offer.name}.score.{what}" for what in ("value", "cost"))
        for experiment, own in scored[offer.name]:
            # A user may be in an arm of another layer as well, and never in another one of this.
            others = [arm for other, arm in scored[offer.name] if other.layer != experiment.layer]
            least = min([offer.score.value, *(arm[value_path] for arm in others if value_path in arm)])
            most = max([offer.score.cost, *(arm[cost_path] for arm in others if cost_path in arm)])
            value, cost = own.get(value_path, least), own.get(cost_path, most)
            if cost > value:
                message = f"{offer.name} may cost {cost:g} to earn {value:g}: every conversion would lose money"
                problems.add_at(experiment.place, f"experiments.{experiment.name}", message, "Mend what its arms set.")

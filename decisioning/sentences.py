"""An offer's rules as plain sentences: all that the catalog says of it, for those who answer for it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from decisioning.catalog import Catalog, Offer
from decisioning.conditions import reads
from decisioning.errors import UserError
from decisioning.rules import Budget, Cap, CapBy, QuietHours, Same, Scope, Suppression
from decisioning.words import counted, duration, said, words
from decisioning.yaml_nodes import did_you_mean


def sentences(catalog: Catalog, name: str) -> tuple[str, ...]:
    """What holds of an offer, in the order of evaluation. Raises UserError for a name that the catalog lacks."""
    offer = catalog.offers.get(name)
    if offer is None:
        raise UserError(f'There is no offer "{name}". {did_you_mean(name, set(catalog.offers))}'.strip())
    told = [*_who(catalog, offer), *_rules(catalog, offer)]
    if offer.surfaces:  # nothing else can take a fallback away, and it has no score where it is one
        told += [*_limits(catalog, offer), *_score(catalog, offer)]
    return tuple(sentence[0].upper() + sentence[1:] for sentence in told)


def _who(catalog: Catalog, offer: Offer) -> Iterator[str]:
    yield f"The offer {offer.name} is {offer.owner}'s, in the group {offer.group}."
    for experiment in catalog.experiments:
        for arm in experiment.arms:
            for path, value in sorted(arm.overrides.items()):
                if path.startswith(f"offers.{offer.name}."):
                    what = path.removeprefix(f"offers.{offer.name}.")
                    yield f"In the arm {arm.name} of {experiment.name}, its {what} is {said(value)}."
    if offer.surfaces:
        yield f"It may be shown on {_listed(offer.surfaces)}."
    fallback = [surface.name for surface in catalog.surfaces.values() if surface.fallback == offer.name]
    if fallback:
        yield f"It is the fallback of {_listed(fallback)}: shown where nothing else is left."
    if offer.live_from is not None:
        yield f"It is live from {moment(offer.live_from)}."
    if offer.live_until is not None:
        yield f"It is over from {moment(offer.live_until)}."
    yield f"It is for users of whom {words(offer.eligible)}." if offer.eligible else "It is for everybody."


def _rules(catalog: Catalog, offer: Offer) -> Iterator[str]:
    fallback = (surface.name for surface in catalog.surfaces.values() if surface.fallback == offer.name)
    anywhere = tuple(dict.fromkeys((*offer.surfaces, *fallback)))
    for invariant in catalog.invariants:
        if (on := _on(invariant.never, offer, anywhere)) is not None:
            yield f"{on}it is never for users of whom {words(invariant.when)} ({invariant.name})."
    for guard in catalog.guards:
        if (on := _on(guard.scope, offer, anywhere)) is None:
            continue
        if guard.allows is not None:
            yield f"{on}it is shown only where {words(guard.allows)} ({guard.name})."
        if guard.blocks is not None:
            read = sorted(name for name in reads(guard.blocks) if catalog.features[name].blocks_if_missing)
            unknown = f", or {' or '.join(read)} is missing" if read else ""
            yield f"{on}it is not shown where {words(guard.blocks)}{unknown} ({guard.name})."


def _limits(catalog: Catalog, offer: Offer) -> Iterator[str]:
    for rule in catalog.suppressions:
        if (on := _on(rule.scope, offer, offer.surfaces)) is not None:
            yield f"{on}it is quiet for {duration(rule.lasts)} after {_after(rule)} ({rule.name})."
    for quiet in catalog.quiet_hours:
        if here := [name for name in offer.surfaces if name in quiet.surfaces]:
            yield f"On {_listed(here)}, it is not shown {_hours(quiet)} ({quiet.name})."
    for exclusive in catalog.exclusives:
        if offer.name in exclusive.offers:
            others = _listed(sorted(exclusive.offers - {offer.name}), "or")
            yield f"It is not shown for {duration(exclusive.lasts)} after {others}, nor next to it ({exclusive.name})."
    for cap in catalog.caps:
        if (on := _on(cap.scope, offer, offer.surfaces)) is not None:
            yield f"{on}a user has at most {_cap(cap)} ({cap.name})."
    for budget in catalog.budgets:
        if offer.name in budget.offers:
            yield f"{_budget(budget, offer)} ({budget.name})."


def _score(catalog: Catalog, offer: Offer) -> Iterator[str]:
    score = offer.score
    chance = (
        f"what the model {score.model} predicts (without it {score.prior:g})" if score.model else f"{score.prior:g}"
    )
    cost = f" less {score.cost:g}" if score.cost else ""
    yield f"Its score is the probability of a conversion, {chance}, times {score.value:g}{cost} {catalog.currency}."
    for weight in catalog.context_weights:
        if (on := _on(weight.scope, offer, offer.surfaces)) is not None:
            told = f"{weight.name}, {weight.owner}: {weight.why}"
            yield f"{on}its score is times {weight.times:g} where {words(weight.when)} ({told})."
    for lever in catalog.levers:
        if (on := _on(lever.scope, offer, offer.surfaces)) is not None:
            begins = f" from {moment(lever.starts)}" if lever.starts is not None else ""
            told = f"{lever.name}, {lever.owner}: {lever.why}"
            yield f"{on}its score is times {lever.times:g}{begins} until {moment(lever.until)} ({told})."
    for surface in (catalog.surfaces[name] for name in offer.surfaces):
        if surface.min_p_convert is not None:
            yield f"On {surface.name}, it is shown only where its probability is at least {surface.min_p_convert:g}."
        if surface.min_score is not None:
            yield f"On {surface.name}, it is shown only where its score is at least {surface.min_score:g}."
    if offer.priority:
        yield f"It ranks {'above' if offer.priority > 0 else 'below'} all of priority 0: its class is {offer.priority}."


# --- Parts of sentences -----------------------------------------------------------------------------------------------


def _on(scope: Scope, offer: Offer, where: tuple[str, ...]) -> str | None:
    """The beginning of a sentence that says on which of some surfaces a rule holds; None where it does on none."""
    here = [name for name in where if scope.covers(offer.name, offer.group, name)]
    if not here:
        return None
    return "" if len(here) == len(where) else f"On {_listed(here)}, "


def _after(rule: Suppression) -> str:
    article = "an" if rule.after[0] in "aeiou" else "a"
    events = f"{article} {rule.after}" if rule.count == 1 else counted(rule.count, rule.after)
    what = {Same.OFFER: "of it", Same.GROUP: "of any offer of its group", Same.ANY: "of any offer"}[rule.same]
    return f"{events} {what}" + (f" within {duration(rule.within)}" if rule.within is not None else "")


def _cap(cap: Cap) -> str:
    what = {
        CapBy.OFFER: "of it",
        CapBy.GROUP: "of its group",
        CapBy.SURFACE: "on that surface",
        CapBy.USER: "in all",
    }[cap.by]
    return f"{counted(cap.max, cap.counts)} {what} in any {duration(cap.per)}"


def _hours(quiet: QuietHours) -> str:
    zone = f"in {quiet.timezone}" if quiet.timezone else "of the user's time"
    start, end = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in (quiet.start, quiet.end))
    return f"from {start} to {end} {zone}"


def _budget(budget: Budget, offer: Offer) -> str:
    others = f" together with {_listed(sorted(budget.offers - {offer.name}))}" if len(budget.offers) > 1 else ""
    begins = f" from {moment(budget.starts)}" if budget.starts is not None else ""
    ends = f" until {moment(budget.until)}" if budget.until is not None else ""
    pace = ", evenly" if budget.even else ""
    unread = "; not at all while the counter can't be read" if budget.hard else ""
    return f"All users have {budget.impressions:,} impressions of it{others}{begins}{ends}{pace}{unread}"


def _listed(names: list[str] | tuple[str, ...], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def moment(at: float) -> str:
    """A date, with its time where it is not the day's first moment; UTC."""
    when = datetime.fromtimestamp(at, UTC)
    return when.strftime("%Y-%m-%d" if at % 86_400 == 0 else "%Y-%m-%d %H:%M UTC")

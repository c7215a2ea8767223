"""What a release would choose: its first choice and slate without exploring, and the chances that exploring adds."""

from collections.abc import Mapping
from dataclasses import replace

from decisioning.catalog import Catalog, Exploration
from decisioning.domain import NOTHING, Decision, Facts, Policy, Request, Scorer, Source, record
from decisioning.engine import Release, decide
from decisioning.exploration import certain, mixture
from models.artifact import Model


@record
class Choice:
    """What a policy makes of one request."""

    slate: tuple[str, ...]
    """As it is where nothing is explored; empty where nothing is shown."""
    policy: Policy
    """The chances of slot 1, exploration included; all on one action where nothing is drawn."""
    is_fallback: bool

    @property
    def first(self) -> str:
        return self.slate[0] if self.slate else NOTHING


class Contender:
    """A release that is asked what it would choose. `base`: the one it is held against, whose facts were recorded."""

    def __init__(self, release: Release, base: Catalog) -> None:
        self.release = release
        # Ranks and slates come from the engine itself; only the dice are left out.
        self._still = replace(release, catalog=replace(release.catalog, exploration=Exploration(0.0, 0.0)))
        self._unread = {
            name: _budgets(release.catalog, name) - _budgets(base, name) for name in release.catalog.surfaces
        }

    def choose(self, request: Request, facts: Facts) -> Choice:
        """On a surface that its catalog doesn't have, nothing. Budgets that nobody recorded count as unspent."""
        if request.surface not in self.release.catalog.surfaces:
            return Choice((), certain(NOTHING, 0), False)
        decision = decide(self._still, request, self.known(request, facts))
        return Choice(
            tuple([one.offer for one in decision.slate]),
            self._explored(decision),
            decision.source is Source.FALLBACK,
        )

    def known(self, request: Request, facts: Facts) -> Facts:
        """The facts as this release would have read them, as far as they were recorded."""
        unread = self._unread[request.surface]
        if unread and "budgets" not in facts.unread:
            return replace(facts, budgets={**dict.fromkeys(unread, 0), **facts.budgets})
        return facts

    def recorded(self, decision: Decision, policy: Policy) -> Choice | None:
        """What this very release chose, by its record and `drawn_from` of that; None where it doesn't say all of it."""
        if policy.champion != decision.first:
            return None  # it explored: what else would have stood on the slate, only the engine knows
        slate = tuple([one.offer for one in decision.slate])
        return Choice(slate, policy, decision.source is Source.FALLBACK)

    def _explored(self, decision: Decision) -> Policy:
        """The policy with the exploration that the catalog asks for."""
        still, catalog = decision.policy, self.release.catalog
        if still is None:
            return certain(decision.first, 0)
        if decision.holdout is not None:
            return drawn_from(decision)
        exploration = catalog.exploration
        return mixture(
            still.offers,
            still.champion,
            still.challenger,
            uniform=exploration.uniform,
            canary=exploration.challenger,
            draw=0,
        )


def drawn_from(decision: Decision) -> Policy:
    """The chances that a recorded decision had; certainty where nothing was drawn. The draw itself is left out."""
    found = decision.policy
    if found is None:
        return certain(decision.first, 0)
    return Policy(found.offers, found.champion, found.challenger, found.share, found.canary, 0)


def changed(
    base: Release,
    catalog: Catalog | None,
    scorers: Mapping[str, Scorer],
    challengers: Mapping[str, Scorer] | None = None,
) -> Release:
    """The release with another catalog, other models in place of those of the same name, or both.

    It keeps the id and the salt: ties are settled and dice fall as they did.
    """
    rules = catalog or base.catalog
    groups = {name: offer.group for name, offer in rules.offers.items()}

    def fitted(models: Mapping[str, Scorer]) -> dict[str, Scorer]:
        return {name: replace(one, groups=groups) if isinstance(one, Model) else one for name, one in models.items()}

    theirs = base.challengers if challengers is None else challengers
    return replace(base, catalog=rules, scorers=fitted({**base.scorers, **scorers}), challengers=fitted(theirs))


def caveats(before: Release, after: Release) -> tuple[str, ...]:
    """What the recorded facts can't tell of a proposal, a sentence each."""
    base, catalog = before.catalog, after.catalog
    told = []
    read = {spec.name for one in after.scorers.values() if isinstance(one, Model) for spec in one.encoding.features}
    new = sorted({*catalog.features, *read} - {*base.features})
    if new:
        told.append(f"Nobody recorded {', '.join(new)}: the new features count as missing (or as their default).")
    budgets = sorted({one.name for one in catalog.budgets} - {one.name for one in base.budgets})
    if budgets:
        told.append(f"The new budgets ({', '.join(budgets)}) count as unspent throughout.")
    if catalog.counts_decisions and not base.counts_decisions:
        told.append("A new cap counts decisions, which histories did not hold so far: it counts none.")
    gone = sorted(set(base.surfaces) - set(catalog.surfaces))
    if gone:
        told.append(f"The surfaces {', '.join(gone)} are gone: their decisions show nothing.")
    return tuple(told)


def _budgets(catalog: Catalog, surface: str) -> frozenset[str]:
    """The budgets that decisions on a surface read."""
    if surface not in catalog.surfaces:
        return frozenset()
    offers = {offer.name for offer in catalog.offers_on(surface)}
    return frozenset(one.name for one in catalog.budgets if one.offers & offers)

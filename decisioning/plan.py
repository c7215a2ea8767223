"""A surface made ready to decide: what a catalog says of it, looked up and compiled once per release.

Offers are bits: bit i is the i-th offer of the surface by name, and a rule drops a set of them in one step.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count
from typing import TypeVar

from decisioning.catalog import Catalog, Surface
from decisioning.conditions import AllOf, Condition, Op, Test, reads
from decisioning.domain import DECISION, Facts, Place, Request, Stage, Value, record
from decisioning.factors import SurfaceFactors
from decisioning.index import build_index
from decisioning.limits import Drop, Limits
from decisioning.passes import pick
from decisioning.rules import Scope
from decisioning.slate import Slots
from decisioning.timeline import Timeline

T = TypeVar("T")


@record
class Screen:
    """What the rules leave of a surface's offers, and what each of them drops, in the order of evaluation."""

    left: int
    word: int
    """The truth word: one bit per distinct test of the surface's conditions."""
    drops: Sequence[Drop]
    weights: int
    """Which context weights hold, one bit each."""
    audiences: int
    """Which experiments the user is in the audience of, one bit each."""


@record
class Left:
    """The offers of a bit set."""

    flags: bytes
    """1 for each offer of the set, by position; those after the last are left out."""
    names: tuple[str, ...]

    def of(self, row: Iterable[T]) -> Iterator[T]:
        """Of a row that goes with the offers of the surface, what goes with those of the set."""
        return compress(row, self.flags)

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(compress(count(), self.flags))


@dataclass(frozen=True, slots=True)
class Rule:
    """An invariant or a guard, or one half of a guard: what it asks, and the offers that hang on it."""

    stage: Stage
    name: str
    place: Place
    condition: Condition
    wanted: bool
    """What the condition has to be for the offers to stay."""
    covers: int


class SurfacePlan:
    """The rules and factors of one surface."""

    def __init__(self, catalog: Catalog, surface: Surface) -> None:
        self.catalog, self.surface = catalog, surface
        own = catalog.offers_on(surface.name)
        fallback = catalog.offers.get(surface.fallback or "")
        self.offers = own if fallback is None or fallback in own else (*own, fallback)
        self._names = tuple(offer.name for offer in self.offers)
        self.models = tuple(offer.score.model for offer in self.offers)
        """Who scores each offer; None for the catalog's own guess."""
        self.only_model = own[0].score.model if own and len({offer.score.model for offer in own}) == 1 else None
        """Who scores all that compete here; None where they are several, or nobody."""
        self.bits = {offer.name: 1 << position for position, offer in enumerate(self.offers)}
        self.everything = (1 << len(own)) - 1
        """The offers that compete here; a fallback from elsewhere does not."""
        self.limits = Limits(catalog, surface.name, own)
        self.slots = Slots(catalog, surface, own)
        self.rules = tuple(_rules(catalog, self))
        self.rule_drops: tuple[Drop, ...] = tuple((rule.stage, n, rule.covers) for n, rule in enumerate(self.rules))
        self.wanted = sum(1 << position for position, rule in enumerate(self.rules) if rule.wanted)
        self.weights = tuple(weight for weight in catalog.context_weights if self.covered(weight.scope))
        conditions = [offer.eligible or AllOf(()) for offer in self.offers] + [rule.condition for rule in self.rules]
        conditions += [weight.when for weight in self.weights]
        conditions += [experiment.audience or AllOf(()) for experiment in catalog.experiments]
        self._after_offers, self._after_rules = len(self.offers), len(self.offers) + len(self.rules)
        self._after_weights = self._after_rules + len(self.weights)
        self._every_rule, self._every_weight = (1 << len(self.rules)) - 1, (1 << len(self.weights)) - 1
        self.index = build_index(conditions, catalog.features)
        self.not_live = Timeline([(o.live_from, o.live_until) for o in self.offers], self._not_live_at)
        factors = SurfaceFactors(catalog, surface, self.offers, self.weights)
        self.factors, self.moments = factors.at, factors.moments
        self.counts_decisions = any(cap.counts == DECISION and self.covered(cap.scope) for cap in catalog.caps)
        """Whether what is decided here has to be recorded in users' histories, for a cap to count."""

    def position(self, offer: str) -> int:
        """Where an offer of this surface stands: the number of its bit."""
        return self.bits[offer].bit_length() - 1

    def bits_of(self, names: Collection[str]) -> int:
        """The offers of this surface among some names."""
        found = 0
        for name in names:
            found |= self.bits.get(name, 0)
        return found

    def covered(self, scope: Scope) -> int:
        """The offers that a scope speaks of, here."""
        return self.bits_of([o.name for o in self.offers if scope.covers(o.name, o.group, self.surface.name)])

    # --- What is left

    def screen(self, request: Request, facts: Facts, values: Mapping[str, Value]) -> Screen:
        """Every rule before scoring."""
        alive, word = self.index.evaluate(values, request.now)
        drops: list[Drop] = []
        if facts.killed:
            drops.append((Stage.KILLED, 0, self.bits_of(facts.killed)))
        if request.exclude:
            drops.append((Stage.EXCLUDED, 0, self.bits_of(request.exclude)))
        not_live, eligible = self.not_live.at(request.now), alive & self.everything
        if not_live is not None:
            drops.append(not_live)
        if eligible != self.everything:
            drops.append((Stage.ELIGIBLE, 0, self.everything & ~eligible))
        broken = (alive >> self._after_offers) & self._every_rule ^ self.wanted
        if broken:
            drops += [drop for n, drop in enumerate(self.rule_drops) if broken >> n & 1]
        drops += self.limits.drops(request, facts, values)
        left = self.everything
        for _, _, mask in drops:
            left &= ~mask
        weights = alive >> self._after_rules & self._every_weight
        return Screen(left, word, drops, weights, alive >> self._after_weights)

    def _not_live_at(self, now: float) -> Drop | None:
        """Of the offers that compete here, all but those with live_from ≤ now < live_until."""
        live = self.bits_of(
            [
                offer.name
                for offer in self.offers
                if (offer.live_from is None or offer.live_from <= now)
                and (offer.live_until is None or now < offer.live_until)
            ]
        )
        dropped = self.everything & ~live
        return (Stage.LIVE, 0, dropped) if dropped else None

    def offers_of(self, left: int) -> Left:
        """The offers of a bit set."""
        return Left(*pick(left, self._names))

    def priors(self, names: Iterable[str]) -> list[float]:
        """The p_convert that the catalog itself assumes of some offers."""
        return [self.offers[self.position(name)].score.prior for name in names]

    def against_fallback(self, screen: Screen) -> Drop | None:
        """What keeps even the fallback away: the kill switch, the request itself, an invariant or a guard."""
        bit = self.bits.get(self.surface.fallback or "", 0)
        return next((drop for drop in screen.drops if drop[2] & bit and drop[0] in _EVEN_FALLBACKS), None)


_EVEN_FALLBACKS = (Stage.KILLED, Stage.EXCLUDED, Stage.INVARIANT, Stage.GUARD)


def _rules(catalog: Catalog, plan: SurfacePlan) -> Iterator[Rule]:
    """Invariants, then guards. A guard that reads a feature which must be known has that as a half of its own."""
    for invariant in catalog.invariants:
        covers = plan.covered(invariant.never)
        yield Rule(Stage.INVARIANT, invariant.name, invariant.place, invariant.when, False, covers)
    for guard in catalog.guards:
        halves = [(guard.allows, True), (guard.blocks, False)]
        read = {name for condition, _ in halves if condition is not None for name in reads(condition)}
        needs = sorted(name for name in read if catalog.features[name].blocks_if_missing)
        known = AllOf(tuple(Test(name, Op.PRESENT) for name in needs))
        for condition, wanted in [(known if needs else None, True), *halves]:
            if condition is not None:
                yield Rule(Stage.GUARD, guard.name, guard.place, condition, wanted, plan.covered(guard.scope))

"""A surface made ready to decide: what a catalog says of it, looked up and compiled once per release.

Offers are bits: bit i is the i-th offer of the surface by name, and a rule drops a set of them in one step.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import compress, count
from math import prod
from typing import Generic, TypeVar

from decisioning.catalog import Catalog, ContextWeight, Factor, Lever, Offer, Scope, Surface
from decisioning.conditions import AllOf, Condition, Op, Test, reads
from decisioning.domain import DECISION, Facts, Place, Reason, Request, Stage, Value, record
from decisioning.experiments import ablated, overrides_of
from decisioning.index import build_index
from decisioning.limits import Drop, Limits
from decisioning.slate import Slots
from decisioning.words import first_failure, words

MEMO_LIMIT = 512
"""How many combinations of arms and context weights a plan remembers the factors of."""

_DIGITS = bytes.maketrans(b"01", b"\0\1")

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
class Factors:
    """What an effect is multiplied by, by position of the offer, and what the score must reach."""

    net: tuple[float, ...]
    """Value net of cost per conversion."""
    context: tuple[float, ...]
    """The product of the context weights that hold."""
    lever: tuple[float, ...]
    priority: tuple[int, ...]
    min_score: float | None
    worth: tuple[float, ...] = field(init=False)
    """The product of the three."""
    one_class: bool = field(init=False)
    """Whether all offers are of the same priority class."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "worth", tuple(map(prod, zip(self.net, self.context, self.lever, strict=True))))
        object.__setattr__(self, "one_class", len(set(self.priority)) <= 1)


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
        self._wanted = sum(1 << position for position, rule in enumerate(self.rules) if rule.wanted)
        self._weights = tuple(weight for weight in catalog.context_weights if self.covered(weight.scope))
        conditions = [offer.eligible or AllOf(()) for offer in self.offers] + [rule.condition for rule in self.rules]
        conditions += [weight.when for weight in self._weights]
        conditions += [experiment.audience or AllOf(()) for experiment in catalog.experiments]
        self._after_offers, self._after_rules = len(self.offers), len(self.offers) + len(self.rules)
        self._after_weights = self._after_rules + len(self._weights)
        self._every_rule, self._every_weight = (1 << len(self.rules)) - 1, (1 << len(self._weights)) - 1
        self.index = build_index(conditions, catalog.features)
        self._live = _Timeline([(o.live_from, o.live_until) for o in self.offers], self._live_at)
        self._levers = _Timeline([(lever.starts, lever.until) for lever in catalog.levers], self._levers_at)
        self._factors: dict[object, Factors] = {}
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
        live, eligible = self._live.at(request.now), alive & self.everything
        if live != self.everything:
            drops.append((Stage.LIVE, 0, self.everything & ~live))
        if eligible != self.everything:
            drops.append((Stage.ELIGIBLE, 0, self.everything & ~eligible))
        broken = (alive >> self._after_offers) & self._every_rule ^ self._wanted
        if broken:
            drops += [(rule.stage, n, rule.covers) for n, rule in enumerate(self.rules) if broken >> n & 1]
        drops += self.limits.drops(request, facts, values)
        left = self.everything
        for _, _, mask in drops:
            left &= ~mask
        weights = alive >> self._after_rules & self._every_weight
        return Screen(left, word, drops, weights, alive >> self._after_weights)

    def _live_at(self, now: float) -> int:
        """live_from ≤ now < live_until."""
        return self.bits_of(
            [
                offer.name
                for offer in self.offers
                if (offer.live_from is None or offer.live_from <= now)
                and (offer.live_until is None or now < offer.live_until)
            ]
        )

    def offers_of(self, left: int) -> Left:
        """The offers of a bit set."""
        flags = bin(left)[:1:-1].encode().translate(_DIGITS)  # "0b1011" → 1, 1, 0, 1
        return Left(flags, tuple(compress(self._names, flags)))

    def priors(self, names: Iterable[str]) -> list[float]:
        """The p_convert that the catalog itself assumes of some offers."""
        return [self.offers[self.position(name)].score.prior for name in names]

    # --- Factors

    def factors(self, now: float, arms: Mapping[str, str], weights: int = 0, *, simple: bool = False) -> Factors:
        """What holds at a moment for a user in some arms, where some context weights hold (bits of a Screen).

        `simple`: without levers and context weights, for the held out.
        """
        key = (self._levers.segment(now), weights, simple, *arms.items())
        found = self._factors.get(key)
        if found is None:
            found = self._factors_of(self._levers.at(now), arms, weights, simple)
            if len(self._factors) < MEMO_LIMIT:
                self._factors[key] = found
        return found

    def _factors_of(self, levers: Sequence[Lever], arms: Mapping[str, str], weights: int, simple: bool) -> Factors:
        set_to, off = overrides_of(self.catalog, arms), ablated(arms)
        if simple or off is Factor.LEVERS:
            levers = ()
        holding = [weight for n, weight in enumerate(self._weights) if weights >> n & 1]
        if simple or off is Factor.CONTEXT:
            holding = []
        net, context, lever, priority = [], [], [], []
        for offer in self.offers:
            path = f"offers.{offer.name}."
            value = set_to.get(path + "score.value", offer.score.value)
            worth = value - set_to.get(path + "score.cost", offer.score.cost)
            net.append(1.0 if off is Factor.VALUE else worth)
            context.append(self._context(offer, holding, set_to))
            lever.append(self._lever(offer, levers, set_to))
            priority.append(int(set_to.get(path + "priority", offer.priority)))
        least = set_to.get(f"surfaces.{self.surface.name}.min_score", self.surface.min_score)
        if off is Factor.VALUE:  # a threshold in money says nothing of scores without it
            least = None
        return Factors(tuple(net), tuple(context), tuple(lever), tuple(priority), least)

    def _context(self, offer: Offer, holding: Sequence[ContextWeight], set_to: Mapping[str, float]) -> float:
        """The product of the context weights on an offer; 1 where none holds."""
        factors = [
            set_to.get(f"context_weights.{weight.name}.times", weight.times)
            for weight in holding
            if weight.scope.covers(offer.name, offer.group, self.surface.name)
        ]
        return prod(factors, start=1.0)

    def _lever(self, offer: Offer, levers: Sequence[Lever], set_to: Mapping[str, float]) -> float:
        """The product of the levers on an offer, held within the catalog's bounds; 1 where none applies."""
        pulled = [
            set_to.get(f"levers.{lever.name}.times", lever.times)
            for lever in levers
            if lever.scope.covers(offer.name, offer.group, self.surface.name)
        ]
        return min(max(prod(pulled), self.catalog.lever_min), self.catalog.lever_max) if pulled else 1.0

    def _levers_at(self, now: float) -> tuple[Lever, ...]:
        return tuple(
            lever
            for lever in self.catalog.levers
            if (lever.starts is None or lever.starts <= now) and now < lever.until
        )

    # --- In words

    def reason(self, drop: Drop, offer: Offer, request: Request, facts: Facts, values: Mapping[str, Value]) -> Reason:
        """Why a drop takes one of its offers."""
        stage, position, _ = drop
        match stage:
            case Stage.KILLED:
                return Reason(offer.name, stage, offer.name, "switched off by the kill switch", str(offer.place))
            case Stage.EXCLUDED:
                return Reason(offer.name, stage, offer.name, "the request excludes it")
            case Stage.LIVE:
                return Reason(offer.name, stage, offer.name, _live_words(offer, request.now), str(offer.place))
            case Stage.ELIGIBLE:
                failure = first_failure(offer.eligible or AllOf(()), values, request.now)
                detail, place = (failure.detail, failure.place) if failure else ("not eligible", offer.place)
                return Reason(offer.name, stage, offer.name, detail, str(place))
            case Stage.INVARIANT | Stage.GUARD:
                rule = self.rules[position]
                return Reason(offer.name, stage, rule.name, _rule_words(rule, values, request.now), str(rule.place))
        return self.limits.reason(drop, offer, request, facts)

    def reasons(self, screen: Screen, request: Request, facts: Facts, values: Mapping[str, Value]) -> dict[str, Reason]:
        """The first rule against each offer of the surface that a screen dropped, by offer."""
        found = {}
        for offer in self.offers:
            bit = self.bits[offer.name]
            drop = next((drop for drop in screen.drops if drop[2] & bit), None)
            if drop is not None and bit & self.everything:
                found[offer.name] = self.reason(drop, offer, request, facts, values)
        return found

    def against_fallback(self, screen: Screen) -> Drop | None:
        """What keeps even the fallback away: the kill switch, the request itself, an invariant or a guard."""
        bit = self.bits.get(self.surface.fallback or "", 0)
        return next((drop for drop in screen.drops if drop[2] & bit and drop[0] in _EVEN_FALLBACKS), None)


_EVEN_FALLBACKS = (Stage.KILLED, Stage.EXCLUDED, Stage.INVARIANT, Stage.GUARD)


class _Timeline(Generic[T]):
    """Something that changes at known moments only."""

    def __init__(self, spans: Iterable[tuple[float | None, float | None]], at: Callable[[float], T]) -> None:
        self._starts = sorted({moment for span in spans for moment in span if moment is not None})
        before = self._starts[0] - 1.0 if self._starts else 0.0
        self._values = [at(before), *map(at, self._starts)]

    def segment(self, now: float) -> int:
        return bisect_right(self._starts, now)

    def at(self, now: float) -> T:
        return self._values[bisect_right(self._starts, now)]


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


def _rule_words(rule: Rule, values: Mapping[str, Value], now: float) -> str:
    if not rule.wanted:
        return f"{'never' if rule.stage is Stage.INVARIANT else 'blocked'} where {words(rule.condition)}"
    missing = [name for name in sorted(reads(rule.condition)) if name not in values]
    failure = first_failure(rule.condition, values, now)
    if failure is None:
        return words(rule.condition)
    return f"{missing[0]} is missing, and this guard needs it" if _is_presence(rule.condition) else failure.detail


def _is_presence(condition: Condition) -> bool:
    return isinstance(condition, AllOf) and all(isinstance(c, Test) and c.op is Op.PRESENT for c in condition.children)


def _live_words(offer: Offer, now: float) -> str:
    if offer.live_from is not None and now < offer.live_from:
        return f"goes live on {_moment(offer.live_from)}"
    return f"ended on {_moment(offer.live_until or now)}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

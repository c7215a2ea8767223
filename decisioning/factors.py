"""What effects are multiplied by on a surface: value, context weights and levers, at a moment and for some arms."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from decisioning.catalog import Catalog, Factor, Offer, Surface
from decisioning.experiments import ablated, overrides_of
from decisioning.rules import ContextWeight, Lever
from decisioning.timeline import Timeline

MEMO_LIMIT = 512
"""How many combinations of arms and context weights are remembered."""


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


class SurfaceFactors:
    """The factors of a surface's offers, remembered by what they hang on."""

    def __init__(
        self, catalog: Catalog, surface: Surface, offers: Sequence[Offer], weights: Sequence[ContextWeight]
    ) -> None:
        self._catalog, self._surface, self._offers, self._weights = catalog, surface, offers, weights
        self._levers = Timeline([(lever.starts, lever.until) for lever in catalog.levers], self._levers_at)
        self._known: dict[object, Factors] = {}

    @property
    def moments(self) -> Sequence[float]:
        """When levers begin or end, rising: between two of them `at` hangs on arms and weights alone."""
        return self._levers.starts

    def at(self, now: float, arms: Mapping[str, str], weights: int = 0, *, simple: bool = False) -> Factors:
        """What holds at a moment for a user in some arms, where some context weights hold (bits of a Screen).

        `simple`: without levers and context weights, for the held out.
        """
        key = (bisect_right(self._levers.starts, now), weights, simple, *arms.items())
        found = self._known.get(key)
        if found is None:
            found = self._made(self._levers.at(now), arms, weights, simple)
            if len(self._known) < MEMO_LIMIT:
                self._known[key] = found
        return found

    def _made(self, levers: Sequence[Lever], arms: Mapping[str, str], weights: int, simple: bool) -> Factors:
        set_to, off = overrides_of(self._catalog, arms), ablated(arms)
        if simple or off is Factor.LEVERS:
            levers = ()
        holding = [weight for n, weight in enumerate(self._weights) if weights >> n & 1]
        if simple or off is Factor.CONTEXT:
            holding = []
        net, context, lever, priority = [], [], [], []
        for offer in self._offers:
            path = f"offers.{offer.name}."
            value = set_to.get(path + "score.value", offer.score.value)
            worth = value - set_to.get(path + "score.cost", offer.score.cost)
            net.append(1.0 if off is Factor.VALUE else worth)
            context.append(self._context(offer, holding, set_to))
            lever.append(self._lever(offer, levers, set_to))
            priority.append(int(set_to.get(path + "priority", offer.priority)))
        least = set_to.get(f"surfaces.{self._surface.name}.min_score", self._surface.min_score)
        if off is Factor.VALUE:  # a threshold in money says nothing of scores without it
            least = None
        return Factors(tuple(net), tuple(context), tuple(lever), tuple(priority), least)

    def _context(self, offer: Offer, holding: Sequence[ContextWeight], set_to: Mapping[str, float]) -> float:
        """The product of the context weights on an offer; 1 where none holds."""
        factors = [
            set_to.get(f"context_weights.{weight.name}.times", weight.times)
            for weight in holding
            if weight.scope.covers(offer.name, offer.group, self._surface.name)
        ]
        return prod(factors, start=1.0)

    def _lever(self, offer: Offer, levers: Sequence[Lever], set_to: Mapping[str, float]) -> float:
        """The product of the levers on an offer, held within the catalog's bounds; 1 where none applies."""
        pulled = [
            set_to.get(f"levers.{lever.name}.times", lever.times)
            for lever in levers
            if lever.scope.covers(offer.name, offer.group, self._surface.name)
        ]
        return min(max(prod(pulled), self._catalog.lever_min), self._catalog.lever_max) if pulled else 1.0

    def _levers_at(self, now: float) -> tuple[Lever, ...]:
        return tuple(
            lever
            for lever in self._catalog.levers
            if (lever.starts is None or lever.starts <= now) and now < lever.until
        )

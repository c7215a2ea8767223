"""A fitted model as it is asked: from what is known of a user to a score for each offer.

The score of an offer is p = m + λ (s − m): m its mean, s the learner's calibrated score, λ the shrinkage found in
training (0: the best single offer). Where NOTHING was logged, the effect is the uplift p − p(nothing); else it is p.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from decisioning.domain import NOTHING, Scores, Value
from models import by_c
from models.calibration import Calibration, Platt
from models.encoding import Encoding
from models.predictors import Predictor, Trees
from models.scorer import C, Way


@dataclass(frozen=True, slots=True)
class Means:
    """Conversion rates without personalisation: the best single offer policy."""

    surfaces: Mapping[str, Mapping[str, float]]
    """surface → offer → rate."""
    offers: Mapping[str, float]
    groups: Mapping[str, float]
    overall: float

    def of(self, surface: str, offer: str, group: str | None) -> float:
        """The rate on the surface, else over all surfaces, else of the group, else of everything."""
        found = self.surfaces.get(surface, {}).get(offer)
        if found is None:
            found = self.offers.get(offer)
        if found is None and group is not None:
            found = self.groups.get(group)
        return self.overall if found is None else found


@dataclass(frozen=True, slots=True)
class Golden:
    """One recorded answer: checked whenever the model loads."""

    features: Mapping[str, Value]
    surface: str
    offers: tuple[str, ...]
    raw: tuple[float, ...]
    p: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """A fitted model. Pure: the same answer for the same question, whatever other offers are asked for."""

    name: str
    version: int
    learner: str
    outcome: str
    """What `p_convert` is the probability of, such as "visit"."""
    encoding: Encoding
    means: Means
    uplift: bool
    """Whether NOTHING was logged, and the effect is the difference to it."""
    shrinkage: float
    predictor: Predictor
    calibration: Calibration = field(default_factory=Platt)
    info: Mapping[str, object] = field(default_factory=dict)
    """Where it comes from: data window, seed, row counts; plain JSON."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Offer → group for offers that came after the training; not stored."""
    golden: tuple[Golden, ...] = ()

    @cached_property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def way(self) -> Way | None:
        """How its trees are scored, and why not faster; None for a model without trees."""
        return self.predictor.way

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        """Personal scores in the order of `offers`; an offer unknown to the model has its group's rate."""
        if self.shrinkage == 0.0:
            return self.prior(surface, offers)
        asked = self._asked(offers) if self.uplift else offers
        p = self._ask(features, surface, asked) if self._ask is not None else None
        if p is None:
            p = self._blend(self._raw(features, surface, asked), self._means(surface, asked))
        elif self._is_plain:  # what the asker knows of is not NOTHING
            return Scores(p, p)
        return self._scores(offers, p)

    def ready(self, surface: str, offers: tuple[str, ...]) -> object | None:
        """What C asks in place of `score`, of some of these offers (`decisioning/asks.h`); None where it can't."""
        if self._asker is None or self.shrinkage == 0.0 or NOTHING in offers:
            return None
        return self._asker.ready(surface, offers, NOTHING if self.uplift else None)

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        """Each offer's mean, the same for every user."""
        return self._scores(offers, self._means(surface, self._asked(offers)))

    def raw(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> dict[str, float]:
        """The learner's raw log-odds by offer; NaN where it has nothing to say."""
        return dict(zip(offers, self._raw(features, surface, offers), strict=True))

    def mean(self, surface: str, offer: str) -> float:
        """m: the offer's rate here. NOTHING converts at no known rate unless it was logged: 0."""
        if offer == NOTHING and not self.uplift:
            return 0.0
        place = self.encoding.index.get(offer)
        group = self.groups.get(offer) if place is None else self.encoding.offers[place].group
        return self.means.of(surface, offer, group)

    # What follows is asked of every request: each step is one pass over the offers, by C where there is one.

    def _asked(self, offers: Sequence[str]) -> Sequence[str]:
        """With NOTHING at the end, where effects are measured against it."""
        return [*offers, NOTHING] if self.uplift and NOTHING not in offers else offers

    def _raw(self, features: Mapping[str, Value], surface: str, asked: Sequence[str]) -> Sequence[float]:
        index = self.encoding.index
        try:
            rows = list(map(index.__getitem__, asked))
        except KeyError:
            known = [name for name in asked if name in index]
            found = dict.fromkeys(asked, math.nan) | (self.raw(features, surface, known) if known else {})
            return [found[name] for name in asked]
        return self.predictor.raw(self._context(features, surface), rows)

    @cached_property
    def _asker(self) -> by_c.Asker | None:
        """`_blend` of `_raw` and `_means` in one call, where there is a way."""
        predictor, platt = self.predictor, self.calibration
        if not isinstance(predictor, Trees) or predictor.masks is None or not isinstance(platt, Platt):
            return None
        return by_c.asker(self.encoding, predictor.masks, self._known_means, platt, self.shrinkage)

    @cached_property
    def _ask(self) -> by_c.Ask | None:
        """What gives None for what it doesn't know."""
        return None if self._asker is None else self._asker.ask

    @cached_property
    def _is_plain(self) -> bool:
        """Whether effects are the probabilities themselves, as there is no NOTHING among what it was trained on."""
        return not self.uplift and NOTHING not in self.encoding.index

    @cached_property
    def _context(self) -> Callable[[Mapping[str, Value], str], Sequence[float]]:
        return by_c.packer(self.encoding) if self._is_native else self.encoding.context

    def _means(self, surface: str, asked: Sequence[str]) -> list[float]:
        try:
            return list(map(self._known_means[surface].__getitem__, asked))
        except KeyError:
            return [self.mean(surface, name) for name in asked]

    @cached_property
    def _known_means(self) -> Mapping[str, Mapping[str, float]]:
        """Surface → offer → rate, looked up once for what the model was trained on."""
        return {
            surface: {offer.name: self.mean(surface, offer.name) for offer in self.encoding.offers}
            for surface in self.encoding.surfaces
        }

    def _blend(self, raw: Sequence[float], means: list[float]) -> list[float]:
        """Calibrated, and shrunk to the means: m + λ (s − m), clipped; m alone where the learner says nothing (NaN)."""
        weight = self.shrinkage
        if self._is_native and isinstance(self.calibration, Platt):
            return by_c.blend(raw, means, self.calibration, weight)
        blended = [
            m if s != s else m + weight * (s - m) for m, s in zip(means, self.calibration.each(raw), strict=True)
        ]
        return [0.0 if p < 0.0 else 1.0 if p > 1.0 else p for p in blended]

    @property
    def _is_native(self) -> bool:
        return self.way is not None and self.way.name == C

    def _scores(self, offers: Sequence[str], p: list[float]) -> Scores:
        """`p` are those of `_asked`."""
        if self.uplift:
            base = p[offers.index(NOTHING)] if len(p) == len(offers) else p.pop()
            return Scores(p, [0.0 if name == NOTHING else value - base for name, value in zip(offers, p, strict=True)])
        if NOTHING in offers:
            return Scores(p, [0.0 if name == NOTHING else value for name, value in zip(offers, p, strict=True)])
        return Scores(p, p)


def record_golden(
    model: Model, rows: Sequence[tuple[Mapping[str, Value], str]], reference: Predictor | None = None
) -> Model:
    """The model with its answers to some (features, surface), over all its offers, written down.

    They are the answers of `reference`, where there is one: LightGBM itself, wherever it is at hand.
    """
    offers = tuple(offer.name for offer in model.encoding.offers)
    asked = model if reference is None else replace(model, predictor=reference)
    golden = []
    for features, surface in rows:
        raw = asked.raw(features, surface, offers)
        p = tuple(asked.score(features, surface, offers).p_convert)
        golden.append(Golden(dict(features), surface, offers, tuple(raw.values()), p))
    return replace(model, golden=tuple(golden))

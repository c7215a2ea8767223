"""The frozen Catalog: what the product managers' YAML means once it has been checked.

`catalog_yaml` builds it and reports errors; nothing here knows YAML. Durations are seconds, times are epoch seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from decisioning.conditions import Condition
from decisioning.domain import DECISION, NOWHERE, EventType, Place, Value
from decisioning.rules import Budget, Cap, ContextWeight, Exclusive, Guard, Invariant, Lever, QuietHours, Suppression

DAY = 86_400.0


class FeatureType(StrEnum):
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    ENUM = "enum"
    SET = "set"
    TIME = "time"
    TEXT = "text"
    """Free text from the request's context (an app version, a time zone); never in a snapshot."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One name that conditions and models may use."""

    name: str
    type: FeatureType
    values: tuple[str, ...] = ()
    """The declared values of an enum or a set, in order."""
    default: Value = None
    max_age: float | None = None
    """Seconds after which a snapshot's value counts as missing."""
    blocks_if_missing: bool = False
    """Any guard that reads it fails closed when it is missing."""
    from_context: bool = False
    """The client sends it with the request; otherwise it comes from the snapshot."""
    unit: str = ""
    counts: str = ""
    """A type of event: each that the user's history holds since the snapshot adds one to its value."""


@dataclass(frozen=True, slots=True)
class Group:
    """What counts as a conversion for the offers of a group, and for how long it is attributed."""

    name: str
    converts_on: str = EventType.CONVERT
    within: float = 14 * DAY


@dataclass(frozen=True, slots=True)
class Surface:
    name: str
    slots: int = 1
    fallback: str | None = None
    min_score: float | None = None
    min_p_convert: float | None = None
    deadline: float = 0.05
    allow_nothing: bool = False
    max_per_group: int | None = None
    """How many offers of one group a slate may hold (`diversity: group` is one)."""
    sticky: float = 0.0
    """Seconds during which a user's draw stays the same; 0 makes every request a decision of its own."""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Score:
    model: str | None = None
    value: float = 1.0
    cost: float = 0.0
    prior: float = 0.01
    """The p_convert assumed where no model can say."""

    @property
    def net(self) -> float:
        return self.value - self.cost


@dataclass(frozen=True, slots=True)
class Creative:
    key: str
    locales: tuple[str, ...] = ()
    fallback_locale: str = "en"

    def localised(self, locale: str | None) -> str:
        """The key for a locale, such as "premium-annual-winter.sv"; region subtags fall back to the language."""
        if not locale:
            return f"{self.key}.{self.fallback_locale}"
        if locale in self.locales:
            return f"{self.key}.{locale}"
        language = locale.replace("_", "-").split("-")[0]
        return f"{self.key}.{language if language in self.locales else self.fallback_locale}"


@dataclass(frozen=True, slots=True)
class Offer:
    name: str
    owner: str
    group: str
    surfaces: tuple[str, ...]
    score: Score = Score()
    live_from: float | None = None
    live_until: float | None = None
    """The first moment at which it is no longer live."""
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    eligible: Condition | None = None
    creative: Creative | None = None
    priority: int = 0
    """Priority class: a higher one always ranks above a lower one."""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Holdout:
    name: str
    percent: float
    salt: str
    surfaces: frozenset[str] = frozenset()
    """Empty for all surfaces."""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    percent: float
    overrides: Mapping[str, float] = field(default_factory=dict)
    """Paths such as `offers.premium_annual.score.value`, and what they are in this arm."""


@dataclass(frozen=True, slots=True)
class Experiment:
    name: str
    layer: str
    arms: tuple[Arm, ...]
    audience: Condition | None = None
    starts_at: float = 0.0
    """The first percentile of the layer that takes part; experiments of one layer have disjoint ranges."""
    percent: float = 100.0
    """How much of the layer takes part, in percent."""
    place: Place = NOWHERE


class Factor(StrEnum):
    """What a score is made of, in the order in which ablation arms stand in their layer."""

    MODEL = "model"
    VALUE = "value"
    LEVERS = "levers"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Ablations:
    """Always-on small arms: each of `factors` is switched off for its own `percent` of users."""

    percent: float = 0.0
    factors: tuple[Factor, ...] = ()
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Exploration:
    uniform: float = 0.05
    challenger: float = 0.0


@dataclass(frozen=True, slots=True)
class CatalogTest:
    """One of the catalog's own tests: facts given, a surface, and what must and must not happen."""

    name: str
    surface: str
    features: Mapping[str, Value] = field(default_factory=dict)
    history: tuple[tuple[str, str, float], ...] = ()
    """(event type, offer, seconds ago)."""
    never: tuple[str, ...] = ()
    eligible: tuple[str, ...] = ()
    """Offers that must be left after every rule."""
    because: Mapping[str, str] = field(default_factory=dict)
    """offer → the name of the rule, or the stage, that must have dropped it."""
    now: float | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything the product managers wrote, checked and frozen. Equal text gives an equal `hash`."""

    hash: str
    currency: str = "EUR"
    features: Mapping[str, FeatureSpec] = field(default_factory=dict)
    audiences: Mapping[str, Condition] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    surfaces: Mapping[str, Surface] = field(default_factory=dict)
    offers: Mapping[str, Offer] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    caps: tuple[Cap, ...] = ()
    budgets: tuple[Budget, ...] = ()
    quiet_hours: tuple[QuietHours, ...] = ()
    exclusives: tuple[Exclusive, ...] = ()
    levers: tuple[Lever, ...] = ()
    lever_min: float = 0.25
    lever_max: float = 4.0
    context_weights: tuple[ContextWeight, ...] = ()
    holdouts: tuple[Holdout, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    ablations: Ablations = Ablations()
    exploration: Exploration = Exploration()
    tests: tuple[CatalogTest, ...] = ()

    _by_surface: Mapping[str, tuple[Offer, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Looks up once what every decision asks: the offers of a surface."""
        ordered = [offer for _, offer in sorted(self.offers.items())]
        by_surface = {name: tuple(o for o in ordered if name in o.surfaces) for name in self.surfaces}
        object.__setattr__(self, "_by_surface", by_surface)

    def offers_on(self, surface: str) -> tuple[Offer, ...]:
        """The offers that name a surface, sorted by name, so that the order of files never matters."""
        return self._by_surface[surface]

    def group(self, name: str) -> Group:
        """A group's declaration, or the default one for a group that only offers name."""
        return self.groups.get(name) or Group(name)

    def counts_as(self, event: str, kind: str, offer: str) -> bool:
        """Whether an event of a kind to an offer is of the type that a rule names.

        `convert` is every conversion: whatever the offer's group converts on.
        """
        if event == kind:
            return True
        known = self.offers.get(offer) if event == EventType.CONVERT else None
        return known is not None and kind == self.group(known.group).converts_on

    @property
    def models(self) -> tuple[str, ...]:
        """The model names that offers ask for, sorted."""
        return tuple(sorted({offer.score.model for offer in self.offers.values() if offer.score.model}))

    @property
    def counts_decisions(self) -> bool:
        """Whether any cap counts decisions, so that the service has to record them in users' histories."""
        return any(cap.counts == DECISION for cap in self.caps)

    @property
    def longest_memory(self) -> float:
        """How far back, in seconds, any rule looks into a user's history."""
        spans = [cap.per for cap in self.caps] + [rule.lasts for rule in self.exclusives]
        spans += [rule.lasts + (rule.within or 0.0) for rule in self.suppressions]
        return max(spans, default=0.0)

"""The records that everything else speaks in: what is asked, what is known, what was decided, what followed.

All are frozen; those that every decision makes anew, in the eyes of the type checker alone (`record`). Times are
seconds since the Unix epoch (UTC) as floats; durations are seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar, dataclass_transform

# The value of a feature. A missing value is None or an absent key, never NaN. Times are epoch seconds.
Value = str | int | float | bool | frozenset[str] | None

NOTHING = "nothing"
"""The reserved name of showing no offer: an action like the others where a surface allows it."""

MILLION = 1_000_000
"""Selection probabilities are integers per million, so that what is logged is exactly what was used."""


_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """A frozen record that is made for every decision.

    The type checker holds it frozen; at run time nothing does, as `dataclass(frozen=True)` takes three times as long to
    make one: together a tenth of what a decision costs.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the catalog folder."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("", 0)


class EventType(StrEnum):
    """What a client reports. A dataset may bring others of its own (`visit`, `spend`): they are plain text."""

    IMPRESSION = "impression"
    CLICK = "click"
    DISMISS = "dismiss"
    CONVERT = "convert"


DECISION = "decision"
"""What a cap may count besides what clients report: an offer in an answer. The service records it; no client can."""


class Source(StrEnum):
    """Where an answer came from: the ladder of serving, from the top rung down."""

    MODEL = "model"
    RULES = "rules"
    FALLBACK = "fallback"
    NONE = "none"


class Rung(StrEnum):
    """How much work a server that is behind still puts into a decision, from the top down."""

    MODEL = "model"
    """All of it."""
    CACHED = "cached"
    """No model is asked: scores that were given to the user before take their place, or else priors."""
    PRIOR = "prior"
    """No score is personal."""
    FALLBACK = "fallback"
    """Nothing is read, and nothing but the surface's fallback is looked at."""


class Stage(StrEnum):
    """The steps at which an offer can be dropped, in the order in which they are evaluated; then: not good enough."""

    KILLED = "killed"
    EXCLUDED = "excluded"
    LIVE = "live"
    ELIGIBLE = "eligible"
    INVARIANT = "invariant"
    GUARD = "guard"
    SUPPRESSED = "suppressed"
    QUIET = "quiet_hours"
    EXCLUSIVE = "exclusive"
    CAP = "cap"
    BUDGET = "budget"
    THRESHOLD = "threshold"
    SLATE = "slate"
    """Not dropped: a better offer took the room that a slate has for both, by group, exclusivity or a cap."""
    OUTRANKED = "outranked"
    """Not dropped: another offer ranked above it, or the draw fell elsewhere."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would have let an offer through, in words; and as numbers where it is a matter of time or of a lever."""

    words: str
    wait: float | None = None
    """Seconds until every rule lets it through by itself; None where one never does."""
    lever: float | None = None
    """What its lever must be at least. The words round it up."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one offer was dropped: the first rule that said no, in plain words and with its place."""

    offer: str
    stage: Stage
    rule: str
    """The rule's name in the catalog, or the offer's own where its live window or eligibility failed."""
    detail: str
    """One plain clause, with the value found: "sessions_7d is 1, needs at least 3"."""
    where: str = ""
    """File and line, such as "offers/upgrade.yaml:11"."""
    change: Change | None = None
    """The least change that would have shown it."""


@record
class HistoryEvent:
    """One event of a user's own past, as far as caps and suppression need it."""

    type: str
    offer: str
    surface: str
    at: float


@record
class Request:
    """One question: which offer should this user see here, now?"""

    decision_id: str
    user: str
    """The keyed hash of the user's id (`identity.user_key`), never the id itself."""
    surface: str
    now: float
    context: Mapping[str, Value] = field(default_factory=dict)
    slots: int | None = None
    """Fewer slots than the surface has; None for all of them."""
    exclude: frozenset[str] = frozenset()


@record
class Known:
    """Scores that a model gave to a user before."""

    offers: tuple[str, ...]
    p_convert: tuple[float, ...]
    """Of the offers, in their order."""
    effect: tuple[float, ...] = ()
    """The same; empty where it is `p_convert` itself."""


@record
class Shed:
    """What a decision had to do without, because the server was behind. Without it no decision could be made again."""

    rung: Rung
    known: Mapping[str, Known] = field(default_factory=dict)
    """By the model's label: what was used in place of the model. What it does not name got its prior."""


@record
class Facts:
    """All that `decide` reads about a user besides the request. What could not be read says so."""

    features: Mapping[str, Value] = field(default_factory=dict)
    as_of: float | None = None
    """The moment that the feature values describe; None when none were found."""
    history: tuple[HistoryEvent, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)
    """Units that are out, by budget: spent, or on lease to other decisions. One that is absent could not be read."""
    killed: frozenset[str] = frozenset()
    """Offers switched off by hand, without a release."""
    unread: frozenset[str] = frozenset()
    """Which of `features`, `history`, `budgets` and `killed` could not be read because something is down."""
    degraded: tuple[str, ...] = ()
    """What is less than it should be, for the answer: `features:unknown_user`, `features:unread`, …"""
    fresh: Mapping[str, float] = field(default_factory=dict)
    """The features whose value is newer than the snapshot's, each with the moment that it describes. One that counts
    events on from an older value describes that value's moment."""
    shed: Shed | None = None
    """None for a decision that all the work was put into."""


@record
class Scores:
    """What a scorer says of some offers, in their order."""

    p_convert: Sequence[float]
    """The probability that this user converts if shown the offer."""
    effect: Sequence[float]
    """What the value is multiplied by: `p_convert` itself, or its uplift over showing nothing."""


class Scorer(Protocol):
    """A model as `decide` sees it: pure, and the same answer for the same input, to the last bit."""

    @property
    def label(self) -> str:
        """Name and version for people and logs, such as "upsell/3"; empty for scores that no model gave."""
        ...

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        """Personal scores. `features` holds the known values of snapshot and context by name."""
        ...

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        """The scores of the best single offer policy: each offer's mean, the same for every user."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One offer that passed every rule, with its factors."""

    offer: str
    p_convert: float
    effect: float
    value: float
    """Value net of cost per conversion, in the catalog's currency."""
    context: float
    lever: float
    score: float
    priority: int


@record
class Shown:
    """One slot of the answer."""

    offer: str
    slot: int
    """From 1."""
    creative: str | None
    p_convert: float | None
    score: float | None
    probability: float
    """The chance that the policy had of putting this offer in this slot, after everything."""


@record
class Policy:
    """The distribution that the draw used, as its parts, in integers per million.

    Each of `offers` has `share`, the challenger's choice has `canary` more, and the champion's choice all the rest.
    """

    offers: tuple[str, ...]
    """E: what was left after every rule, by name; then NOTHING, where the surface allows it."""
    champion: str
    challenger: str | None
    share: int
    canary: int
    draw: int
    """A 53-bit integer."""

    def weight(self, offer: str) -> int:
        """The chance of an action, per million; 0 for one that was not left."""
        if offer not in self.offers:
            return 0
        rest = MILLION - self.share * len(self.offers) - self.canary
        canary = self.canary if offer == self.challenger else 0
        return self.share + canary + (rest if offer == self.champion else 0)

    @property
    def weights(self) -> tuple[int, ...]:
        """Of all `offers`, in their order; they sum to a million."""
        found = [self.share] * len(self.offers)
        found[self.offers.index(self.champion)] = self.weight(self.champion)
        if self.challenger is not None:
            found[self.offers.index(self.challenger)] = self.weight(self.challenger)
        return tuple(found)


@record
class Decision:
    """The answer to one Request, with all that is needed to audit it. `explain` tells why, from the same inputs."""

    decision_id: str
    surface: str
    release: str
    slate: tuple[Shown, ...]
    source: Source
    model: str | None
    degraded: tuple[str, ...]
    eligible: tuple[str, ...]
    """The offers left after every rule and threshold, by name."""
    p_convert: tuple[float, ...]
    """Of the eligible, in their order."""
    scores: tuple[float, ...]
    """Of the eligible, in their order, after value and levers."""
    truth: str
    """The truth word in hexadecimal: which tests of the surface's conditions held."""
    policy: Policy | None
    """None where nothing was drawn: a fallback, or nothing left."""
    arms: Mapping[str, str] = field(default_factory=dict)
    """The arm of each experiment that the user is in."""
    holdout: str | None = None
    ghost: str | None = None
    """What a held-out user would have been shown first."""

    @property
    def first(self) -> str:
        """The offer in slot 1, or NOTHING."""
        return self.slate[0].offer if self.slate else NOTHING


@dataclass(frozen=True, slots=True)
class Event:
    """An impression or an outcome that a client reports. Applying one `event_id` twice changes nothing."""

    event_id: str
    type: str
    decision_id: str
    offer: str
    user: str
    """The keyed hash of the user's id."""
    surface: str
    at: float
    value: float | None = None


def decided(request: Request, decision: Decision) -> list[Event]:
    """The events by which caps know what was decided."""
    return [
        Event(
            event_id=f"{DECISION}:{request.decision_id}:{one.slot}",
            type=DECISION,
            decision_id=request.decision_id,
            offer=one.offer,
            user=request.user,
            surface=request.surface,
            at=request.now,
        )
        for one in decision.slate
    ]

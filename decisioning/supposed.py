"""A decision supposed otherwise: at another moment, for other values, with rules, lever or priority changed.

For explanations: every what-if goes through the very functions that decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from decisioning.arbitration import Ranking
from decisioning.catalog import Offer
from decisioning.domain import Facts, Request, Scorer, Scores, Stage, Value
from decisioning.engine import Case, Release, examine, rank
from decisioning.plan import Screen

MOST_USERS = 8
"""How many what-if users' scores are remembered."""


@dataclass(frozen=True, slots=True)
class Supposed:
    """What a decision is made of, with some of it otherwise for the sake of one offer."""

    release: Release
    scorers: Mapping[str, Scorer]
    request: Request
    facts: Facts
    offer: Offer
    kept_until: float = 0.0
    """When a sticky answer that was given before is drawn anew."""
    held_out: bool = True
    """Whether the user is held out where the catalog says so."""
    lifted: frozenset[tuple[Stage, int]] = frozenset()
    """Rules that let the offer through."""
    lever: float | None = None
    priority: int | None = None

    def at(self, now: float) -> "Supposed":
        """Later, with the user as they are."""
        as_of, later = self.facts.as_of, now - self.request.now
        fresh = {name: at + later for name, at in self.facts.fresh.items()}
        facts = replace(self.facts, as_of=None if as_of is None else as_of + later, fresh=fresh)
        return replace(self, request=replace(self.request, now=now), facts=facts)

    def being(self, case: Case, values: Mapping[str, Value]) -> "Supposed":
        """With other values, known to be so."""
        specs = self.release.catalog.features
        known = {**case.values, **values}
        context = {n: v for n, v in self.request.context.items() if n not in values}
        context |= {n: v for n, v in values.items() if specs[n].from_context and v is not None}
        features = {n: v for n, v in known.items() if v is not None and n in specs and not specs[n].from_context}
        facts = replace(self.facts, features=features, as_of=self.request.now, fresh={})
        return replace(self, request=replace(self.request, context=context), facts=facts)

    @property
    def case(self) -> Case:
        """What the rules leave."""
        case = examine(self.release, self.request, self.facts)
        if case.holdout is not None and not self.held_out:
            arms = self.release.assignment.arms(self.request.user, case.screen.audiences)
            case = replace(case, holdout=None, arms=arms)
        if not self.lifted:
            return case
        drops = [(stage, n, self._rest(stage, n, mask)) for stage, n, mask in case.screen.drops]
        left = case.plan.everything
        for _, _, mask in drops:
            left &= ~mask
        screen = case.screen
        return replace(case, screen=Screen(left, screen.word, drops, screen.weights, screen.audiences))

    def _rest(self, stage: Stage, position: int, mask: int) -> int:
        """What a rule still drops. A live window is the offer's own; a budget or the quiet hours are not."""
        if (stage, position) not in self.lifted:
            return mask
        return mask & ~self.release.plans[self.request.surface].bits[self.offer.name] if stage is Stage.LIVE else 0

    def ranking(self, case: Case, *, thresholds: bool = True) -> Ranking:
        """What is left, scored and ranked."""
        simple = case.holdout is not None
        factors = case.plan.factors(self.request.now, case.arms, case.screen.weights, simple=simple)
        at = case.plan.position(self.offer.name)
        if self.lever is not None:
            factors = replace(factors, lever=(*factors.lever[:at], self.lever, *factors.lever[at + 1 :]))
        if self.priority is not None:
            factors = replace(factors, priority=(*factors.priority[:at], self.priority, *factors.priority[at + 1 :]))
        if not thresholds:
            factors = replace(factors, min_score=None)
        return rank(case, self.scorers, simple=simple, factors=factors)


class Remembering:
    """A scorer that is asked once for what it has said: what-ifs about many offers mostly speak of the same user."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._said: dict[object, dict[str, tuple[float, float]]] = {}

    @property
    def label(self) -> str:
        return self._scorer.label

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        user = frozenset(features.items())
        if user not in self._said and len(self._said) == MOST_USERS:
            del self._said[next(reversed(self._said))]  # the first is the user as they are
        said = self._said.setdefault(user, {})
        new = [offer for offer in offers if offer not in said]
        if new:
            scores = self._scorer.score(features, surface, new)
            said |= zip(new, zip(scores.p_convert, scores.effect, strict=True), strict=True)
        return Scores([said[offer][0] for offer in offers], [said[offer][1] for offer in offers])

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self._scorer.prior(surface, offers)

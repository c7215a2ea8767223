"""What the models last said of each user on each surface: for the moments in which there is no time to ask them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from decisioning.domain import Known, Scorer, Scores, Value
from decisioning.engine import Release

MOST = 8192
"""Users and surfaces that a worker remembers: 1 to 2 kB each."""
MAX_AGE = 900.0
"""Seconds after which scores are forgotten."""

_Said = tuple[str, tuple[str, ...], tuple[float, ...], tuple[float, ...]]
"""The model's label, the offers, p_convert, and effect where that is something else."""


class ScoreCache:
    """Of one release in one worker. To keep takes under a microsecond, to find one or two.

    It remembers in two halves: when the younger is full, it becomes the older one, and that is forgotten. What is kept
    are tuples of texts and numbers, which the garbage collector soon knows not to look into.
    """

    def __init__(self, most: int = MOST) -> None:
        self._half = most // 2
        self._young: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self._old: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self._said: list[_Said] | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def open(self) -> None:
        """A decision begins: what the models say from now on is said of its user."""
        self._said = []

    def note(self, label: str, offers: Sequence[str], found: Scores) -> None:
        """What a model says. Outside of a decision, as when one is explained, it is not of interest."""
        if self._said is not None:
            p_convert, effect = found.p_convert, found.effect
            other = () if effect is p_convert else tuple(effect)
            self._said.append((label, tuple(offers), tuple(p_convert), other))

    def keep(self, user: str, surface: str, now: float) -> None:
        """The decision is made: remembers what was said as said of this user at this moment (epoch seconds)."""
        said, self._said = self._said, None
        if not said:
            return
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[user, surface] = now, tuple(said)

    def find(self, user: str, surface: str, now: float) -> Mapping[str, Known]:
        """What the models said of a user, by their labels; empty where nobody remembers."""
        found = self._young.get((user, surface)) or self._old.get((user, surface))
        if found is None or not 0.0 <= now - found[0] <= MAX_AGE:
            return {}
        return {label: Known(offers, p_convert, effect) for label, offers, p_convert, effect in found[1]}


@dataclass(frozen=True, slots=True)
class Noted:
    """A scorer whose scores are noted."""

    scorer: Scorer
    cache: ScoreCache

    @property
    def label(self) -> str:
        return self.scorer.label

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        found = self.scorer.score(features, surface, offers)
        self.cache.note(self.scorer.label, offers, found)
        return found

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self.scorer.prior(surface, offers)

    def __getattr__(self, name: str) -> Any:
        """What else a model tells of itself."""
        return getattr(self.scorer, name)


def noted(release: Release) -> tuple[Release, ScoreCache]:
    """The release with its models' scores noted, and where they are."""
    cache = ScoreCache()
    return replace(release, scorers={name: Noted(scorer, cache) for name, scorer in release.scorers.items()}), cache

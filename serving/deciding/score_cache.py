"""What the models last said of each user on each surface: for the moments in which there is no time to ask them."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from decisioning.domain import Known, Scorer, Scores, Value
from decisioning.engine import Release

MOST = 8192
"""Users and surfaces that a worker remembers: about 1 kB each."""
MAX_AGE = 900.0
"""Seconds after which scores are forgotten."""

_Said = tuple[str, tuple[str, ...], bytes, bytes]
"""The model's label, the offers, the doubles of p_convert, and those of the effect where that is something else."""


class ScoreCache:
    """Of one release in one worker. To keep takes half a microsecond, to find one or two.

    It remembers in two halves: when the younger is full, it becomes the older one, and that is forgotten. Numbers are
    kept as bytes: an object for each would push what decisions need out of the processor's caches, and to forget a half
    of them at once would keep requests waiting.
    """

    def __init__(self, most: int = MOST) -> None:
        self._half = most // 2
        self._young: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self._old: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self.said: dict[str, _Said] = {}
        """What each model, by its label, said last. Whoever makes a decision clears it first: what they said outside of
        one, as when one is explained, is not of interest."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def keep(self, user: str, surface: str, now: float) -> None:
        """The decision is made: remembers what was said as said of this user at this moment (epoch seconds)."""
        if not self.said:
            return
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[user, surface] = now, tuple(self.said.values())
        self.said.clear()

    def find(self, user: str, surface: str, now: float) -> Mapping[str, Known]:
        """What the models said of a user, by their labels; empty where nobody remembers."""
        found = self._young.get((user, surface)) or self._old.get((user, surface))
        if found is None or not 0.0 <= now - found[0] <= MAX_AGE:
            return {}
        return {label: Known(offers, _numbers(p), _numbers(effect)) for label, offers, p, effect in found[1]}


def _numbers(doubles: bytes) -> tuple[float, ...]:
    return tuple(array("d", doubles))


@dataclass(frozen=True, slots=True)
class Noted:
    """A scorer whose scores are noted."""

    scorer: Scorer
    cache: ScoreCache
    label: str

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        found = self.scorer.score(features, surface, offers)
        p_convert, effect = array("d", found.p_convert), b""
        if found.effect is not found.p_convert:
            effect = array("d", found.effect).tobytes()
        self.cache.said[self.label] = self.label, tuple(offers), p_convert.tobytes(), effect
        return found

    def ready(self, surface: str, offers: tuple[str, ...]) -> object | None:
        """As the model has it, where C can ask it; then C notes what it says in `said`."""
        ready = getattr(self.scorer, "ready", None)
        return None if ready is None else ready(surface, offers)

    @property
    def said(self) -> dict[str, _Said]:
        return self.cache.said

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self.scorer.prior(surface, offers)

    def __getattr__(self, name: str) -> Any:
        """What else a model tells of itself."""
        return getattr(self.scorer, name)


def noted(release: Release) -> tuple[Release, ScoreCache]:
    """The release with its models' scores noted, and where they are."""
    cache = ScoreCache()
    return replace(
        release, scorers={name: Noted(scorer, cache, scorer.label) for name, scorer in release.scorers.items()}
    ), cache

"""What the models last said of each user on each surface: for the moments in which there is no time to ask them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from decisioning.domain import Known, Scorer, Scores, Value
from decisioning.engine import Release

MOST = 8192
"""Users and surfaces that a worker remembers: about 1 kB each."""
MAX_AGE = 900.0
"""Seconds after which scores are forgotten."""

_Said = tuple[str, tuple[str, ...], bytes, bytes]
"""The model's label, the offers, p_convert, and effect where that is something else: numbers as MessagePack."""


def _plain(found: Any) -> Any:
    """What a model's scores may be made of besides lists and floats, such as numpy's."""
    return list(found) if isinstance(found, Sequence) else found.tolist()


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_decode = msgspec.msgpack.Decoder(tuple[float, ...]).decode
_NONE = _encode(())


class ScoreCache:
    """Of one release in one worker. To keep takes a microsecond, to find two or three.

    It remembers in two halves: when the younger is full, it becomes the older one, and that is forgotten. Numbers are
    kept as bytes: an object for each would push what decisions need out of the processor's caches, and to forget a half
    of them at once would keep requests waiting.
    """

    def __init__(self, most: int = MOST) -> None:
        self._half = most // 2
        self._young: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self._old: dict[tuple[str, str], tuple[float, tuple[_Said, ...]]] = {}
        self.said: list[tuple[str, Sequence[str], Scores]] | None = None
        """What models said in the decision that is being made: label, offers, scores. Whoever makes one begins a list.
        Outside of one, as when one is explained, it is None, and what they say is not of interest."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def keep(self, user: str, surface: str, now: float) -> None:
        """The decision is made: remembers what was said as said of this user at this moment (epoch seconds)."""
        said, self.said = self.said, None
        if not said:
            return
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        packed = []
        for label, offers, found in said:
            p_convert, effect = found.p_convert, found.effect
            other = _NONE if effect is p_convert else _encode(effect)
            packed.append((label, tuple(offers), _encode(p_convert), other))
        self._young[user, surface] = now, tuple(packed)

    def find(self, user: str, surface: str, now: float) -> Mapping[str, Known]:
        """What the models said of a user, by their labels; empty where nobody remembers."""
        found = self._young.get((user, surface)) or self._old.get((user, surface))
        if found is None or not 0.0 <= now - found[0] <= MAX_AGE:
            return {}
        return {label: Known(offers, _decode(p), _decode(effect)) for label, offers, p, effect in found[1]}


@dataclass(frozen=True, slots=True)
class Noted:
    """A scorer whose scores are noted."""

    scorer: Scorer
    cache: ScoreCache
    label: str

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        found = self.scorer.score(features, surface, offers)
        said = self.cache.said
        if said is not None:
            said.append((self.label, offers, found))
        return found

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

"""What a challenger's scoring takes on live traffic: a part of the evidence that it has to bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from decisioning.domain import Scorer, Scores, Value
from decisioning.engine import Release


@dataclass(slots=True)
class Stopwatch:
    """Seconds since somebody set it to 0. A server decides one request at a time."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Timed:
    """A scorer that adds what it takes to a stopwatch."""

    scorer: Scorer
    watch: Stopwatch

    @property
    def label(self) -> str:
        return self.scorer.label

    def score(self, features: Mapping[str, Value], surface: str, offers: Sequence[str]) -> Scores:
        started = perf_counter()
        found = self.scorer.score(features, surface, offers)
        self.watch.seconds += perf_counter() - started
        return found

    def prior(self, surface: str, offers: Sequence[str]) -> Scores:
        return self.scorer.prior(surface, offers)


def watched(release: Release) -> tuple[Release, Stopwatch | None]:
    """The release with its challengers timed; itself, and no stopwatch, where nothing challenges."""
    if not release.challengers:
        return release, None
    watch = Stopwatch()
    return replace(release, challengers={name: Timed(one, watch) for name, one in release.challengers.items()}), watch

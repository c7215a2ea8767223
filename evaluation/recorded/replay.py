"""Run recorded decisions again: the same release, request and facts must give the same bytes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import inf
from pathlib import Path

from decisioning.domain import Decision
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from evaluation.recorded.log_checks import LogCheck, check_log
from evaluation.recorded.sweeping import Opened, Progress, quietly, sweep
from evaluation.recorded.traffic import latest_releases, recorded, records, sticky_surfaces, without_repeats
from scaling.engines import Engine
from scaling.local import HERE
from stores.log.decision_log import DecisionRecord, canonical

Load = Callable[[str], Release]
"""A release by id. Raises UserError for one that can't be loaded."""
MOST_NAMED = 100
"""How many decisions that came out otherwise are named."""


@dataclass(frozen=True, slots=True)
class Replay:
    """How many recorded decisions came out identical, and which did not; add those of disjoint lines with `+`."""

    decisions: int = 0
    identical: int = 0
    different: tuple[str, ...] = ()
    """Ids of the first decisions that came out otherwise."""
    unloadable: tuple[str, ...] = ()
    """Releases that the log names and that can't be loaded; their decisions count as not identical."""
    log: LogCheck = field(default_factory=LogCheck)
    """Whether what was shown is what the policies say."""

    def __add__(self, other: "Replay") -> "Replay":
        return Replay(
            self.decisions + other.decisions,
            self.identical + other.identical,
            (*self.different, *other.different)[:MOST_NAMED],
            tuple(sorted({*self.unloadable, *other.unloadable})),
            self.log + other.log,
        )

    @property
    def ok(self) -> bool:
        return self.decisions > 0 and self.identical == self.decisions


def replay(taken: Iterable[DecisionRecord | None], load: Load) -> Replay:
    """Decide every record again; None is a line of the log that is no decision."""
    return _Replaying(load, {}).replay(taken)


def replay_log(folder: Path, load: Load, last: str, *, engine: Engine = HERE, progress: Progress = quietly) -> Replay:
    """Replays what `last` means of a log (see `traffic.recorded`). Raises UserError where it holds no decision."""
    traffic = recorded(folder, last)
    sticky: set[str] = set()
    for release in latest_releases(folder):
        try:
            sticky |= sticky_surfaces(load(release).catalog)
        except UserError:
            continue  # it is named when its decisions are replayed
    traffic = without_repeats(traffic, sticky, engine=engine)
    task = ReplayPass(load, traffic.since, traffic.repeats)
    return sweep(task, traffic.chunks, engine=engine, progress=progress)


@dataclass(frozen=True)
class ReplayPass:
    """A pass over the log. Picklable where `load` is, so that engines can share it out."""

    load: Load
    since: float = -inf
    repeats: Mapping[str, float] = field(default_factory=dict)

    def __call__(self) -> Opened[Replay]:
        replaying = _Replaying(self.load, self.repeats)
        return lambda lines: replaying.replay(records(lines, self.since))


class _Replaying:
    """The pass of one process: releases are loaded once."""

    def __init__(self, load: Load, repeats: Mapping[str, float]) -> None:
        self._load = lru_cache(maxsize=None)(partial(_loaded, load))
        self._repeats = repeats

    def replay(self, taken: Iterable[DecisionRecord | None]) -> Replay:
        found = _Found()
        log = check_log(self._drawn(taken, found))
        different = tuple(found.different[:MOST_NAMED])
        return Replay(found.decisions, found.identical, different, tuple(sorted(found.unloadable)), log)

    def _drawn(self, taken: Iterable[DecisionRecord | None], found: "_Found") -> Iterator[Decision]:
        """Replays one by one, and gives the decisions whose draws count."""
        for record in taken:
            found.decisions += 1
            if record is None:
                found.different.append("a line that is no decision")
                continue
            self._again(record, found)
            counts = self._repeats.get(record.decision.decision_id)
            if counts is None or counts == record.request.now:
                yield record.decision

    def _again(self, record: DecisionRecord, found: "_Found") -> None:
        release = self._load(record.decision.release)
        if release is None:
            found.unloadable.add(record.decision.release)
        elif canonical(decide(release, record.request, record.facts)) == canonical(record.decision):
            found.identical += 1
        else:
            found.different.append(record.decision.decision_id)


def _loaded(load: Load, release: str) -> Release | None:
    try:
        return load(release)
    except UserError:
        return None


class _Found:
    """Figures as they grow."""

    def __init__(self) -> None:
        self.decisions = self.identical = 0
        self.different: list[str] = []
        self.unloadable: set[str] = set()

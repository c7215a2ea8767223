"""What a worker counts while it answers: plain dicts and lists, and notes of plain decisions in the extension
`_metrics.c`, where it is built, which are sorted out later.

Nothing here knows Prometheus. `serving.figures.exposition` moves what was counted to its client library every 0.2 s.
Labels are words of our own or of the catalog, never a client's text: each makes a series that lasts as long as the
server.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from decisioning.domain import NOTHING, Decision, Facts, Policy, Rung, Shown
from decisioning.native import native

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""

REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: close together around the deadlines of surfaces."""
_HOUR, _DAY = 3600.0, 86_400.0
AGE_BOUNDS = (300.0, _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 1.5 * _DAY, 2 * _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY)
CHANCE_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75)

_CHOICES = ("champion", "challenger", "exploration", "holdout", "none")
_FATES = ("accepted", "duplicate", "rejected")
_RUNGS = (*map(str, Rung), "refused")
_LOGS = ("decisions", "events")
_OK = 200

Served = Callable[[str, Decision, Facts, float, float], None]


class Count(defaultdict[Hashable, int]):
    """Things that happened, by the values of its labels: a word where it has one label, a tuple where more, () if none.

    Count with `count[labels] += 1`. `known`: the labels that are told from the start, as far as that can be said.
    """

    def __init__(self, name: str, help: str, *labels: str, known: Sequence[Hashable] = ()) -> None:
        super().__init__(int)
        self.name, self.help, self.labels, self.known = name, help, labels, known


class Spread(defaultdict[Hashable, list[float]]):
    """How large things were, by labels. Add with `spread[labels].append(value)`."""

    def __init__(self, name: str, help: str, bounds: tuple[float, ...], *labels: str) -> None:
        super().__init__(list)
        self.name, self.help, self.bounds, self.labels = name, help, bounds, labels


class Level(dict[Hashable, float]):
    """How things stand now, by labels. `over` says what one figure for all workers is: `sum` or `max`."""

    def __init__(self, name: str, help: str, *labels: str, over: str = "sum") -> None:
        super().__init__()
        self.name, self.help, self.labels, self.over = name, help, labels, over


class Metrics:
    """One worker's. Whoever does a thing counts it; `look` is called before each flush and sets the levels."""

    def __init__(self) -> None:
        self.requests = Count("segue_requests", "Answers, by route and status.", "route", "code")
        self.seconds = Spread("segue_request_duration_seconds", "From head to answer.", REQUEST_BOUNDS, "route")
        self.limited = Count("segue_limited_requests", "Refused for a client's limit.", "client")
        self.decisions = Count("segue_decisions", "New decisions, by what chose them.", "surface", "source")
        self.degraded = Count("segue_degraded_decisions", "New decisions, by what they lacked.", "reason")
        self.repeated = Count("segue_repeated_decisions", "Answers that are no new decision.", "why")
        self.draws = Count("segue_draws", "New decisions, by whose choice was drawn.", "choice", known=_CHOICES)
        self.rungs = Count("segue_decision_rungs", "Decisions, by the rung that load left them.", "rung", known=_RUNGS)
        self.p_convert = Spread("segue_shown_p_convert", "Predicted for the first offer.", CHANCE_BOUNDS, "model")
        self.feature_age = Spread("segue_feature_age_seconds", "Of the user's features.", AGE_BOUNDS)
        self.store_reads = Count("segue_store_reads", "Reads of the online store.", "outcome")
        self.breaker = Level("segue_store_breakers", "Workers, by their breaker's state.", "state")
        self.breaker_changes = Count("segue_store_breaker_changes", "States that breakers entered.", "state")
        self.backlog = Level("segue_store_backlog_events", "Events that wait for the store.")
        self.store_missed = Count("segue_store_missed_events", "Events that no counter knows: too many waited.")
        self.events = Count("segue_events", "Events, by what became of them.", "outcome", known=_FATES)
        self.degraded_events = Count("segue_degraded_event_requests", "Reports that lacked something.", "reason")
        self.log_queue = Level("segue_log_queue_lines", "Lines that wait to be written.", "log")
        self.log_dropped = Count("segue_log_dropped_lines", "Lines that could not be written.", "log", known=_LOGS)
        self.keys_unreadable = Level("segue_keys_unreadable", "1: the file of keys can't be read.", over="max")
        self.look: Callable[[], None] = lambda: None
        self._made: dict[tuple[str, str, tuple[str, ...], str, str], int] = defaultdict(int)
        self._notes = _notes(self._served)
        self.served: Served = self._served if self._notes is None else self._notes.served
        """One new decision as the answer of a route, status 200: what `made` and `answered` do. Called with the
        route, the decision, the facts it was made of, and for which moment, and the seconds that the answer took."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One answer, whatever its status."""
        self.requests[route, status] += 1
        self.seconds[route].append(seconds)

    def decided(self, decision: Decision, age: float | None, rung: str = Rung.MODEL) -> None:
        """One new decision, how old the user's features were, in seconds (None where there were none), and how much
        work load left for it.

        What the champion or the challenger would have chosen counts as theirs, also where the draw fell on exploration.
        What few decisions differ in is counted as one tuple, which `sort_out` takes apart later.
        """
        slate, policy = decision.slate, decision.policy
        shown = slate[0].offer if slate else NOTHING
        if policy is None:
            choice = "none"
        elif decision.holdout is not None:
            choice = "holdout"
        elif shown == policy.champion:
            choice = "champion"
        else:
            choice = "challenger" if shown == policy.challenger else "exploration"
        self._made[decision.surface, decision.source, decision.degraded, choice, rung] += 1
        if age is not None:
            self.feature_age[()].append(age)
        if slate and decision.model is not None and (p_convert := slate[0].p_convert) is not None:
            self.p_convert[decision.model].append(p_convert)

    def made(self, decision: Decision, facts: Facts, now: float) -> None:
        """One new decision, by what it was made of and for which moment."""
        as_of, shed = facts.as_of, facts.shed
        self.decided(decision, None if as_of is None else now - as_of, Rung.MODEL if shed is None else shed.rung)

    def _served(self, route: str, decision: Decision, facts: Facts, now: float, seconds: float) -> None:
        self.made(decision, facts, now)
        self.answered(route, _OK, seconds)

    def _take_notes(self) -> None:
        for (route, surface, source, choice, rung, model), seconds, ages, p_converts in self._notes.drain():
            self.requests[route, _OK] += len(seconds)
            self.seconds[route] += seconds
            self._made[surface, source, (), choice, rung] += len(seconds)
            if ages:
                self.feature_age[()] += ages
            if p_converts:
                self.p_convert[model] += p_converts

    def sort_out(self) -> None:
        """Brings all counts and levels up to date, before they are read."""
        if self._notes is not None:
            self._take_notes()
        made, self._made = self._made, defaultdict(int)
        for (surface, source, degraded, choice, rung), times in made.items():
            self.decisions[surface, str(source)] += times
            self.draws[choice] += times
            self.rungs[str(rung)] += times
            for reason in degraded:
                self.degraded[_without_number(reason)] += times
        self.look()


def _notes(twin: Served) -> Any:
    """What notes plain decisions, and lets `twin` see to the others; None where the extension isn't there."""
    extension = native("serving.figures._metrics", VERSION)
    if extension is None:
        return None
    return extension.Notes(twin, (Decision, Shown, Policy, Facts), _CHOICES, NOTHING, Rung.MODEL)


def _without_number(reason: str) -> str:
    """`context:unknown_names:3` is told for each request; the series is `context:unknown_names`."""
    head, _, last = reason.rpartition(":")
    return head if last.isdecimal() else reason

"""Runs the catalog's own tests through `decide`: what its authors say must happen, and must never happen."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from decisioning.catalog import DAY, Ablations, Catalog, CatalogTest
from decisioning.domain import Facts, HistoryEvent, Place, Reason, Request
from decisioning.engine import Release, decide
from decisioning.explain import explain
from decisioning.yaml_nodes import visible

_NOON = DAY / 2
_ANY_DAY = 20_605 * DAY
"""2026-06-01, for tests of offers that are always live."""


@dataclass(frozen=True, slots=True)
class TestFailure:
    """What a test expected and did not get, as a sentence, and where the test stands."""

    test: str
    message: str
    place: Place

    __test__ = False  # not a pytest class

    def to_json(self) -> dict[str, str | int]:
        at = self.place
        told: dict[str, str | int] = {"file": at.file, "line": at.line, "column": at.column, "path": "tests"}
        return {**told, "test": self.test, "message": self.message}

    def __str__(self) -> str:
        return visible(f'{self.place}: the test "{self.test}" fails: {self.message}.')


def run_tests(catalog: Catalog) -> tuple[TestFailure, ...]:
    """The failures of a catalog's tests, in their order; empty when all pass.

    Models, exploration, experiments and holdouts play no part: a test speaks of what the rules leave, for any draw.
    """
    release = Release("test", replace(catalog, experiments=(), holdouts=(), ablations=Ablations()))
    return tuple(
        TestFailure(test.name, message, test.place) for test in catalog.tests for message in _failures(release, test)
    )


def _question(catalog: Catalog, test: CatalogTest) -> tuple[Request, Facts]:
    """The request and the facts that a test describes."""
    now = _moment(catalog, test)
    specs = catalog.features
    known = {name: value for name, value in test.features.items() if value is not None}
    request = Request(
        decision_id=test.name,
        user="test",
        surface=test.surface,
        now=now,
        context={name: value for name, value in known.items() if specs[name].from_context},
    )
    facts = Facts(
        features={name: value for name, value in known.items() if not specs[name].from_context},
        as_of=now,
        history=tuple(HistoryEvent(kind, offer, test.surface, now - ago) for kind, offer, ago in test.history),
        budgets={budget.name: 0 for budget in catalog.budgets},
    )
    return request, facts


def _moment(catalog: Catalog, test: CatalogTest) -> float:
    """When a test takes place: as given, or at noon in the middle of the time when the offers it names are live."""
    if test.now is not None:
        return test.now
    offers = [catalog.offers[name] for name in (*test.never, *test.eligible, *test.because)]
    start = max((o.live_from for o in offers if o.live_from is not None), default=None)
    end = min((o.live_until for o in offers if o.live_until is not None), default=None)
    if start is None and end is None:
        return _ANY_DAY + _NOON
    start = start if start is not None else (end or 0.0) - DAY
    end = end if end is not None else start + DAY
    middle = (start + end) / 2
    noon = middle // DAY * DAY + _NOON
    return noon if start <= noon < end else middle


def _failures(release: Release, test: CatalogTest) -> Iterator[str]:
    request, facts = _question(release.catalog, test)
    decision = decide(release, request, facts)
    left = {*decision.eligible, *(one.offer for one in decision.slate)}
    dropped = {reason.offer: reason for reason in explain(release, request, facts, decision, changes=False).reasons}
    for offer in test.never:
        if offer in left:
            yield f"{offer} may be shown on {test.surface}"
    for offer in test.eligible:
        if offer not in left:
            yield f"{offer} can't be shown on {test.surface}: {_told(dropped.get(offer))}"
    for offer, cause in test.because.items():
        reason = dropped.get(offer)
        if offer in left:
            yield f"{offer} may be shown on {test.surface}, although {cause} was to forbid it"
        elif reason is None or cause not in (reason.rule, reason.stage):
            yield f"{offer} was to be dropped by {cause}, but {_told(reason)}"


def _told(reason: Reason | None) -> str:
    if reason is None:
        return "it isn't on that surface"
    where = f" ({reason.where})" if reason.where else ""
    return f"{reason.stage} {reason.rule} says no{where}: {reason.detail}"

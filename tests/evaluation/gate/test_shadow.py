"""How quick a challenger was: by the surface that has least of its deadline left, of those with enough decisions."""

from dataclasses import replace

import pytest

from decisioning.catalog import Catalog, Offer, Score, Surface
from decisioning.domain import Facts, Request
from decisioning.engine import Release, decide
from evaluation.gate.shadow import shadow
from stores.log.decision_log import CHALLENGER, DecisionRecord

NOW = 1_780_000_000.0
RELEASE = Release(
    "r1",
    Catalog(
        "h",
        surfaces={"push": Surface("push", deadline=0.1), "banner": Surface("banner", deadline=0.03)},
        offers={"a": Offer("a", "pm", "plans", ("push", "banner"), Score(None, 1.0))},
    ),
    salt="s",
)


def records(surface, seconds, count):
    """Decisions of which every fiftieth takes `seconds`, the others a millisecond; a quarter is the challenger's."""
    found = []
    for n in range(count):
        request = Request(f"{surface}-{n}", f"u{n}", surface, NOW + n)
        taken = seconds if n % 50 == 0 else 0.001
        durations = {"parse": 0.0, "decide": taken, CHALLENGER: taken / 4}
        found.append(DecisionRecord(request, Facts(), decide(RELEASE, request, Facts()), durations))
    return found


def seen(some):
    return shadow(some, lambda _: RELEASE, (), b"s" * 32, ())


def test_the_tightest_surface_is_told_and_the_challengers_part_counts_once():
    found = seen([*records("push", 0.05, 1_000), *records("banner", 0.02, 1_200)])
    assert (found.timed, found.deadline) == (1_200, 0.03)
    assert found.p99 == pytest.approx(0.02)
    assert found.scoring_p99 == pytest.approx(0.005)


def test_a_few_slow_decisions_of_a_quiet_surface_say_nothing_of_the_others():
    found = seen([*records("push", 0.05, 1_000), *records("banner", 0.5, 60)])
    assert (found.timed, found.deadline, found.p99) == (1_000, 0.1, pytest.approx(0.05))


def test_decisions_that_nobody_timed_count_all_the_same():
    found = seen([replace(one, durations={}) for one in records("push", 0.05, 5)])
    assert (found.decisions, found.timed, found.identical, found.uncompared) == (5, 0, 5, 5)

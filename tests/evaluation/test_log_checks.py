"""An honest log passes, and a filter after the draw does not."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Decision, Facts, Request
from decisioning.engine import Release, decide
from evaluation.log_checks import Arm, LogCheck

CATALOG = Path(__file__).parents[1] / "golden" / "catalog" / "all.yaml"
NOW = 1_795_348_800.0
DECISIONS = 200_000


@pytest.fixture(scope="module")
def decisions() -> list[Decision]:
    """What the engine decided on a surface with NOTHING, for users of two tiers, with a few held out."""
    release = Release("r", load_catalog({"all.yaml": CATALOG.read_bytes()}), salt="s")
    facts = [Facts({"tier": tier, "sessions_7d": 5}, NOW) for tier in ("free", "free", "basic", "premium")]
    context = {"device": "phone"}
    return [
        decide(release, Request(f"d{n}", f"user-{n % 997}", "shelf", NOW, context, 1), facts[n % 4])
        for n in range(DECISIONS)
    ]


def filtered(decisions, offer, every):
    """A careless client: now and then it swaps one offer for what ranks first, after the draw."""
    seen = 0
    for decision in decisions:
        if decision.first == offer and decision.policy.champion != offer:
            seen += 1
            if seen % every == 0:
                slate = (replace(decision.slate[0], offer=decision.policy.champion),)
                decision = replace(decision, slate=slate)
        yield decision


def test_two_hundred_thousand_decisions_of_the_engine_are_as_logged(decisions):
    check = LogCheck.of(decisions)
    assert check.decisions == DECISIONS
    assert len(check.arms) == 5
    assert check.problems() == ()
    assert check.weights / check.decisions == pytest.approx(1.0, abs=0.02)


def test_a_filter_after_the_draw_that_touches_one_decision_in_a_hundred_is_caught_at_twenty_thousand(decisions):
    some = decisions[:20_000]
    touched = list(filtered(some, "vinyl", every=1))
    changed = sum(before.first != after.first for before, after in zip(some, touched, strict=True))
    every = max(1, round(changed / 200))  # so that it touches about one in a hundred
    touched = list(filtered(some, "vinyl", every))
    share = sum(before.first != after.first for before, after in zip(some, touched, strict=True)) / len(some)
    assert 0.005 < share < 0.015
    assert LogCheck.of(some).problems() == ()
    found = LogCheck.of(touched).problems()
    assert any(problem.startswith("vinyl was shown") for problem in found)


def test_an_offer_that_the_policy_gave_no_chance_is_caught_at_once(decisions):
    forged = replace(decisions[0], slate=(replace(decisions[0].slate[0], offer="mix"),))
    assert LogCheck.of([forged]).problems() == ("1 decisions show what their policy gave no chance",)


@given(st.lists(st.integers(0, 400), min_size=2, max_size=2))
def test_checks_of_parts_add_up_to_the_check_of_the_whole(decisions, cuts):
    low, high = sorted(cuts)
    parts = [decisions[:low], decisions[low:high], decisions[high:400]]
    merged = sum(map(LogCheck.of, parts), LogCheck())
    whole = LogCheck.of(decisions[:400])
    assert merged.decisions == whole.decisions
    assert merged.arms.keys() == whole.arms.keys()
    for name, arm in whole.arms.items():
        assert merged.arms[name].shown == arm.shown
        assert merged.arms[name].expected == pytest.approx(arm.expected)
    assert merged.weight_z == pytest.approx(whole.weight_z)


def test_an_arm_that_is_always_or_never_drawn_says_nothing():
    assert Arm(10, 10.0, 0.0).z == 0.0
    assert LogCheck().problems() == ()

"""Why, why not, and the least change: what an explanation says would help does help."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Lever, Scope
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request, Scores, Stage
from decisioning.engine import Release, decide, examine
from decisioning.explain import decoded, explain

CATALOG = Path(__file__).parents[1] / "golden" / "catalog" / "all.yaml"
NOW = 1_795_348_800.0  # 2026-11-22T12:00Z
HOUR, DAY = 3_600.0, 86_400.0
FREE = {"tier": "free", "sessions_7d": 5, "consent": True}


P_CONVERT = {"annual": 0.01, "day_pass": 0.03, "duo": 0.02, "vinyl": 0.02, "mix": 0.0}


class Fixed:
    label = "upsell/1"

    def __init__(self, p_convert=P_CONVERT):
        self.p_convert = p_convert

    def score(self, features, surface, offers):
        found = [self.p_convert[offer] for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers):
        return self.score({}, surface, offers)


@pytest.fixture(scope="module")
def release():
    catalog = load_catalog({"all.yaml": CATALOG.read_bytes()})
    catalog = replace(catalog, holdouts=(), experiments=(), exploration=replace(catalog.exploration, uniform=0.0))
    return Release("r", catalog, {"upsell": Fixed()}, salt="s")


def ask(release, surface="shelf", features=FREE, events=(), now=NOW, **more):
    history = tuple(HistoryEvent(type, offer, surface, NOW - age) for type, offer, age in events)
    facts = Facts(features, now, history)
    request = Request("d", "user", surface, now, **{"context": {"device": "phone"}, **more})
    return request, facts


def change_of(release, offer, *question):
    decision = decide(release, *question)
    return next(one.change for one in explain(release, *question, decision).fates if one.offer == offer)


def left(release, *question):
    return examine(release, *question).screen.left


events = st.lists(
    st.tuples(
        st.sampled_from(["impression", "dismiss", "convert"]),
        st.sampled_from(["annual", "duo", "day_pass", "vinyl"]),
        st.floats(0.0, 20 * DAY),
    ),
    max_size=8,
)


@given(events)
def test_after_the_wait_that_is_named_and_not_before_the_offer_is_let_through(release, some_events):
    offers = {name: replace(offer, live_from=None, live_until=None) for name, offer in release.catalog.offers.items()}
    release = replace(release, catalog=replace(release.catalog, offers=offers))
    question = ask(release, events=some_events)
    decision = decide(release, *question)
    plan = release.plans["shelf"]
    for reason in explain(release, *question, decision).reasons:
        if reason.change.wait is None:
            continue
        bit = plan.bits[reason.offer]
        for moment, expected in ((reason.change.wait - 1e-3, False), (reason.change.wait + 1e-3, True)):
            request = replace(question[0], now=NOW + moment)
            facts = replace(question[1], as_of=NOW + moment)
            assert bool(left(release, request, facts) & bit) is expected, (reason, moment)


@given(st.sampled_from(["annual", "duo", "day_pass", "vinyl"]), st.permutations([0.01, 0.02, 0.03, 0.004, 0.0]))
def test_the_lever_that_is_named_and_nothing_less_wins(release, offer, p_convert):
    scorer = Fixed(dict(zip(P_CONVERT, p_convert, strict=True)))
    catalog = replace(release.catalog, levers=(), lever_max=1e9, lever_min=0.0)
    scored = replace(release, catalog=catalog, scorers={"upsell": scorer})
    question = ask(release, slots=1)
    decision = decide(scored, *question)
    change = next((r.change for r in explain(scored, *question, decision).outranked if r.offer == offer), None)
    if change is None or change.lever is None:
        return
    for lever, wins in ((change.lever, True), (change.lever * (1 - 1e-6), False)):
        pull = Lever("x", Scope(only_offers=frozenset({offer})), lever, NOW + DAY, "pm", "test")
        pulled = replace(scored, catalog=replace(catalog, levers=(pull,)))
        assert (decide(pulled, *question).policy.champion == offer) is wins


def test_a_lever_beyond_the_bounds_is_said_to_be(release):
    change = change_of(release, "day_pass", *ask(release, slots=1))
    assert "more than the bound of 4" in change.words


def test_every_clause_that_fails_is_part_of_the_change(release):
    change = change_of(release, "annual", *ask(release, features={"tier": "basic", "sessions_7d": 1}))
    assert change.words.startswith(
        "if tier is free and sessions_7d is at least 3; and then its score 0.384 is up against"
    )


def test_several_rules_against_an_offer_all_have_to_give_way(release):
    question = ask(release, events=[("dismiss", "duo", DAY), ("impression", "duo", 2.0), ("impression", "duo", 1.0)])
    change = change_of(release, "duo", *question)
    assert "when after_dismiss ends" in change.words
    assert "when the cap frees" in change.words
    assert change.wait == pytest.approx(13 * DAY)


@pytest.mark.parametrize(("zone", "wait"), [("Pacific/Auckland", 6 * HOUR), ("Asia/Tokyo", None)])  # 01:00 and 21:00
def test_a_push_in_the_night_waits_for_the_morning(release, zone, wait):
    question = ask(release, "push", context={"timezone": zone, "device": "phone"})
    reasons = [r for r in explain(release, *question, decide(release, *question)).reasons if r.stage is Stage.QUIET]
    assert {reason.change.wait for reason in reasons} == ({wait} if wait else set())


def test_a_kill_switch_an_exclusion_and_a_live_window_say_what_to_do(release):
    request, facts = ask(release, exclude=frozenset({"duo"}))
    assert change_of(release, "vinyl", request, replace(facts, killed=frozenset({"vinyl"}))).words == "revive it"
    assert "exclude" in change_of(release, "duo", request, facts).words
    late = ask(release, now=NOW + 30 * DAY)
    assert change_of(release, "day_pass", *late).words == "a later end of its live window"


def test_the_failing_clauses_can_be_read_from_the_truth_word_alone(release):
    question = ask(release, features={"tier": "basic", "sessions_7d": 5})
    decision = decide(release, *question)
    found = decoded(release, decision)
    assert [clause.detail for clause in found["annual"]] == ["tier is free"]
    assert found["annual"][0].place.line > 1
    assert "duo" not in found

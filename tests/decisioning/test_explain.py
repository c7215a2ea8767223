"""Why, why not, and the least change: what an explanation says would help does help."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request, Scores, Source, Stage
from decisioning.engine import Release, decide, examine
from decisioning.explain import decoded, explain, headline
from decisioning.rules import Lever, Scope

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
        for moment, expected in ((reason.change.wait - 1e-3, False), (reason.change.wait, True)):
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


def test_invariants_and_guards_that_said_no_can_be_read_from_the_truth_word_too(release):
    question = ask(release, "push", features={"tier": "premium", "sessions_7d": 5})
    found = decoded(release, decide(release, *question))
    assert [clause.detail for clause in found["day_pass"]] == [
        "tier is one of free, basic",
        "no_upgrade_for_premium: never where tier is premium",
        "consent_for_push: only where consent is known",
        "consent_for_push: only where consent is true",
    ]
    assert all(clause.place.line > 1 for clause in found["day_pass"])


# --- Small catalogs, each for one thing -------------------------------------------------------------------------------


def small(offers, slots=1, **document):
    """A release by the rules alone: of each offer its score, or all of it as YAML would have it."""
    whole = {
        name: {"group": "g", "surfaces": ["home"], "owner": "pm", "score": {"value": value * 10, "prior": 0.1}} | more
        for name, (value, more) in offers.items()
    }
    surface = {"slots": slots, "fallback": None, **document.pop("surface", {})}
    content = {"surfaces": {"home": surface}, "offers": whole, "exploration": {"uniform": 0}, **document}
    return Release("r", load_catalog({"a.yaml": yaml.safe_dump(content).encode()}), salt="s")


def why(release, offer, features=None, events=(), budgets=None, now=NOW, **more):
    question = ask(release, "home", features or {}, events, now, context={}, **more)
    question = question[0], replace(question[1], budgets=budgets or {})
    return told(release, question, offer)


def told(release, question, offer):
    decision = decide(release, *question)
    return {one.offer: one for one in explain(release, *question, decision).fates}[offer]


PLAIN = {"a": (1.0, {}), "b": (0.9, {}), "c": (0.1, {"group": "h"})}


@pytest.mark.parametrize(
    ("rules", "rule", "detail"),
    [
        ({"surface": {"max_per_group": 1}}, "max_per_group", "a slate has room for 1 of the group g, and a takes it"),
        (
            {"exclusive": {"story": {"offers": ["a", "b"], "for": "1d"}}},
            "story",
            "a is in the slate, and the two exclude each other",
        ),
        (
            {"caps": {"few": {"max": 1, "per": "1d", "by": "group"}}},
            "few",
            "the cap has room for 1 more impression by group, and a takes it",
        ),
    ],
)
def test_what_a_slate_had_no_room_for_names_the_rule_and_the_rival(rules, rule, detail):
    found = why(small(PLAIN, slots=2, **rules), "b")
    assert (found.stage, found.rule, found.detail) == (Stage.SLATE, rule, detail)
    assert found.where.startswith("a.yaml:")
    assert found.change.words == "shown if its lever is at least 1.112"


def test_what_comes_after_the_last_slot_is_outranked_by_what_holds_it():
    found = why(small({**PLAIN, "d": (0.05, {"group": "g"})}, slots=2, surface={"max_per_group": 1}), "d")
    assert (found.stage, found.detail) == (Stage.OUTRANKED, "score 0.05 against 0.1 of c")


def test_a_higher_class_is_named_and_the_class_that_is_told_suffices():
    found = why(small({"a": (1.0, {"priority": 1}), "b": (0.1, {})}), "b")
    assert (found.rule, found.detail) == ("priority", "priority class 0 against 1 of a")
    assert found.change.words == "wins if its priority class is 2 or more"
    better = why(small({"a": (0.1, {"priority": 1}), "b": (1.0, {})}), "b")
    assert better.change.words == "wins if its priority class is 1 or more"


def test_scores_that_differ_are_told_with_the_digits_that_differ():
    assert why(small({"a": (1.00001, {}), "b": (1.0, {})}), "b").detail == "score 1 against 1.00001 of a"
    tied = small({"a": (1.0, {}), "b": (1.0, {})})
    shown = decide(tied, *ask(tied, "home", {}, context={})).first
    (other,) = {"a", "b"} - {shown}
    assert why(tied, other).detail == f"score 1 against 1 of {shown} (a tie, settled by hash)"
    assert why(tied, other).change.words == "wins if its lever is at least 1.001"


def test_a_cap_that_allows_none_is_never_waited_for():
    none = small({"a": (1.0, {})}, caps={"zero": {"max": 0, "per": "7d", "by": "offer"}})
    for events in ((), [("impression", "a", 10.0)]):
        assert why(none, "a", events=events).change.words == "never, while caps.zero allows none"


def test_a_rule_undone_is_not_enough_where_the_score_is_too_low():
    flag = {"features": {"t": {"type": "bool"}}, "surface": {"min_score": 5}}
    low = small({"a": (0.1, {"eligible": {"t": False}})}, **flag)
    assert why(low, "a", {"t": True}).change.words == (
        "if t is false; and then its score 0.1 needs at least 5: "
        "past the threshold if its lever were 50, more than the bound of 4"
    )


def test_a_wait_ends_where_every_rule_that_passes_by_itself_has():
    quiet = {"night": {"surfaces": ["home"], "from": "22:00", "to": "07:00", "timezone": "UTC"}}
    both = small({"a": (1.0, {})}, caps={"c": {"max": 1, "per": "11h", "by": "offer"}}, quiet_hours=quiet)
    change = why(both, "a", events=[("impression", "a", 60.0)]).change
    assert change.words == "again in 19 h, when the cap frees and when the quiet hours end"
    assert change.wait == 19 * HOUR


def test_a_paced_budget_allows_more_at_the_very_moment_that_is_told():
    budget = {"offers": ["a"], "impressions": 100, "from": "2026-11-01", "until": "2026-11-30", "pace": "even"}
    paced = small({"a": (1.0, {})}, budgets={"p": budget})
    wait = why(paced, "a", budgets={"p": 90}).change.wait
    for seconds, shown in ((wait, ["a"]), (wait - 1e-3, [])):
        request, facts = ask(paced, "home", {}, now=NOW + seconds, context={})
        slate = decide(paced, request, replace(facts, budgets={"p": 90})).slate
        assert [one.offer for one in slate] == shown


def test_a_value_that_must_be_known_must_also_be_one_that_the_guard_allows():
    rules = {"features": {"pf": {"type": "bool", "if_missing": "block"}}, "guards": {"g": {"block_if": {"pf": True}}}}
    assert why(small({"a": (1.0, {})}, **rules), "a").change.words == "if pf is false"


def test_what_the_draw_passed_over_is_told_so():
    drawn = small(PLAIN, exploration={"uniform": 1.0})
    told_of = set()
    for number in range(30):
        question = replace(ask(drawn, "home", {}, context={})[0], decision_id=f"d{number}"), Facts()
        decision = decide(drawn, *question)
        for one in explain(drawn, *question, decision).fates:
            above = one.offer < decision.first  # as their scores fall by name
            assert (one.rule == "draw") is above
            if above:
                assert one.detail.endswith(f"; the draw fell on {decision.first}")
            told_of.add((one.offer, one.change.words))
    assert ("a", "another draw shows it") in told_of
    assert ("b", "wins if its lever is at least 1.112") in told_of


def test_no_lever_is_promised_to_who_is_in_an_arm_without_levers():
    without = small(PLAIN, ablations={"percent": 25, "factors": ["levers"]})
    told_of = set()
    for number in range(40):
        question = replace(ask(without, "home", {}, context={})[0], user=f"u{number}"), Facts()
        words = told(without, question, "b").change.words
        assert words.startswith("not by a lever") is bool(decide(without, *question).arms)
        told_of.add(words)
    assert len(told_of) == 2


def test_a_sticky_answer_that_is_given_again_is_not_explained_as_if_it_were_drawn_now():
    sticky = small(PLAIN, surface={"sticky": "1d"})
    request, facts = ask(sticky, "home", {}, context={})
    drawn = decide(sticky, request, facts)
    again = replace(drawn, policy=None, eligible=(), p_convert=(), scores=(), truth="")
    explanation = explain(sticky, request, facts, again)
    assert {(one.offer, one.rule, one.detail) for one in explanation.fates} == {
        (name, "sticky", "the answer of this period is kept until 2026-11-23 00:00 UTC") for name in ("b", "c")
    }
    assert explanation.fates[0].change.words == (
        "again in 12 h, when a new answer is drawn; "
        "and then its score 0.9 is up against 1 of a: wins if its lever is at least 1.112"
    )
    assert headline(sticky.catalog, again, explanation) == (
        "a: the answer of this period, kept until 2026-11-23 00:00 UTC."
    )


def test_an_answer_that_was_none_because_deciding_failed_can_be_explained_all_the_same():
    plain = small(PLAIN)
    request, facts = ask(plain, "home", {}, context={})
    made = decide(plain, request, facts)
    failed = replace(made, slate=(), source=Source.NONE, policy=None, eligible=(), scores=(), p_convert=(), truth="")
    fates = explain(plain, request, facts, failed).fates
    assert [one.detail for one in fates] == [f"score {score}; nothing was drawn" for score in (1, 0.9, 0.1)]
    assert fates[0].change.words == "another draw shows it"
    assert decoded(plain, failed) == {}

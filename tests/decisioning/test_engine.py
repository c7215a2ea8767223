"""What must hold of every decision, whatever the catalog, the user and the history."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import (
    Arm,
    Catalog,
    Experiment,
    Exploration,
    FeatureSpec,
    FeatureType,
    Holdout,
    Offer,
    Score,
    Surface,
)
from decisioning.conditions import Op, Test
from decisioning.domain import MILLION, NOTHING, Facts, HistoryEvent, Request, Scores, Source, Stage
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from decisioning.explain import explain
from decisioning.rules import Budget, Cap, CapBy, Exclusive, Guard, Lever, Same, Scope, Suppression

NOW = 1_800_000_000.0
DAY = 86_400.0
NAMES = ("annual", "day_pass", "duo", "family", "vinyl")


class Means:
    """A scorer that gives each offer a fixed probability, and half of it as its mean."""

    label = "means/1"

    def __init__(self, p_convert):
        self.p_convert = p_convert

    def score(self, features, surface, offers):
        found = [self.p_convert[offer] for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers):
        found = [self.p_convert[offer] / 2 for offer in offers]
        return Scores(found, found)


def offer(name, **changes):
    plain = Offer(name, "growth", "upgrade" if name != "vinyl" else "merch", ("home",), Score("upsell", 10.0))
    return replace(plain, **changes)


def catalog(offers=None, **changes):
    offers = offers if offers is not None else [offer(name) for name in NAMES]
    plain = Catalog(
        hash="h",
        features={
            "sessions_7d": FeatureSpec("sessions_7d", FeatureType.INT, default=0),
            "consent": FeatureSpec("consent", FeatureType.BOOL, blocks_if_missing=True),
        },
        surfaces={"home": Surface("home", slots=2, fallback="mix")},
        offers={one.name: one for one in [*offers, offer("mix", group="fallback", surfaces=())]},
        exploration=Exploration(uniform=0.1),
    )
    return replace(plain, **changes)


def release(a_catalog=None, p_convert=None, **changes):
    p_convert = p_convert or {name: 0.01 * (index + 1) for index, name in enumerate(NAMES)}
    return Release("r1", a_catalog or catalog(), {"upsell": Means({**p_convert, "mix": 0.0})}, **changes)


def request(decision_id="d1", user="u1", **changes):
    return replace(Request(decision_id, user, "home", NOW), **changes)


def told(a_release, a_request, some_facts):
    """The decision, and its explanation."""
    decision = decide(a_release, a_request, some_facts)
    return decision, explain(a_release, a_request, some_facts, decision)


def ages(*pairs, event="impression"):
    return tuple(HistoryEvent(event, name, "home", NOW - age) for name, age in pairs)


histories = st.lists(
    st.builds(
        HistoryEvent,
        st.sampled_from(["impression", "click", "dismiss", "convert"]),
        st.sampled_from([*NAMES, "gone"]),
        st.sampled_from(["home", "push", ""]),
        st.floats(NOW - 40 * DAY, NOW + DAY),
    ),
    max_size=12,
).map(tuple)

facts = st.builds(
    Facts,
    features=st.fixed_dictionaries({}, optional={"sessions_7d": st.integers(0, 9), "consent": st.booleans()}),
    as_of=st.none() | st.floats(NOW - 90 * DAY, NOW),
    history=histories,
    budgets=st.fixed_dictionaries({}, optional={"push_it": st.integers(0, 20)}),
    killed=st.frozensets(st.sampled_from(NAMES), max_size=2),
    unread=st.frozensets(st.sampled_from(["features", "history", "budgets", "killed"])),
)

rules = st.fixed_dictionaries(
    {
        "caps": st.lists(
            st.builds(Cap, st.just("cap"), st.integers(1, 3), st.floats(1.0, 30 * DAY), st.sampled_from(CapBy)),
            max_size=2,
        ).map(tuple),
        "suppressions": st.lists(
            st.builds(
                Suppression,
                st.just("tired"),
                st.sampled_from(["dismiss", "impression"]),
                st.floats(1.0, 20 * DAY),
                st.integers(1, 3),
                st.none() | st.floats(1.0, 9 * DAY),
                st.sampled_from(Same),
            ),
            max_size=2,
        ).map(tuple),
        "guards": st.sampled_from(
            [(), (Guard("consent", Scope(except_groups=frozenset({"fallback"})), Test("consent", Op.IS, (True,))),)]
        ),
        "exclusives": st.sampled_from([(), (Exclusive("one", frozenset({"annual", "duo"}), 5 * DAY),)]),
        "budgets": st.sampled_from([(), (Budget("push_it", frozenset({"vinyl"}), 10),)]),
        "levers": st.sampled_from(
            [(), (Lever("up", Scope(only_offers=frozenset({"duo"})), 9.0, NOW + DAY, "pm", "x"),)]
        ),
        "holdouts": st.sampled_from([(), (Holdout("h", 50.0, "salt"),)]),
        "exploration": st.builds(Exploration, st.floats(0.0, 1.0)),
        "surfaces": st.builds(
            Surface,
            st.just("home"),
            slots=st.integers(1, 4),
            fallback=st.sampled_from([None, "mix"]),
            min_score=st.sampled_from([None, 0.25]),
            allow_nothing=st.booleans(),
            max_per_group=st.sampled_from([None, 1]),
        ).map(lambda surface: {"home": surface}),
    }
)
requests = st.builds(
    request,
    st.uuids().map(str),
    st.sampled_from([f"u{n}" for n in range(9)]),
    slots=st.none() | st.integers(1, 5),
    exclude=st.frozensets(st.sampled_from(NAMES), max_size=1),
)


@given(rules, requests, facts)
def test_probabilities_sum_to_a_million_and_cover_what_is_left(changes, a_request, some_facts):
    decision = decide(release(catalog(**changes)), a_request, some_facts)
    if decision.policy is None:
        assert decision.source in (Source.FALLBACK, Source.NONE)
        return
    assert sum(decision.policy.weights) == MILLION
    assert min(decision.policy.weights) >= 0
    assert set(decision.policy.offers) - {NOTHING} <= set(decision.eligible)
    if decision.slate:
        weights = dict(zip(decision.policy.offers, decision.policy.weights, strict=True))
        assert decision.slate[0].probability == weights[decision.first] / MILLION > 0


@given(rules, requests, facts)
def test_every_offer_is_either_left_or_has_one_reason_and_no_dropped_offer_can_be_shown(changes, a_request, some_facts):
    a_catalog = catalog(**changes)
    decision, explanation = told(release(a_catalog), a_request, some_facts)
    dropped = [reason.offer for reason in explanation.reasons]
    left = set(decision.eligible)
    assert len(dropped) == len(set(dropped))
    assert set(dropped) | left >= {one.name for one in a_catalog.offers_on("home")}
    assert left.isdisjoint(dropped)
    assert {one.offer for one in decision.slate}.isdisjoint(dropped)
    if decision.policy:
        assert set(decision.policy.offers).isdisjoint(dropped)


@given(rules, requests, facts)
def test_the_same_inputs_give_the_same_decision_whatever_the_order_of_offers_and_events(changes, a_request, some_facts):
    first = decide(release(catalog(**changes)), a_request, some_facts)
    turned = catalog([offer(name) for name in reversed(NAMES)], **changes)
    shuffled = replace(some_facts, history=tuple(reversed(some_facts.history)))
    again = decide(release(turned), a_request, shuffled)
    assert again == first
    assert decide(release(catalog(**changes)), a_request, some_facts) == first


@given(rules, requests, facts)
def test_a_slate_keeps_its_slots_its_group_limit_and_its_exclusions(changes, a_request, some_facts):
    a_catalog = catalog(**changes)
    surface = a_catalog.surfaces["home"]
    slate = [one.offer for one in decide(release(a_catalog), a_request, some_facts).slate]
    assert len(slate) == len(set(slate)) <= min(a_request.slots or surface.slots, surface.slots)
    groups = [a_catalog.offers[name].group for name in slate]
    if surface.max_per_group:
        assert max((groups.count(group) for group in groups), default=0) <= surface.max_per_group
    for rule in a_catalog.exclusives:
        assert len(rule.offers.intersection(slate)) <= 1


def test_exclusive_offers_never_share_a_slate_whichever_the_draw_puts_first():
    rule = Exclusive("one", frozenset({"annual", "duo"}), DAY)
    surfaces = {"home": Surface("home", slots=5, fallback="mix")}
    a_release = release(catalog(exclusives=(rule,), surfaces=surfaces, exploration=Exploration(1.0)))
    slates = [[one.offer for one in decide(a_release, request(f"d{n}"), Facts()).slate] for n in range(50)]
    assert {slate[0] for slate in slates} == set(NAMES)
    assert all(len(rule.offers.intersection(slate)) == 1 and len(slate) == 4 for slate in slates)


def test_an_offer_is_live_from_its_first_moment_to_just_before_its_end():
    offers = [offer("annual", live_from=NOW - DAY, live_until=NOW), offer("duo", live_from=NOW)]
    _, explanation = told(release(catalog(offers)), request(), Facts())
    assert [(reason.offer, reason.stage) for reason in explanation.reasons] == [("annual", Stage.LIVE)]


def test_slot_probabilities_are_what_many_draws_show():
    a_release = release(catalog(exploration=Exploration(0.5)))
    decisions = [decide(a_release, request(f"d{n}"), Facts()) for n in range(4000)]
    stated = {(one.offer, one.slot): one.probability for d in decisions for one in d.slate}
    for (name, slot), probability in stated.items():
        found = sum(any(o.offer == name and o.slot == slot for o in d.slate) for d in decisions) / len(decisions)
        assert found == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5 + 1e-9)


def test_the_best_score_wins_where_nothing_is_explored():
    decision = decide(release(catalog(exploration=Exploration(0.0))), request(), Facts())
    assert [one.offer for one in decision.slate] == ["vinyl", "family"]
    assert decision.source is Source.MODEL
    assert decision.model == "means/1"


def test_value_is_net_of_cost():
    dear = offer("vinyl", score=Score("upsell", 10.0, cost=9.0))
    a_catalog = catalog([offer("annual"), dear], exploration=Exploration(0.0))
    assert decide(release(a_catalog), request(), Facts()).first == "annual"


def test_a_lever_lifts_the_score_within_its_bounds_but_never_past_min_p_convert():
    lever = Lever("up", Scope(only_offers=frozenset({"annual"})), 100.0, NOW + DAY, "pm", "launch")
    _, lifted = told(release(catalog(levers=(lever,), exploration=Exploration(0.0))), request(), Facts())
    annual = next(one for one in lifted.candidates if one.offer == "annual")
    assert annual.lever == 4.0
    surfaces = {"home": Surface("home", min_p_convert=0.015)}
    _, barred = told(release(catalog(levers=(lever,), surfaces=surfaces)), request(), Facts())
    assert [(r.offer, r.stage, r.rule) for r in barred.reasons] == [("annual", Stage.THRESHOLD, "min_p_convert")]


def test_min_score_looks_at_the_score_after_the_levers():
    surfaces = {"home": Surface("home", min_score=0.15)}
    lever = Lever("up", Scope(only_offers=frozenset({"annual"})), 2.0, NOW + DAY, "pm", "launch")
    _, without = told(release(catalog(surfaces=surfaces)), request(), Facts())
    _, lifted = told(release(catalog(surfaces=surfaces, levers=(lever,))), request(), Facts())
    assert "annual" in {reason.offer for reason in without.reasons}
    assert "annual" not in {reason.offer for reason in lifted.reasons}


def test_a_score_of_just_the_least_is_enough():
    surfaces = {"home": Surface("home", min_score=0.5)}  # vinyl: 0.05 × 10
    assert decide(release(catalog(surfaces=surfaces)), request(), Facts()).eligible == ("vinyl",)


def test_an_offer_worth_nothing_does_not_beat_nothing_and_fills_no_slot():
    surfaces = {"home": Surface("home", slots=3, allow_nothing=True)}
    worthless = release(catalog(surfaces=surfaces, exploration=Exploration(0.0)), dict.fromkeys(NAMES, 0.0))
    assert decide(worthless, request(), Facts()).slate == ()
    one = release(catalog(surfaces=surfaces, exploration=Exploration(0.0)), {**dict.fromkeys(NAMES, 0.0), "duo": 0.1})
    assert [shown.offer for shown in decide(one, request(), Facts()).slate] == ["duo"]
    classes = [offer(name, priority=n) for n, name in enumerate(NAMES)]
    ranked = catalog(classes, surfaces=surfaces, exploration=Exploration(0.0))
    assert decide(release(ranked, dict.fromkeys(NAMES, 0.0)), request(), Facts()).slate == ()


def test_a_lever_that_has_ended_pulls_no_more():
    ended = Lever("up", Scope(), 2.0, NOW, "pm", "launch")
    assert {one.lever for one in told(release(catalog(levers=(ended,))), request(), Facts())[1].candidates} == {1.0}


def test_a_higher_priority_class_ranks_first_whatever_its_score():
    urgent = offer("annual", priority=1)
    a_catalog = catalog([urgent, offer("vinyl")], exploration=Exploration(0.0))
    assert decide(release(a_catalog), request(), Facts()).first == "annual"


def test_equal_scores_are_not_settled_by_name():
    even = release(catalog(exploration=Exploration(0.0)), dict.fromkeys(NAMES, 0.02))
    assert len({decide(even, request(user=f"u{n}"), Facts()).first for n in range(60)}) == len(NAMES)


def test_nothing_wins_where_it_is_allowed_and_every_offer_would_cost_more_than_it_brings():
    losing = [offer(name, score=Score("upsell", 1.0, cost=2.0)) for name in NAMES]
    surfaces = {"home": Surface("home", slots=2, allow_nothing=True)}
    decision = decide(release(catalog(losing, surfaces=surfaces, exploration=Exploration(0.0))), request(), Facts())
    assert decision.slate == ()
    assert decision.policy.champion == NOTHING


def test_without_a_model_the_rules_decide_by_the_catalogs_priors():
    offers = [offer("annual", score=Score("upsell", 10.0, prior=0.05)), offer("duo")]
    decision = decide(Release("r1", catalog(offers, exploration=Exploration(0.0))), request(), Facts())
    assert (decision.first, decision.source, decision.model) == ("annual", Source.RULES, None)
    assert "model:upsell:none" in decision.degraded


def test_unread_features_mean_no_personal_scores():
    decision, explanation = told(release(), request(), Facts(unread=frozenset({"features"})))
    assert decision.source is Source.RULES
    assert {one.p_convert for one in explanation.candidates} == {0.005, 0.01, 0.015, 0.02, 0.025}


def test_a_score_that_is_no_number_counts_as_no_score():
    broken = release(p_convert={name: float("nan") for name in NAMES})
    decision, explanation = told(broken, request(), Facts())
    assert decision.source is Source.RULES
    assert {one.p_convert for one in explanation.candidates} == {0.01}


def test_unread_history_makes_every_cap_count_as_reached_and_leaves_the_fallback():
    a_catalog = catalog(caps=(Cap("week", 3, 7 * DAY, CapBy.OFFER),))
    decision, explanation = told(release(a_catalog), request(), Facts(unread=frozenset({"history"})))
    assert (decision.first, decision.source) == ("mix", Source.FALLBACK)
    assert {reason.stage for reason in explanation.reasons} == {Stage.CAP}


def test_a_missing_consent_blocks_all_but_the_fallback():
    guard = Guard("consent", Scope(except_groups=frozenset({"fallback"})), blocks=Test("consent", Op.IS, (False,)))
    decision, explanation = told(release(catalog(guards=(guard,))), request(), Facts())
    assert (decision.first, decision.source) == ("mix", Source.FALLBACK)
    assert explanation.reasons[0].detail == "consent is missing, and this guard needs it"


def test_a_fallback_that_a_guard_forbids_is_not_shown():
    guard = Guard("consent", Scope(), allows=Test("consent", Op.IS, (True,)))
    decision, explanation = told(release(catalog(guards=(guard,))), request(), Facts())
    assert (decision.slate, decision.source) == ((), Source.NONE)
    assert "mix" in {reason.offer for reason in explanation.reasons}


def test_the_held_out_get_the_best_single_offer_and_their_ghost_is_kept():
    lever = Lever("up", Scope(only_offers=frozenset({"family"})), 4.0, NOW + DAY, "pm", "launch")
    held = release(catalog(holdouts=(Holdout("all", 100.0, "s"),), levers=(lever,), exploration=Exploration(0.0)))
    decision = decide(held, request(), Facts())
    assert (decision.holdout, decision.first, decision.ghost) == ("all", "vinyl", "family")
    assert decision.policy.weights == (MILLION,)
    assert decision.source is Source.RULES


def test_a_ghost_has_the_arms_that_the_held_out_user_would_have_had():
    arms = (Arm("dear", 100.0, {"offers.annual.score.value": 900.0}),)
    parts = {"experiments": (Experiment("price", "pricing", arms),), "exploration": Exploration(0.0)}
    held = release(catalog(holdouts=(Holdout("all", 100.0, "s"),), **parts))
    decision = decide(held, request(), Facts())
    assert (decision.arms, decision.first, decision.ghost) == ({}, "vinyl", "annual")


def test_a_ghost_is_the_fallback_where_others_would_see_it_and_what_passes_where_the_held_out_get_the_fallback():
    holdouts = (Holdout("all", 100.0, "s"),)
    dead = decide(release(catalog([], holdouts=holdouts)), request(), Facts())
    assert (dead.first, dead.source, dead.ghost) == ("mix", Source.FALLBACK, "mix")
    strict = {"home": Surface("home", min_score=0.4, fallback="mix")}  # vinyl has 0.5, and half of that as its mean
    held = decide(release(catalog(surfaces=strict, holdouts=holdouts)), request(), Facts())
    assert (held.first, held.source, held.ghost) == ("mix", Source.FALLBACK, "vinyl")


def test_an_arm_changes_the_value_of_its_offer_and_is_named():
    arms = (Arm("control", 50.0), Arm("rich", 50.0, {"offers.annual.score.value": 1000.0}))
    a_release = release(catalog(experiments=(Experiment("price", "pricing", arms),), exploration=Exploration(0.0)))
    seen = {}
    for n in range(50):
        decision = decide(a_release, request(user=f"u{n}"), Facts())
        seen[decision.arms["price"]] = decision.first
    assert seen == {"control": "vinyl", "rich": "annual"}


def test_a_challengers_choice_gets_its_canary_slice():
    challenger = Means({**dict.fromkeys(NAMES, 0.01), "duo": 0.5, "mix": 0.0})
    a_catalog = catalog(exploration=Exploration(uniform=0.05, challenger=0.1))
    decision = decide(release(a_catalog, challengers={"upsell": challenger}), request(), Facts())
    weights = dict(zip(decision.policy.offers, decision.policy.weights, strict=True))
    assert weights["duo"] == 10_000 + 100_000
    assert weights["vinyl"] == MILLION - 4 * 10_000 - 100_000
    assert decision.policy.challenger == "duo"


def test_an_unknown_surface_is_a_users_mistake_that_names_the_known_ones():
    with pytest.raises(UserError, match="home"):
        decide(release(), request(surface="hmoe"), Facts())


def test_every_offer_that_is_not_shown_has_its_fate_in_words():
    decision, explanation = told(release(), request(exclude=frozenset({"annual"})), Facts())
    fates = {reason.offer: reason for reason in explanation.fates}
    assert set(fates) == set(NAMES) - {one.offer for one in decision.slate}
    assert fates["annual"].stage is Stage.EXCLUDED


@pytest.mark.parametrize("against", ["killed", "excluded"])
def test_the_kill_switch_and_the_request_itself_keep_even_a_fallback_away(against):
    bare = catalog(offers=[])
    some_facts = Facts(killed=frozenset({"mix"}) if against == "killed" else frozenset())
    asked = request(exclude=frozenset({"mix"}) if against == "excluded" else frozenset())
    decision, explanation = told(release(bare), asked, some_facts)
    assert (decision.slate, decision.source) == ((), Source.NONE)
    (reason,) = explanation.reasons
    assert (reason.offer, reason.stage) == ("mix", against)
    assert decide(release(bare), request(), Facts()).first == "mix"

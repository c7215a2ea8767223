"""What multiplies an effect: value, context weights, levers; and the ablation arms that switch one of them off."""

from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Ablations, Catalog, Exploration, Factor, Holdout, Surface
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Candidate, Facts, HistoryEvent, Request, Scores, Source, Stage
from decisioning.engine import Release, decide
from decisioning.experiments import ABLATION, Assignment, ablated
from decisioning.explain import explain, headline

NOW = 1_796_083_200.0  # 2026-12-01
TEXT = """\
features:
  tier: {type: enum, values: [free, premium]}
  hour: {type: int, from: context}
surfaces:
  home: {fallback: null}
  push: {fallback: null, min_score: 0.3}
offers:
  annual: {owner: a, group: plan, surfaces: [home, push], score: {model: m, value: 40, cost: 2}}
  vinyl:  {owner: a, group: merch, surfaces: [home, push], score: {model: m, value: 9}}
levers:
  winter: {only: {offer: vinyl}, times: 1.5, until: 2026-12-31, owner: a, why: b}
  calm:   {only: {group: merch}, times: 0.5, until: 2026-12-31, owner: a, why: b}
context_weights:
  night:  {when: {any: [{hour: {min: 22}}, {hour: {max: 6}}]}, only: {offer: vinyl}, times: 0.1, owner: a, why: b}
  paying: {when: {tier: premium}, except: {surface: push}, times: 3, owner: a, why: b}
  alone:  {when: {tier: free}, only: {offer: annual}, times: 50, owner: a, why: b}
exploration: {uniform: 0}
"""
PERSONAL = {"annual": 0.01, "vinyl": 0.05}
MEANS = {"annual": 0.02, "vinyl": 0.03}


class Two:
    """A personal score and a mean for each offer."""

    label = "m/1"

    def score(self, features, surface, offers):
        found = [PERSONAL[offer] for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers):
        found = [MEANS[offer] for offer in offers]
        return Scores(found, found)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog({"all.yaml": TEXT.encode()})


def candidates(catalog: Catalog, surface="home", user="u", tier="free", **context) -> dict[str, Candidate]:
    release = Release("r", catalog, {"m": Two()})
    request = Request("d", user, surface, NOW, context=context)
    facts = Facts({"tier": tier}, as_of=NOW)
    return {one.offer: one for one in explain(release, request, facts, decide(release, request, facts)).candidates}


def test_a_lever_without_an_end_pulls_even_where_it_is_the_only_one(catalog):
    """As what-ifs have it; the catalog's own always end."""
    endless = replace(catalog.levers[0], until=inf)
    assert candidates(replace(catalog, levers=(endless,)))["vinyl"].lever == endless.times


# --- Context weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surface", "tier", "context", "weights"),
    [
        ("home", "free", {}, {"annual": 50.0, "vinyl": 1.0}),
        ("home", "free", {"hour": 12}, {"annual": 50.0, "vinyl": 1.0}),
        ("home", "free", {"hour": 23}, {"annual": 50.0, "vinyl": 0.1}),
        ("home", "premium", {"hour": 5}, {"annual": 3.0, "vinyl": 3 * 0.1}),
        ("push", "premium", {}, {"annual": 1.0, "vinyl": 1.0}),
    ],
)
def test_the_context_weights_that_hold_are_multiplied(catalog, surface, tier, context, weights):
    without_threshold = replace(catalog, surfaces={**catalog.surfaces, "push": Surface("push")})
    found = candidates(without_threshold, surface, tier=tier, **context)
    assert {name: one.context for name, one in found.items()} == {k: pytest.approx(v) for k, v in weights.items()}


def test_a_score_is_effect_times_net_value_times_context_times_levers(catalog):
    vinyl = candidates(catalog, hour=23)["vinyl"]
    assert vinyl.score == pytest.approx(0.05 * 9.0 * 0.1 * 1.5 * 0.5)
    assert (vinyl.effect, vinyl.value, vinyl.context, vinyl.lever) == (0.05, 9.0, 0.1, 0.75)


def test_lever_bounds_do_not_bind_a_context_weight(catalog):
    annual = candidates(catalog)["annual"]
    assert annual.context == 50.0 > catalog.lever_max
    assert annual.lever == 1.0


def test_the_threshold_of_a_surface_looks_at_the_score_after_the_context(catalog):
    release, facts = Release("r", catalog, {"m": Two()}), Facts({"tier": "premium"}, as_of=NOW)
    by_day, by_night = (Request("d", "u", "push", NOW, context={"hour": hour}) for hour in (12, 23))
    assert decide(release, by_day, facts).eligible == ("annual", "vinyl")
    decision = decide(release, by_night, facts)
    (reason,) = explain(release, by_night, facts, decision).reasons
    assert (reason.offer, reason.stage) == ("vinyl", Stage.THRESHOLD)


def test_the_held_out_get_no_context_weight_and_an_arm_may_set_one(catalog):
    held = replace(catalog, holdouts=(Holdout("all", 100.0, "s"),))
    assert {one.context for one in candidates(held).values()} == {1.0}
    text = "experiments: {e: {layer: l, arms: {a: {percent: 100, set: {context_weights.alone.times: 2}}}}}"
    tried = load_catalog({"all.yaml": TEXT.encode(), "e.yaml": text.encode()})
    assert candidates(tried)["annual"].context == 2.0


def test_a_context_weight_is_told_in_the_headline(catalog):
    release, request = Release("r", catalog, {"m": Two()}), Request("d", "u", "home", NOW)
    facts = Facts({"tier": "free"}, as_of=NOW)
    decision = decide(release, request, facts)
    assert "× 38.00 EUR × context 50 = score 19" in headline(
        catalog, decision, explain(release, request, facts, decision)
    )


@given(st.sampled_from(["free", "premium", None]), st.none() | st.integers(0, 23), st.sampled_from(["home", "push"]))
def test_context_weights_are_the_product_of_what_holds_and_covers(tier, hour, surface):
    catalog = load_catalog({"all.yaml": TEXT.replace(", min_score: 0.3", "").encode()})
    found = candidates(catalog, surface, tier=tier, **({} if hour is None else {"hour": hour}))
    for name, one in found.items():
        expected = 1.0
        if name == "vinyl" and hour is not None and (hour >= 22 or hour <= 6):
            expected *= 0.1
        if surface != "push" and tier == "premium":
            expected *= 3
        if name == "annual" and tier == "free":
            expected *= 50
        assert one.context == pytest.approx(expected)
        assert one.score == pytest.approx(one.effect * one.value * expected * one.lever)


# --- Ablation arms ----------------------------------------------------------------------------------------------------

USERS = [f"user-{n}" for n in range(4000)]
ALL = tuple(Factor)


def arm_of(user: str, percent: float = 25.0, factors=ALL) -> str | None:
    return Assignment(Catalog("h", ablations=Ablations(percent, factors))).arms(user, 0).get(ABLATION)


def test_each_factor_has_its_own_percent_of_users():
    seen = Counter(arm_of(user, 10.0) for user in USERS)
    assert set(seen) == {None, "no_model", "no_value", "no_levers", "no_context"}
    for factor in ALL:
        assert seen[f"no_{factor}"] / len(USERS) == pytest.approx(0.1, abs=0.02)
    assert Counter(arm_of(user) for user in USERS)[None] == 0


@given(st.sampled_from(USERS), st.floats(0.1, 25.0), st.floats(0.1, 25.0), st.sets(st.sampled_from(ALL), min_size=1))
def test_more_percent_or_another_factor_moves_nobody_who_is_in_an_arm(user, one, other, chosen):
    factors = tuple(factor for factor in ALL if factor in chosen)
    before = arm_of(user, min(one, other), factors)
    if before is not None:
        assert arm_of(user, max(one, other), factors) == before
        assert arm_of(user, max(one, other)) == before
    for factor in set(ALL) - chosen:
        assert arm_of(user, max(one, other), factors) != f"no_{factor}"


def test_ablations_are_independent_of_holdouts_and_the_held_out_are_in_none(catalog):
    everybody = replace(catalog, ablations=Ablations(25.0, ALL), holdouts=(Holdout("some", 20.0, "s"),))
    release = Release("r", everybody, {"m": Two()})
    decisions = [decide(release, Request("d", user, "home", NOW), Facts()) for user in USERS[:800]]
    assert all(bool(decision.holdout) is not (ABLATION in decision.arms) for decision in decisions)
    held = sum(decision.holdout is not None for decision in decisions)
    assert held / 800 == pytest.approx(0.2, abs=0.05)


def one_without(catalog: Catalog, factor: Factor, surface="home", **changes) -> dict[str, Candidate]:
    """The candidates of a user whose ablation switches a factor off."""
    ablating = replace(catalog, ablations=Ablations(25.0, ALL), **changes)
    user = next(user for user in USERS if arm_of(user) == f"no_{factor}")
    return candidates(ablating, surface, user, hour=23)


@pytest.mark.parametrize("off", ALL)
def test_an_ablation_switches_off_its_factor_and_no_other(catalog, off):
    usual, found = candidates(catalog, hour=23), one_without(catalog, off)
    for name, one in found.items():
        assert one.effect == (MEANS if off is Factor.MODEL else PERSONAL)[name]
        assert one.value == (1.0 if off is Factor.VALUE else usual[name].value)
        assert one.lever == (1.0 if off is Factor.LEVERS else usual[name].lever)
        assert one.context == (1.0 if off is Factor.CONTEXT else usual[name].context)
        assert one.score == pytest.approx(one.effect * one.value * one.context * one.lever)


def test_without_value_a_threshold_in_money_is_not_asked(catalog):
    assert set(one_without(catalog, Factor.VALUE, "push")) == {"annual", "vinyl"}
    assert set(one_without(catalog, Factor.MODEL, "push")) == {"annual"}


@given(
    st.sampled_from(USERS),
    st.sampled_from(["home", "push"]),
    st.sampled_from(["free", "premium", None]),
    st.none() | st.integers(0, 23),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.lists(st.builds(HistoryEvent, st.just("dismiss"), st.sampled_from(["annual", "vinyl"]), st.just("home"),
                       st.floats(NOW - 1e6, NOW)), max_size=2).map(tuple),
)  # fmt: skip
def test_whatever_is_ablated_the_rules_hold_and_the_decision_names_the_arm(user, surface, tier, hour, uniform, history):
    plain = load_catalog({"all.yaml": TEXT.encode(), "s.yaml": b"suppress: {s: {after: dismiss, for: 3d}}"})
    plain = replace(plain, exploration=Exploration(uniform))
    ablating = replace(plain, ablations=Ablations(20.0, ALL))
    request = Request("d", user, surface, NOW, context={} if hour is None else {"hour": hour})
    facts = Facts({} if tier is None else {"tier": tier}, as_of=NOW, history=history)
    usual, found = (decide(Release("r", one, {"m": Two()}), request, facts) for one in (plain, ablating))
    arm = arm_of(user, 20.0)
    assert found.arms.get(ABLATION) == arm
    assert ablated(found.arms) == (Factor(arm.removeprefix("no_")) if arm else None)
    if arm is None:
        assert found == usual
    silenced = {event.offer for event in history if event.at > NOW - 3 * 86_400}
    assert not silenced & set(found.eligible)
    if arm == "no_model" and found.policy:
        assert (found.source, found.model) == (Source.RULES, None)
    assert found.policy is None or sum(found.policy.weights) == 1_000_000


# --- Caps on decisions ------------------------------------------------------------------------------------------------


def test_a_plan_says_whether_a_cap_counts_its_decisions():
    text = TEXT + "caps: {asked: {max: 1, per: 1d, by: surface, counts: decision, only: {surface: push}}}\n"
    catalog = load_catalog({"all.yaml": text.encode()})
    plans = Release("r", catalog).plans
    assert catalog.counts_decisions
    assert {name: plan.counts_decisions for name, plan in plans.items()} == {"home": False, "push": True}
    assert not load_catalog({"all.yaml": TEXT.encode()}).counts_decisions


def test_a_cap_on_decisions_counts_them_and_nothing_else():
    text = TEXT + "caps: {asked: {max: 2, per: 1d, by: offer, counts: decision}}\n"
    release = Release("r", load_catalog({"all.yaml": text.encode()}), {"m": Two()})

    def left(*events: str) -> tuple[str, ...]:
        history = tuple(HistoryEvent(event, "vinyl", "home", NOW - 60) for event in events)
        return decide(release, Request("d", "u", "home", NOW), Facts(history=history)).eligible

    assert left("decision", "impression", "impression", "click") == ("annual", "vinyl")
    assert left("decision", "decision") == ("annual",)


@pytest.mark.parametrize("counts", ["impression", "click", "dismiss", "convert", "decision"])
def test_a_cap_may_count_any_kind_of_event(counts):
    text = TEXT + f"caps: {{c: {{max: 1, per: 1d, by: user, counts: {counts}}}}}\n"
    release = Release("r", load_catalog({"all.yaml": text.encode()}), {"m": Two()})
    history = (HistoryEvent(counts, "vinyl", "home", NOW - 60),)
    assert decide(release, Request("d", "u", "home", NOW), Facts(history=history)).eligible == ()

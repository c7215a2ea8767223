"""What must hold of every decision, over random catalogs from their YAML, random users and random pasts."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_screening import fates, known
from random_catalogs import DAY, NAMES, NOW, documents, files_of, loaded, release_of, visits

from decisioning.domain import MILLION, NOTHING, Facts, HistoryEvent, Request, Source, Stage
from decisioning.engine import decide
from decisioning.explain import explain


def made(document):
    """The release of a random catalog, by way of its YAML."""
    catalog = loaded(files_of(document))
    assume(catalog is not None)
    return release_of(catalog)


def decided(document, some_visits):
    """Every visit's release, request, facts, decision and explanation."""
    release = made(document)
    for request, facts in some_visits:
        decision = decide(release, request, facts)
        yield release, request, facts, decision, explain(release, request, facts, decision)


@given(documents(), visits)
def test_probabilities_sum_to_a_million_and_only_what_is_left_has_one(document, some_visits):
    for _, _, _, decision, _ in decided(document, some_visits):
        if decision.policy is not None:
            assert sum(decision.policy.weights) == MILLION
            assert min(decision.policy.weights) >= 0
            assert set(decision.policy.offers) - {NOTHING} <= set(decision.eligible)
            assert decision.policy.weight(decision.first) > 0
        assert all(0 < one.probability <= 1 for one in decision.slate)


@settings(max_examples=200)
@given(documents(), visits)
def test_every_drop_has_its_true_reason_and_nothing_dropped_is_shown(document, some_visits):
    for release, request, facts, decision, explanation in decided(document, some_visits):
        surface = release.catalog.surfaces[request.surface]
        shown = {one.offer for one in decision.slate}
        fallback = shown if decision.source is Source.FALLBACK else set()  # whatever kept it from competing
        naive = {n: fate for n, fate in fates(release.catalog, request, facts).items() if n not in fallback}
        below = {reason.offer for reason in explanation.reasons if reason.stage is Stage.THRESHOLD}
        told = {
            reason.offer: (str(reason.stage), None if reason.stage is Stage.EXCLUDED else reason.rule)
            for reason in explanation.reasons
            if reason.offer in naive and reason.offer not in below
        }
        assert told == {name: fate for name, fate in naive.items() if fate is not None}
        assert set(decision.eligible) | below == {name for name, fate in naive.items() if fate is None}
        assert set(decision.eligible).isdisjoint(below)
        least_p, least = surface.min_p_convert or 0.0, surface.min_score
        assert all(p >= least_p for p in decision.p_convert)
        assert least is None or all(score >= least for score in decision.scores)
        assert shown <= set(decision.eligible) | {surface.fallback}
        assert shown.isdisjoint(told.keys() | below)


@given(documents(), visits)
def test_a_slate_keeps_its_slots_its_group_limit_and_its_exclusions(document, some_visits):
    for release, request, _, decision, _ in decided(document, some_visits):
        surface, slate = release.catalog.surfaces[request.surface], [one.offer for one in decision.slate]
        assert [one.slot for one in decision.slate] == list(range(1, len(slate) + 1))
        assert len(slate) == len(set(slate)) <= min(request.slots or surface.slots, surface.slots)
        groups = Counter(release.catalog.offers[name].group for name in slate)
        assert surface.max_per_group is None or max(groups.values(), default=0) <= surface.max_per_group
        assert all(len(rule.offers & set(slate)) <= 1 for rule in release.catalog.exclusives)


@settings(max_examples=200)
@given(documents(holdouts={"all": {"percent": 100, "salt": "s"}}), visits)
def test_the_ghost_of_the_held_out_is_what_they_would_have_been_shown_first(document, some_visits):
    release = made(document)
    free = replace(release, catalog=replace(release.catalog, holdouts=()))
    for request, facts in some_visits:
        held = decide(release, request, facts)
        assert (held.holdout, held.arms) == ("all", {})
        assert held.ghost == decide(free, request, facts).first


@given(documents(), visits)
def test_what_is_known_is_what_the_declarations_say(document, some_visits):
    release = made(document)
    for request, facts in some_visits:
        assert release.knowledge.values(request, facts) == known(release.catalog, request, facts)


@given(documents(), visits, st.integers())
def test_the_order_of_files_offers_and_events_never_matters(document, some_visits, seed):
    shuffle = random.Random(seed)
    turned = loaded(files_of(document, shuffle))
    for _, request, facts, decision, explanation in decided(document, some_visits):
        history = tuple(shuffle.sample(facts.history, len(facts.history)))
        features = dict(shuffle.sample(sorted(facts.features.items()), len(facts.features)))
        again = replace(facts, history=history, features=features)
        theirs = decide(release_of(turned), request, again)
        assert theirs == decision
        why = explain(release_of(turned), request, again, theirs)
        assert [(r.offer, r.stage, r.rule, r.detail) for r in why.fates] == [
            (r.offer, r.stage, r.rule, r.detail) for r in explanation.fates
        ]


# --- Caps over time ---------------------------------------------------------------------------------------------------


def delivered(shown, chance):
    """The events so far as a store holds them: sent in any order, some twice, each counted once."""
    sent = [*shown.items(), *chance.choices(list(shown.items()), k=len(shown))] if shown else []
    chance.shuffle(sent)
    return tuple(dict(sent).values())


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([6, 24, 72]),
    st.sampled_from(["offer", "group", "surface", "user"]),
    st.integers(),
)
def test_a_cap_is_never_exceeded_whatever_the_order_and_duplication_of_events(most, slots, hours, by, seed):
    document = {
        "surfaces": {"home": {"slots": slots, "fallback": None}, "push": {"slots": 1, "fallback": None}},
        "groups": {"upgrade": {}, "merch": {}},
        "offers": {
            name: {"owner": "pm", "group": "merch" if name == "vinyl" else "upgrade", "surfaces": ["home", "push"]}
            for name in NAMES[:5]
        },
        "caps": {"it": {"max": most, "per": f"{hours}h", "by": by}},
        "exploration": {"uniform": 0.5},
    }
    catalog, chance = loaded(files_of(document)), random.Random(seed)
    release, shown, now = release_of(catalog), {}, NOW
    for number in range(60):
        now += chance.choice([60.0, 3600.0, 20_000.0])
        request = Request(f"d{number}", "u", chance.choice(["home", "push"]), now)
        decision = decide(release, request, Facts(history=delivered(shown, chance)))
        for one in decision.slate:
            shown[f"{number}/{one.slot}"] = HistoryEvent("impression", one.offer, request.surface, now)
    key = {
        "offer": lambda event: event.offer,
        "group": lambda event: catalog.offers[event.offer].group,
        "surface": lambda event: event.surface,
        "user": lambda event: "",
    }[by]
    for last in shown.values():
        window = Counter(key(e) for e in shown.values() if 0 <= last.at - e.at < hours * 3600)
        assert max(window.values()) <= most
    assert len(shown) >= most


# --- Assignment -------------------------------------------------------------------------------------------------------

USERS = [f"u{number}" for number in range(400)]


def arms_of(percent, user, **more):
    arms = {"a": {"percent": 50}, "b": {"percent": 50}}
    document = {
        "surfaces": {"home": {"slots": 1, "fallback": None}},
        "offers": {"one": {"owner": "pm", "group": "g", "surfaces": ["home"]}},
        "experiments": {"x": {"layer": "l", "starts_at": 0, "percent": percent, "arms": arms}},
        **more,
    }
    release = release_of(loaded(files_of(document)))
    return {name: decide(release, Request(f"d{name}", name, "home", NOW), Facts()) for name in user}


@settings(max_examples=20)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=4, unique=True).map(sorted))
def test_ramping_only_adds_users_and_moves_nobody(percents):
    before = {}
    for percent in percents:
        now = {user: d.arms["x"] for user, d in arms_of(percent, USERS).items() if d.arms}
        assert before.items() <= now.items()
        before = now
    assert len(before) / len(USERS) == pytest.approx(percents[-1] / 100, abs=0.1)


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**9), st.integers(0, 3000))
def test_holdouts_are_stable_over_time_requests_and_ramps(percent, more, seed, days):
    held = {}
    for share in (percent, percent + more):
        holdouts = {"holdouts": {"h": {"percent": share, "salt": "fixed"}}}
        held[share] = {user for user, d in arms_of(10, USERS, **holdouts).items() if d.holdout}
    assert held[percent] <= held[percent + more]
    document = {
        "surfaces": {"home": {"slots": 1, "fallback": None}},
        "offers": {"one": {"owner": "pm", "group": "g", "surfaces": ["home"]}},
        "holdouts": {"h": {"percent": percent, "salt": "fixed"}},
    }
    release = release_of(loaded(files_of(document)))
    later = {u for u in USERS if decide(release, Request(f"{seed}", u, "home", NOW + days * DAY), Facts()).holdout}
    assert later == held[percent]

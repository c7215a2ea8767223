"""What-if: the same decides the same, a change moves what it must, and values come out near a known truth."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kiosk import CATALOG, DAY, NOW, TRUTH, Kiosk, kiosk

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import MILLION, Facts, Policy, Request
from decisioning.engine import decide
from decisioning.errors import UserError
from evaluation.recorded import sweeping, traffic
from evaluation.recorded.rewards import Outcomes
from evaluation.whatif.asking import Recorded, ask
from evaluation.whatif.contenders import Contender, changed, drawn_from
from evaluation.whatif.counts import mean
from evaluation.whatif.passes import WhatIf
from evaluation.whatif.thresholds import read_threshold
from stores.log.chunks import chunks
from stores.log.decision_log import encode
from verbs.whatif_words import whatif_markdown

BOLDER = CATALOG.replace(
    "levers:\n", "levers:\n  more: {only: {offer: monthly}, times: 2, until: 2030-01-01, owner: a, why: b}\n"
)
WITHOUT_STUDENT = "\n".join(
    line for line in CATALOG.split("\n") if "student" not in line and "eligible: {market" not in line
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Kiosk:
    found = kiosk(tmp_path_factory.mktemp("kiosk"))
    found.log(found.records(6000))
    return found


@pytest.fixture(scope="module")
def bolder(shop):
    return ask(shop.home.logs, shop.proposal(BOLDER), last="all")


def lines_of(shop: Kiosk, n: int, **more) -> list[bytes]:
    return [encode(one) for one in shop.records(n, **more)]


def asked(shop: Kiosk, text: str | None = None, **more) -> WhatIf:
    return WhatIf(shop.proposal(text), Outcomes(), NOW, ("market", "tier"), **more)


# --- Nothing changes, or exactly what should --------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, CATALOG, CATALOG + "\n# a comment"])
def test_the_same_catalog_changes_nothing_and_says_identical_rather_than_zero_wide(shop, text):
    found = ask(shop.home.logs, shop.proposal(text), last="all")
    assert found["decisions"] == 6000
    assert found["identical"]
    assert (found["changed"], found["slate_changed"], found["left_with_nothing"]) == (0, 0, 0)
    value = found["value"]
    assert (value["difference"], value["low"], value["high"]) == (0.0, None, None)
    assert value["note"].startswith("identical")
    assert all(one["before"] == one["after"] and not one["gained"] and not one["lost"] for one in found["offers"])


def test_what_a_record_says_is_what_its_release_would_choose_without_exploring(shop):
    contender = Contender(shop.release, shop.release.catalog)
    records = shop.records(800, seed=3)
    told = [
        (contender.recorded(one.decision, drawn_from(one.decision)), contender.choose(one.request, one.facts))
        for one in records
    ]
    assert sum(said is None for said, _ in told) > 50  # those that explored
    assert all(said in (None, choice) for said, choice in told)


def test_a_catalog_without_an_offer_moves_exactly_the_decisions_that_showed_it(shop):
    found = ask(shop.home.logs, shop.proposal(WITHOUT_STUDENT), last="all")
    contender = Contender(shop.release, shop.release.catalog)
    records = shop.records(6000)
    before = [contender.choose(one.request, one.facts) for one in records]
    assert found["changed"] == sum(one.first == "student" for one in before) > 100
    assert found["slate_changed"] == sum("student" in one.slate for one in before)
    assert {flow["from"] for flow in found["flows"]} == {"student"}
    student = next(one for one in found["offers"] if one["offer"] == "student")
    assert (student["after"], student["change"], student["expected_after_share"]) == (0, -1.0, 0.0)


def test_users_left_with_nothing_are_counted(shop):
    tougher = CATALOG.replace(
        "block_if: {device: tv}, only: {offer: monthly}", "block_if: {device: tv}, except: {offer: generic}"
    )
    tougher = tougher.replace("fallback: generic, allow_nothing: true", "fallback: null, allow_nothing: true")
    found = ask(shop.home.logs, shop.proposal(tougher), last="all")
    contender = Contender(shop.release, shop.release.catalog)
    asked = [one for one in shop.records(6000) if one.request.surface != "shelf"]
    chosen = [(one.request.context["device"] == "tv", contender.choose(one.request, one.facts)) for one in asked]
    shown = [choice.slate for on_tv, choice in chosen if on_tv or choice.is_fallback]
    assert found["left_with_nothing"] == sum(map(bool, shown))
    assert found["users_left_with_nothing"] == found["left_with_nothing"]  # nobody asked twice
    assert found["nothing_share"]["after"] > found["nothing_share"]["before"]


def test_a_surface_that_is_gone_shows_nothing_and_is_told(shop):
    text = CATALOG.replace("  push: {slots: 1, fallback: null, allow_nothing: true, sticky: 1d, min_score: 0.3}\n", "")
    found = ask(shop.home.logs, shop.proposal(text.replace(", push]", "]")), last="all")
    assert any("push are gone" in one for one in found["caveats"])
    assert found["left_with_nothing"] > 500


def test_what_nobody_recorded_is_told_and_new_budgets_count_as_unspent(shop):
    text = CATALOG.replace("features:\n", "features:\n  mood: {type: bool}\n")
    text += "budgets:\n  spring: {offers: [monthly], impressions: 10, hard: true}\n"
    found = ask(shop.home.logs, shop.proposal(text), last="all")
    assert found["changed"] == 0
    assert any("mood" in one for one in found["caveats"])
    assert any("spring" in one for one in found["caveats"])


# --- Shares, chances and parts ----------------------------------------------------------------------------------------


def test_shares_add_up(bolder):
    for kind in ("before_share", "after_share", "expected_before_share", "expected_after_share"):
        assert sum(one[kind] for one in bolder["offers"]) == pytest.approx(1.0, abs=1e-9)
    assert sum(one["gained"] for one in bolder["offers"]) == bolder["changed"] > 0
    assert sum(one["lost"] for one in bolder["offers"]) == bolder["changed"]
    assert all(one["before"] + one["gained"] - one["lost"] == one["after"] for one in bolder["offers"])
    for feature in ("market", "tier"):
        rows = [one for one in bolder["segments"] if one["feature"] == feature]
        assert sum(one["decisions"] for one in rows) == bolder["decisions"]
        assert sum(one["changed"] for one in rows) == bolder["changed"]


def same(one, other) -> bool:
    counts = [(found.cells, found.offers, found.flows, found.left_out, found.young) for found in (one, other)]
    return (
        counts[0] == counts[1]
        and np.array_equal(one.users, other.users)
        and one.worth.keys() == other.worth.keys()
        and all(
            np.allclose(one.worth[key].difference.sums, other.worth[key].difference.sums, rtol=0, atol=1e-9)
            and one.worth[key].touched == other.worth[key].touched
            for key in one.worth
        )
    )


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 240), max_size=5), seed=st.integers(0, 10**6))
def test_parts_add_up_to_the_whole_in_any_order(shop, cuts, seed):
    taken = lines_of(shop, 240, users=60)
    opened = asked(shop, BOLDER)()
    edges = [0, *sorted(cuts), 240]
    parts = [opened(taken[a:b]) for a, b in pairwise(edges)]
    Random(seed).shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert same(total, opened(taken))


@given(
    size=st.integers(1, 6),
    share=st.integers(0, 100_000),
    canary=st.integers(0, 100_000),
    which=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    known=st.sets(st.integers(0, 7), min_size=1),
)
def test_the_mean_by_parts_is_the_mean_action_by_action(size, share, canary, which, known):
    offers = tuple(f"o{n}" for n in range(size))
    policy = Policy(offers, offers[which[0] % size], offers[which[1] % size], share, canary, 0)
    q = {f"o{n}": n / 7 for n in known}
    mass, total = mean(policy, q)
    assert mass == pytest.approx(sum(policy.weight(name) for name in q) / MILLION)
    assert total == pytest.approx(sum(policy.weight(name) * value for name, value in q.items()) / MILLION)


def test_two_processes_come_to_the_same_as_one(shop, monkeypatch):
    alone = ask(shop.home.logs, shop.proposal(BOLDER), last="all")
    monkeypatch.setattr(sweeping, "SMALL", 0)
    monkeypatch.setattr(traffic, "chunks", partial(chunks, size=2**20))
    bars = []
    together = ask(shop.home.logs, shop.proposal(BOLDER), last="all", progress=lambda *done: bars.append(done))
    assert len(bars) > 3
    assert bars[-1][0] == bars[-1][1]
    approximately = {**together["value"], "difference": pytest.approx(together["value"]["difference"])}
    assert alone["value"]["difference"] == approximately["difference"]
    assert {**alone, "value": 0, "segments": 0} == {**together, "value": 0, "segments": 0}


# --- What is left out -------------------------------------------------------------------------------------------------


def test_torn_lines_are_skipped_and_counted(shop):
    taken = lines_of(shop, 50)
    found = asked(shop)()([*taken, b'{"request": ', taken[0][:200], b"\xff\xfe"])
    assert found.all.decisions == 50
    assert found.left_out == {"lines that are no decision": 3}


def test_a_release_that_cannot_be_loaded_is_named(shop, tmp_path):
    other = kiosk(tmp_path, BOLDER)
    other.log([*other.records(30), *shop.records(70, seed=9)])
    found = ask(other.home.logs, other.proposal(CATALOG, base=None), last="all")
    assert found["unloadable_releases"] == {shop.release.id: 70}
    assert found["decisions"] == 30


def test_a_log_that_only_unknown_releases_made_is_refused_by_name(shop, tmp_path):
    other = kiosk(tmp_path, BOLDER)
    other.log(shop.records(20, seed=9))
    with pytest.raises(UserError, match=shop.release.id):
        ask(other.home.logs, other.proposal(CATALOG, base=None), last="all")


def test_of_a_sticky_answer_that_was_replaced_one_record_counts(shop, tmp_path):
    own = kiosk(tmp_path)
    [first] = own.records(1, surfaces=["push"])
    again = replace(first, request=replace(first.request, now=first.request.now + 60))
    others = own.records(40, seed=5, surfaces=["banner"])
    own.log([first, again, *others])
    found = ask(own.home.logs, own.proposal(BOLDER), last="all")
    assert found["decisions"] == 41
    assert found["left_out"] == {"records of a sticky answer besides the one that counts": 1}


def test_an_empty_log_says_what_to_do(tmp_path):
    own = kiosk(tmp_path)
    with pytest.raises(UserError, match="serve some first"):
        ask(own.home.logs, own.proposal(), last="all")


def test_decisions_of_other_releases_are_held_against_the_one_in_use(shop, tmp_path):
    """What differs is what the proposal changes, not what has been released since."""
    own = kiosk(tmp_path, BOLDER)
    own.log(shop.records(300, seed=2))
    assert ask(own.home.logs, own.proposal(BOLDER), last="all")["identical"]


# --- Values -----------------------------------------------------------------------------------------------------------


def true_difference(shop: Kiosk, text: str, records) -> float:
    """What the proposal is worth by the truth that outcomes were drawn from."""
    catalog = load_catalog({"all.yaml": text.encode()})
    other = Contender(changed(shop.release, catalog, {}), shop.release.catalog)
    base = Contender(shop.release, shop.release.catalog)
    net = {name: offer.score.net for name, offer in catalog.offers.items()} | {"nothing": 0.0}
    total = 0.0
    for one in records:
        for sign, contender in ((1, other), (-1, base)):
            policy = contender.choose(one.request, one.facts).policy
            total += sign * sum(policy.weight(name) / MILLION * TRUTH[name] * net[name] for name in policy.offers)
    return total / len(records)


def matured(records):
    """Those whose windows (3 days everywhere) have closed by the last of them."""
    last = max(one.request.now for one in records)
    return [one for one in records if one.request.now <= last - 3 * DAY]


def test_values_come_out_near_the_truth(tmp_path):
    """The catalog believes that annual earns more than monthly; by the truth it is the other way round for some."""
    own = kiosk(tmp_path)
    records = own.records(15_000, seed=11)
    own.log(records, seed=13)
    found = ask(own.home.logs, own.proposal(BOLDER), last="all")
    value = found["value"]
    truth = true_difference(own, BOLDER, matured(records))
    assert value["note"] is None
    assert abs(truth) > 0.05
    assert value["low"] < truth < value["high"]
    assert value["difference"] == pytest.approx(truth, abs=0.15)
    assert 1000 < value["ess"] < value["decisions"]
    assert value["decisions"] == pytest.approx(len(matured(records)), rel=0.06)
    assert value["high"] - value["low"] > 0.01


@pytest.mark.heavy
def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path):
    held = 0
    for seed in range(60):
        own = kiosk(tmp_path / str(seed))
        records = own.records(4000, seed=100 + seed)
        own.log(records, seed=seed)
        value = ask(own.home.logs, own.proposal(BOLDER), last="all")["value"]
        held += value["low"] < true_difference(own, BOLDER, matured(records)) < value["high"]
    assert held >= 53  # 95 % of 60 is 57; fewer than 53 has a chance of about 2 %


def test_thin_support_is_not_shown(shop):
    found = ask(shop.home.logs, shop.proposal(BOLDER), last="200")
    assert found["value"]["difference"] is None
    assert found["value"]["note"].startswith("not shown")
    assert all(one["worth"]["note"] for one in found["segments"])


def test_a_new_offer_is_nothing_that_the_log_can_judge(shop):
    text = CATALOG.replace(
        "  student:",
        "  lifetime: {owner: pm, group: plans, surfaces: [banner], score: {value: 90, prior: 0.5}}\n  student:",
    )
    found = ask(shop.home.logs, shop.proposal(text), last="all")
    lifetime = next(one for one in found["offers"] if one["offer"] == "lifetime")
    assert lifetime["change"] is None
    assert lifetime["after_share"] == pytest.approx(0.32, abs=0.03)  # the banner, but for the held out
    assert lifetime["unjudged_share"] == lifetime["expected_after_share"]
    assert found["unjudged_share"] >= lifetime["unjudged_share"] > 0.2
    assert found["value"]["note"] is None or "not shown" in found["value"]["note"]


def test_where_only_the_unjudgeable_changes_no_value_is_shown(shop, tmp_path):
    """A log in which everybody got the fallback says nothing of what they might get instead."""
    own = kiosk(
        tmp_path,
        CATALOG.replace("guards:\n", "guards:\n  shut: {block_if: {device: [tv, phone]}, except: {offer: generic}}\n"),
    )
    own.log(own.records(1500, seed=4, surfaces=["banner"]))
    found = ask(own.home.logs, own.proposal(CATALOG), last="all")
    assert found["fallback_share"] == {"before": 1.0, "after": pytest.approx(0.1, abs=0.03)}
    assert found["unjudged_share"] == pytest.approx(found["changed_share"], abs=0.05)
    assert found["value"]["difference"] is None
    assert found["value"]["note"] == "not shown: of what changes, the log can judge nothing"


def test_values_come_from_decisions_that_are_old_enough(shop):
    recent = Recorded.of(shop.home.logs, "2d", shop.release, shop.release)
    assert recent.traffic.since == pytest.approx(NOW - 2 * DAY, abs=3600)
    assert recent.judged_until == pytest.approx(recent.until - 3 * DAY)
    assert recent.judged_since == pytest.approx(recent.judged_until - 2 * DAY)
    found = ask(shop.home.logs, shop.proposal(BOLDER), last="2d")
    assert found["decisions"] == pytest.approx(600, abs=80)
    assert found["value"]["decisions"] == pytest.approx(600, abs=80)
    longer = Recorded.of(shop.home.logs, "10d", shop.release, shop.release)
    assert longer.judged_since == longer.traffic.since


def test_chances_of_a_record_sum_to_one_whatever_was_decided(shop):
    for one in shop.records(300, seed=8):
        policy = drawn_from(one.decision)
        assert sum(policy.weights) == MILLION
        assert policy.weight(one.decision.first) > 0


# --- Options ----------------------------------------------------------------------------------------------------------


def test_segments_are_told_by_any_feature_with_few_values(shop):
    found = ask(shop.home.logs, shop.proposal(BOLDER), last="500", by=["device"])
    assert {one["value"] for one in found["segments"]} == {"phone", "tv"}
    with pytest.raises(UserError, match='Did you mean "market"'):
        ask(shop.home.logs, shop.proposal(BOLDER), last="500", by=["markt"])


def test_a_decision_without_the_feature_is_in_a_segment_of_its_own(bolder):
    assert {one["value"] for one in bolder["segments"] if one["feature"] == "market"} == {"SE", "GB", "unknown"}


@pytest.mark.parametrize("last", ["0", "-3", "7x", "", "d", "1.5", "0d"])
def test_a_last_of_another_form_is_refused(shop, last):
    with pytest.raises(UserError, match="--last takes"):
        ask(shop.home.logs, shop.proposal(), last=last)


@pytest.mark.parametrize(
    ("text", "trips"),
    [
        ("changed>0.01", True),
        ("changed > 99%", False),
        ("slate>=0", True),
        ("nothing>0", False),
        ("unjudged>0.5", False),
        ("offer:monthly>0.1", True),
        ("offer:annual<-5%", True),
        ("share:annual<0.001", False),
        ("share:monthly>0.2", True),
        ("fallback>1%", False),
    ],
)
def test_thresholds_trip_where_the_report_says_so(bolder, text, trips):
    assert read_threshold(text, {"monthly", "annual"}).verdict(bolder).tripped is trips


@pytest.mark.parametrize(
    "text", ["changed", "changed=1", "changed>x", "worth>1", "offer>1", "changed:annual>1", "offer:anual>1", ""]
)
def test_a_bad_threshold_is_refused_with_what_would_be_right(text):
    with pytest.raises(UserError, match="--fail-if"):
        read_threshold(text, {"annual"})


@pytest.mark.parametrize(
    ("number", "limit"), [("1e-3", 0.001), ("-1E-3", -0.001), ("2.5e+1 %", 0.25), ("20 %", 0.2), ("20%", 0.2)]
)
def test_a_threshold_takes_numbers_as_people_write_them(number, limit):
    assert read_threshold(f"value < {number}", ()).limit == pytest.approx(limit)


def test_a_report_says_that_value_covers_the_first_slot_only(bolder):
    assert any("slot 1" in one for one in bolder["caveats"])
    assert "slot 1" in whatif_markdown(bolder, [])


def test_a_threshold_on_what_is_not_shown_does_not_trip_and_says_so(shop):
    found = ask(shop.home.logs, shop.proposal(BOLDER), last="100")
    for text in ("value<-1%", "low<-5%", "gain<0"):
        verdict = read_threshold(text, ()).verdict(found)
        assert not verdict.tripped
        assert "can't be judged" in str(verdict)


def test_a_decision_is_made_by_the_engine_itself(shop):
    """The champion's choice and its slate are those of `decide` with exploration turned off."""
    request, facts = Request("x.shelf", "u", "shelf", NOW), Facts({"tier": "free", "market": "SE"}, NOW)
    choice = Contender(shop.release, shop.release.catalog).choose(request, facts)
    still = replace(
        shop.release, catalog=load_catalog({"a.yaml": CATALOG.replace("uniform: 0.3", "uniform: 0").encode()})
    )
    assert choice.slate == tuple(one.offer for one in decide(still, request, facts).slate)
    assert len(choice.slate) == 2

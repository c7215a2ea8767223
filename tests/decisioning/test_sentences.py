"""An offer's rules as plain sentences."""

from dataclasses import replace

import pytest

from decisioning.catalog import Surface
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from decisioning.rules import Scope
from decisioning.sentences import sentences

TEXT = """\
features:
  tier: {type: enum, values: [free, premium]}
  consent: {type: bool}
  paid: {type: bool, if_missing: block}
  device: {type: enum, values: [tv, phone], from: context}
  timezone: {type: text, from: context}
surfaces:
  home: {fallback: mix}
  push: {fallback: null, min_score: 0.02, min_p_convert: 0.001}
offers:
  mix: {owner: discovery, group: fallback, surfaces: []}
  monthly: {owner: growth, group: plan, surfaces: [home], eligible: {tier: free}}
  annual:
    owner: growth
    group: plan
    surfaces: [home, push]
    live: {from: 2026-12-01T09:00Z, until: 2027-01-06}
    score: {model: upsell, value: 38, cost: 2, prior: 0.01}
    eligible: {tier: free}
    priority: 2
guards:
  asked: {require: {consent: true}, only: {surface: push}}
  bills: {block_if: {paid: false}, only: {group: plan}}
invariants: {no_plan: {when: {tier: premium}, never: {group: plan}}}
suppress:
  tired: {after: {impression: 3, within: 7d}, same: group, for: 10d, only: {group: plan}}
  no: {after: dismiss, for: 14d}
caps: {one: {max: 1, per: 1d, by: surface, only: {surface: push}}, clicks: {max: 5, per: 7d, by: user, counts: click}}
budgets: {winter: {offers: [annual, monthly], impressions: 2000000, until: 2026-12-31, pace: even, from: 2026-12-01}}
quiet_hours: {night: {surfaces: [push], from: 22:00, to: 07:00}}
exclusive: {story: {offers: [annual, monthly], for: 30d}}
levers: {campaign: {only: {offer: annual}, times: 1.3, until: 2026-12-27, owner: ann, why: winter}}
context_weights: {tv: {when: {device: tv}, only: {group: plan}, times: 0.5, owner: bo, why: far from a keyboard}}
experiments: {price: {layer: l, arms: {usual: {percent: 50}, low: {percent: 50, set: {offers.annual.score.value: 32}}}}}
"""


@pytest.fixture(scope="module")
def catalog():
    return load_catalog({"all.yaml": TEXT.encode()})


def test_everything_that_holds_of_an_offer_is_a_sentence_in_the_order_of_evaluation(catalog):
    assert sentences(catalog, "annual") == (
        "The offer annual is growth's, in the group plan.",
        "In the arm low of price, its score.value is 32.",
        "It may be shown on home and push.",
        "It is live from 2026-12-01 09:00 UTC.",
        "It is over from 2027-01-07.",
        "It is for users of whom tier is free.",
        "It is never for users of whom tier is premium (no_plan).",
        "On push, it is shown only where consent is true (asked).",
        "It is not shown where paid is false, or paid is missing (bills).",
        "It is quiet for 14d after a dismiss of it (no).",
        "It is quiet for 10d after 3 impressions of any offer of its group within 7d (tired).",
        "On push, it is not shown from 22:00 to 07:00 of the user's time (night).",
        "It is not shown for 30d after monthly, nor next to it (story).",
        "A user has at most 5 clicks in all in any 7d (clicks).",
        "On push, a user has at most 1 impression on that surface in any 1d (one).",
        "All users have 2,000,000 impressions of it together with monthly from 2026-12-01 until 2027-01-01, evenly; "
        "not at all while the counter can't be read (winter).",
        "Its score is the probability of a conversion, what the model upsell predicts (without it 0.01), "
        "times 38 less 2 EUR.",
        "Its score is times 0.5 where device is tv (tv, bo: far from a keyboard).",
        "Its score is times 1.3 until 2026-12-28 (campaign, ann: winter).",
        "On push, it is shown only where its probability is at least 0.001.",
        "On push, it is shown only where its score is at least 0.02.",
        "It ranks above all of priority 0: its class is 2.",
    )


def test_of_a_mere_fallback_there_is_little_to_say(catalog):
    assert sentences(catalog, "mix") == (
        "The offer mix is discovery's, in the group fallback.",
        "It is the fallback of home: shown where nothing else is left.",
        "It is for everybody.",
    )


def test_an_unknown_offer_is_a_users_mistake_that_names_the_nearest(catalog):
    with pytest.raises(UserError, match='Did you mean "annual"'):
        sentences(catalog, "anual")


def test_events_are_counted_in_plain_english():
    rules = """
suppress: {fed_up: {after: {dismiss: 5, within: 1d}, same: any, for: 12h}, seen: {after: impression, for: 1h}}
caps: {few: {max: 2, per: 1d, by: offer, counts: dismiss}}
"""
    small = "surfaces: {home: {fallback: null}}\noffers: {a: {owner: pm, group: g, surfaces: [home]}}\n"
    told = sentences(load_catalog({"a.yaml": (small + rules).encode()}), "a")
    assert "It is quiet for 12h after 5 dismisses of any offer within 1d (fed_up)." in told
    assert "It is quiet for 1h after an impression of it (seen)." in told
    assert "A user has at most 2 dismisses of it in any 1d (few)." in told


def test_guards_are_told_on_the_surface_that_an_offer_is_only_the_fallback_of(catalog):
    guards = (replace(catalog.guards[0], scope=Scope(only_surfaces=frozenset({"wall"}))),)
    surfaces = {**catalog.surfaces, "wall": Surface("wall", fallback="annual")}
    told = sentences(replace(catalog, guards=guards, surfaces=surfaces), "annual")
    assert "On wall, it is shown only where consent is true (asked)." in told

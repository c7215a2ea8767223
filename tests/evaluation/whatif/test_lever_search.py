"""The lever that the search names really gives the share: put into the catalog, and decided again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kiosk import CATALOG, Kiosk, kiosk

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from evaluation.whatif.asking import ask
from evaluation.whatif.contenders import Contender, changed
from evaluation.whatif.lever_search import LeverPass, Thresholds, search, surfaces_of
from stores.log.decision_log import encode

PRIORITIES = CATALOG.replace(
    "group: plans, surfaces: [banner, shelf], score", "group: plans, priority: 1, surfaces: [banner, shelf], score"
)
CATALOGS = {
    "as it is": CATALOG,
    "with a higher class": PRIORITIES,
    "with a threshold": CATALOG.replace("banner: {slots: 1,", "banner: {slots: 1, min_score: 0.55,"),
    "with a threshold of chance": CATALOG.replace("shelf: {slots: 2,", "shelf: {slots: 2, min_p_convert: 0.03,"),
    "without levers": CATALOG + "ablations: {percent: 20, factors: [levers]}\n",
    "with a lever at its bound": CATALOG.replace("times: 0.7", "times: 0.25"),
    "with an experiment": CATALOG
    + "experiments:\n  e:\n    layer: l\n"
    + "    arms: {a: {percent: 50}, b: {percent: 50, set: {levers.push_annual.times: 0.3}}}\n",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Kiosk:
    found = kiosk(tmp_path_factory.mktemp("kiosk"))
    found.log(found.records(3000))
    return found


def lever_text(text: str, offer: str, times: float, surface: str | None = None) -> str:
    scope = f"offer: {offer}" + (f", surface: {surface}" if surface else "")
    pulled = f"  more: {{only: {{{scope}}}, times: {times:.3f}, until: 2100-01-01, owner: a, why: b}}\n"
    return text.replace("levers:\n", f"levers:\n{pulled}", 1)


def share_of(shop: Kiosk, text: str, offer: str, records) -> float:
    """What the engine makes of a catalog, decision by decision."""
    catalog = load_catalog({"a.yaml": text.encode()})
    contender = Contender(changed(shop.release, catalog, {}), shop.release.catalog)
    return sum(contender.choose(one.request, one.facts).first == offer for one in records) / len(records)


@pytest.mark.parametrize("name", CATALOGS)
@settings(max_examples=6, deadline=None)
@given(times=st.integers(251, 4000).map(lambda n: n / 1000), offer=st.sampled_from(["annual", "monthly", "student"]))
def test_the_thresholds_foretell_the_share_of_any_lever(shop, name, times, offer):
    """Exactly, whatever else the catalog does; but where scores tie, which no threshold is about."""
    records = [
        one
        for one in shop.records(150, seed=6)
        if one.request.surface in surfaces_of(shop.release.catalog, offer, None)
    ]
    asked = LeverPass(shop.proposal(CATALOGS[name]), offer, frozenset(surfaces_of(shop.release.catalog, offer, None)))
    thresholds = asked()(map(encode, records))
    if not (abs(thresholds.levers - times) < 1e-9).any():
        assert thresholds.share(times) == share_of(shop, lever_text(CATALOGS[name], offer, times), offer, records)


@pytest.mark.parametrize(
    ("offer", "surface", "share"), [("annual", "banner", 0.3), ("monthly", None, 0.35), ("student", "shelf", 0.2)]
)
def test_the_lever_put_into_the_catalog_gives_the_share(shop, offer, surface, share):
    found = search(shop.home.logs, shop.proposal(), offer, share, surface=surface, last="all")
    places = surfaces_of(shop.release.catalog, offer, surface)
    records = [one for one in shop.records(3000) if one.request.surface in places]
    text = lever_text(CATALOG, offer, found["lever"], surface)
    assert found["decisions"] == len(records)
    assert found["share"] == share_of(shop, text, offer, records) >= share
    assert found["share_now"] == share_of(shop, CATALOG, offer, records)
    smaller = lever_text(CATALOG, offer, found["lever"] - 0.002, surface)
    assert share_of(shop, smaller, offer, records) < found["share"]
    again = ask(shop.home.logs, shop.proposal(text), last="all")
    assert {**again, "after": 0} == {**found["report"], "after": 0}


def test_the_report_says_who_pays(shop):
    found = search(shop.home.logs, shop.proposal(), "monthly", 0.35, last="all")
    losers = [one for one in found["report"]["offers"] if one["lost"]]
    assert {one["offer"] for one in losers} <= {"annual", "student", "nothing"}
    assert sum(one["lost"] for one in losers) == found["report"]["changed"] > 0


def test_where_no_lever_gives_the_share_the_most_that_one_can_is_told(shop):
    found = search(shop.home.logs, shop.proposal(), "student", 0.9, last="all")
    assert found["lever"] is None
    assert found["report"] is None
    assert found["share_now"] <= found["share_most"] < 0.5  # only half of all are in its market
    records = [one for one in shop.records(3000) if one.request.surface in ("banner", "shelf")]
    assert found["share_most"] == pytest.approx(share_of(shop, lever_text(CATALOG, "student", 4.0), "student", records))


def test_a_smaller_share_takes_a_lever_below_one(shop):
    now = search(shop.home.logs, shop.proposal(), "annual", 0.3, surface="banner", last="all")
    assert now["share_now"] > 0.6
    assert 0.25 <= now["lever"] < 1.0


def test_parts_of_a_search_add_up(shop):
    lines = [encode(one) for one in shop.records(300, seed=2)]
    opened = LeverPass(shop.proposal(), "annual", frozenset({"banner"}))()
    whole = opened(lines)
    parts = opened(lines[200:]) + opened(lines[:90]) + opened(lines[90:200])
    assert sorted(parts.levers) == sorted(whole.levers)
    assert parts.lever(0.2) == whole.lever(0.2)


@pytest.mark.parametrize(
    ("offer", "surface", "share", "why"),
    [
        ("anual", None, 0.1, 'Did you mean "annual"'),
        ("student", "push", 0.1, "does not stand on push, but on: banner, shelf"),
        ("annual", None, 0.0, "--share takes"),
        ("annual", None, 1.5, "--share takes"),
        ("annual", None, float("nan"), "--share takes"),
    ],
)
def test_what_makes_no_sense_is_refused(shop, offer, surface, share, why):
    with pytest.raises(UserError, match=why):
        search(shop.home.logs, shop.proposal(), offer, share, surface=surface, last="all")


def test_the_least_lever_is_the_quantile_of_the_thresholds():
    found = Thresholds(np.array([0.0, 0.5, 1.2345, 2.0, np.inf]))
    assert [found.lever(share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)] == pytest.approx(
        [0.001, 0.501, 1.235, 2.001, np.inf]
    )
    assert found.share(found.lever(0.6)) == 0.6

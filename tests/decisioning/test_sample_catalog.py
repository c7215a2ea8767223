"""The sample catalog: it is right, it fits the declared features, and there is something to choose for everybody."""

from dataclasses import replace
from pathlib import Path
from time import process_time

import pytest
from constructs import EVERY, constructs

from decisioning.catalog import Catalog
from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import check_catalog, load_catalog
from decisioning.domain import Facts, Request
from decisioning.engine import Release, decide
from features.definitions import SCHEMA

FOLDER = Path(__file__).parents[2] / "catalog"
FILES = {file.relative_to(FOLDER).as_posix(): file.read_bytes() for file in FOLDER.rglob("*.yaml")}
NOW = 1_780_315_200.0  # 2026-06-01 12:00 UTC, when every offer but the holidays' is live


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(FILES)


LISTENER = {
    "age_band": "25_34", "is_student": False, "days_on_tier": 90, "days_since_signup": 300, "sessions_7d": 6,
    "sessions_28d": 22, "minutes_7d": 300.0, "minutes_28d": 1200.0, "active_days_28d": 18, "distinct_artists_28d": 40,
    "followed_artists": 5, "followed_artists_on_tour": 1, "hifi_device": False, "night_share_28d": 0.1,
    "owned_addons": frozenset(), "had_trial": False, "past_premium": False, "payment_failed": False,
    "consent_marketing": True,
}  # fmt: skip
MARKETS = ("SE", "GB", "US", "BR", "IN", "ID", "NO")


def left(catalog: Catalog, surface: str, **features) -> set[str]:
    """The offers that every rule leaves, without any context sent."""
    request = Request("d", "u", surface, NOW)
    facts = Facts({**LISTENER, **features}, as_of=NOW, budgets={budget.name: 0 for budget in catalog.budgets})
    return set(decide(Release("r", catalog), request, facts).eligible)


def test_its_own_tests_pass(catalog):
    assert [str(failure) for failure in run_tests(catalog)] == []
    assert len(catalog.tests) >= 8


def test_it_uses_every_construct_of_the_language():
    assert sorted(EVERY - constructs(FILES)) == []


def test_it_has_no_warning_while_its_dates_last():
    assert [str(one) for one in check_catalog(FILES, NOW)[1]] == []


def test_its_own_tests_notice_when_a_rule_is_gone(catalog):
    for section in ("suppressions", "guards", "quiet_hours", "exclusives", "caps"):
        assert run_tests(replace(catalog, **{section: ()})), section


def test_it_declares_the_snapshot_features_exactly_as_they_are_computed(catalog):
    declared = {name: spec for name, spec in catalog.features.items() if not spec.from_context}
    assert declared == {spec.name: spec for spec in SCHEMA.specs if spec.name in declared}
    assert len(declared) >= 30


def test_it_is_a_catalog_of_some_size(catalog):
    assert len(catalog.offers) >= 24
    assert len(catalog.surfaces) == 6
    assert catalog.models == ("upsell",)
    nets = [offer.score.net for offer in catalog.offers.values()]
    assert max(nets) > 30 * min(net for net in nets if net > 0)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("surface", ["home_banner", "paywall"])
def test_a_free_listener_has_several_offers_everywhere(catalog, market, surface):
    assert 5 <= len(left(catalog, surface, tier="free", market=market)) <= 10


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("surface", ["home_banner", "merch_shelf"])
def test_a_premium_listener_has_several_offers_and_no_upgrade(catalog, market, surface):
    found = left(catalog, surface, tier="premium", market=market)
    assert len(found) >= 3
    assert not {name for name in found if catalog.offers[name].group == "plan_upgrade"}


def test_every_offer_can_be_shown_to_somebody(catalog):
    people = [
        {"tier": tier, "market": market, **more}
        for tier in ("free", "basic", "premium")
        for market in MARKETS
        for more in (
            {},
            {"past_premium": True, "had_trial": True},
            {"is_student": True, "hifi_device": True, "audiobook_minutes_28d": 9.0, "merch_clicks_28d": 1},
            {"skips_limited_7d": 5, "ads_heard_7d": 40, "family_plan_signals_28d": 2},
        )
    ]
    seen = {offer for person in people for surface in catalog.surfaces for offer in left(catalog, surface, **person)}
    assert set(catalog.offers) - seen == {"discover_weekly_mix", "browse_the_store", "premium_holiday"}


def test_five_hundred_offers_load_in_a_second(catalog):
    many = "offers:\n" + "".join(
        f"""  offer_{n}:
    owner: pm
    group: merch
    surfaces: [home_banner, paywall]
    score: {{model: upsell, value: {10 + n % 30}, cost: 1.0, prior: 0.02}}
    eligible:
      audience: engaged_free
      market: [US, GB, SE, NO]
      days_on_tier: {{min: 14, max: 180}}
      any: [{{is_student: true}}, {{sessions_28d: {{min: {n % 9}}}}}]
    creative: {{key: key-{n}, locales: [en, sv, nb]}}
"""
        for n in range(500)
    )
    started = process_time()
    assert len(load_catalog({**FILES, "offers/many.yaml": many.encode()}).offers) == len(catalog.offers) + 500
    assert process_time() - started < 2  # 0.2 s of an idle core; the rest is for a busy machine

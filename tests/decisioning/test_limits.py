"""Caps, suppression, quiet hours, exclusivity and budgets: windows that roll, whatever the order of events."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Catalog, Group, Offer, Surface
from decisioning.domain import Facts, HistoryEvent, Request, Stage
from decisioning.limits import Limits, allowance, is_quiet, silent_until
from decisioning.rules import Budget, Cap, CapBy, Exclusive, QuietHours, Same, Scope, Suppression

DAY = 86_400.0
NOW = 1_800_000_000.0
OFFERS = {
    "annual": Offer("annual", "pm", "upgrade", ("home", "push")),
    "duo": Offer("duo", "pm", "upgrade", ("home",)),
    "vinyl": Offer("vinyl", "pm", "merch", ("home",)),
}
SURFACES = {"home": Surface("home"), "push": Surface("push")}


def drop(offer, history=(), now=NOW, surface="home", facts=None, **rules):
    """The Reason of the first limit that drops an offer, or None."""
    catalog = Catalog("h", offers=OFFERS, surfaces=SURFACES, **rules)
    offers = catalog.offers_on(surface)
    limits, request = Limits(catalog, surface, offers), Request("d", "u", surface, now)
    facts = facts or Facts(history=tuple(history))
    bit = 1 << offers.index(OFFERS[offer])
    found = next((found for found in limits.drops(request, facts, {}) if found[2] & bit), None)
    return limits.reason(found, OFFERS[offer], request, facts) if found else None


def seen(offer, at, type="impression", surface="home"):
    return HistoryEvent(type, offer, surface, at)


@given(st.lists(st.floats(NOW - 10 * DAY, NOW), max_size=8), st.integers(1, 4), st.randoms())
def test_a_cap_counts_exactly_the_events_of_its_rolling_window_in_any_order(times, most, random):
    cap = Cap("week", most, 7 * DAY, CapBy.OFFER)
    events = [seen("annual", at) for at in times] + [seen("duo", NOW)] * 9 + [seen("annual", NOW, "click")] * 9
    random.shuffle(events)
    reached = sum(at > NOW - 7 * DAY for at in times) >= most
    assert (drop("annual", events, caps=(cap,)) is not None) == reached


def test_a_cap_frees_at_the_very_second_its_window_has_passed():
    cap = Cap("day", 1, DAY, CapBy.OFFER)
    assert drop("annual", [seen("annual", NOW)], now=NOW + DAY - 1, caps=(cap,)).stage is Stage.CAP
    assert drop("annual", [seen("annual", NOW)], now=NOW + DAY, caps=(cap,)) is None


def test_a_cap_of_three_lets_the_third_through_and_stops_the_fourth():
    cap = Cap("week", 3, 7 * DAY, CapBy.OFFER)
    assert drop("annual", [seen("annual", NOW - n) for n in range(2)], caps=(cap,)) is None
    assert drop("annual", [seen("annual", NOW - n) for n in range(3)], caps=(cap,)) is not None


@pytest.mark.parametrize(
    ("by", "capped"),
    [(CapBy.OFFER, {"annual"}), (CapBy.GROUP, {"annual", "duo"}), (CapBy.SURFACE, {"annual", "duo", "vinyl"})],
)
def test_a_cap_reaches_as_far_as_it_says(by, capped):
    cap = Cap("one", 1, DAY, by)
    assert {name for name in OFFERS if drop(name, [seen("annual", NOW - 5)], caps=(cap,))} == capped


def test_a_cap_by_surface_ignores_what_was_shown_elsewhere():
    cap = Cap("one", 1, DAY, CapBy.SURFACE)
    assert drop("annual", [seen("annual", NOW - 5, surface="push")], caps=(cap,)) is None


def test_a_cap_with_a_scope_counts_and_drops_only_what_it_covers():
    cap = Cap("upgrades", 1, DAY, CapBy.USER, scope=Scope(only_groups=frozenset({"upgrade"})))
    assert drop("annual", [seen("vinyl", NOW - 5)], caps=(cap,)) is None
    assert drop("annual", [seen("duo", NOW - 5)], caps=(cap,)) is not None
    assert drop("vinyl", [seen("duo", NOW - 5)], caps=(cap,)) is None


@pytest.mark.parametrize("by", CapBy)
def test_a_cap_of_none_lets_nothing_through_whatever_was_before(by):
    cap = Cap("off", 0, DAY, by)
    assert all(drop(name, caps=(cap,)).rule == "off" for name in OFFERS)
    assert all(drop(name, [seen("annual", NOW - 5)], caps=(cap,)).rule == "off" for name in OFFERS)
    assert drop("annual", caps=(Cap("off", 0, DAY, by, scope=Scope(only_offers=frozenset({"duo"}))),)) is None


def test_silence_follows_a_dismissal_for_its_offer_only():
    rule = Suppression("after_dismiss", "dismiss", 14 * DAY)
    history = [seen("annual", NOW - 13 * DAY, "dismiss")]
    assert drop("annual", history, suppressions=(rule,)).detail == "quiet after dismiss (same offer), again in 1 d"
    assert drop("duo", history, suppressions=(rule,)) is None
    assert drop("annual", history, now=NOW + DAY, suppressions=(rule,)) is None


def test_silence_after_a_conversion_reaches_the_whole_group_even_through_an_offer_seen_elsewhere():
    rule = Suppression("after_convert", "convert", 30 * DAY, same=Same.GROUP)
    history = [seen("annual", NOW - DAY, "convert")]
    assert drop("duo", history, suppressions=(rule,)) is not None
    assert drop("vinyl", history, suppressions=(rule,)) is None


def test_to_convert_is_to_do_what_the_offers_group_converts_on():
    groups = {"upgrade": Group("upgrade", converts_on="purchase"), "merch": Group("merch")}
    rule = Suppression("after_convert", "convert", 30 * DAY, same=Same.GROUP)
    cap = Cap("few", 1, DAY, CapBy.GROUP, counts="convert")
    for rules in ({"suppressions": (rule,)}, {"caps": (cap,)}):
        assert drop("duo", [seen("annual", NOW - 10, "purchase")], groups=groups, **rules) is not None
        assert drop("duo", [seen("annual", NOW - 10, "convert")], groups=groups, **rules) is not None
        assert drop("vinyl", [seen("vinyl", NOW - 10, "purchase")], groups=groups, **rules) is None
        assert drop("duo", [seen("gone", NOW - 10, "purchase")], groups=groups, **rules) is None


def test_events_are_counted_in_plain_english():
    cap, times = Cap("few", 1, DAY, CapBy.OFFER, counts="dismiss"), [NOW - 10, NOW - 20]
    assert drop("duo", [seen("duo", times[0], "dismiss")], caps=(cap,)).detail.startswith("1 dismiss by offer in 1 d")
    assert drop("duo", [seen("duo", at, "dismiss") for at in times], caps=(cap,)).detail.startswith("2 dismisses by")
    rule = Suppression("fed_up", "dismiss", DAY, count=2, within=DAY)
    found = drop("duo", [seen("duo", at, "dismiss") for at in times], suppressions=(rule,))
    assert found.detail.startswith("quiet after 2 dismisses ")


def test_events_of_an_offer_that_the_catalog_no_longer_has_silence_no_group():
    rule = Suppression("after_convert", "convert", 30 * DAY, same=Same.GROUP)
    assert drop("duo", [seen("gone", NOW - DAY, "convert")], suppressions=(rule,)) is None


def test_three_impressions_in_a_week_silence_from_the_third():
    rule = Suppression("tired", "impression", 10 * DAY, count=3, within=7 * DAY)
    assert silent_until([0.0, DAY, 2 * DAY], rule) == 12 * DAY
    assert silent_until([0.0, DAY, 9 * DAY], rule) is None
    assert silent_until([0.0, DAY], rule) is None


def test_an_event_from_the_future_counts_as_one_of_now():
    rule = Suppression("after_dismiss", "dismiss", DAY)
    history = [seen("annual", NOW + 400 * DAY, "dismiss")]
    assert drop("annual", history, suppressions=(rule,)).detail.endswith("again in 1 d")


def test_events_from_the_future_are_no_further_apart_than_now():
    rule = Suppression("tired", "impression", DAY, count=2, within=3600.0)
    history = [seen("annual", NOW - 1800), seen("annual", NOW + 400 * DAY)]
    assert drop("annual", history, suppressions=(rule,)).detail.endswith("again in 1 d")
    assert drop("annual", [seen("annual", NOW - 7200), history[1]], suppressions=(rule,)) is None


def test_exclusive_offers_keep_away_from_one_another_but_not_from_themselves():
    rule = Exclusive("one_story", frozenset({"annual", "duo"}), 30 * DAY)
    history = [seen("annual", NOW - 29 * DAY)]
    assert drop("duo", history, exclusives=(rule,)).stage is Stage.EXCLUSIVE
    assert drop("annual", history, exclusives=(rule,)) is None
    assert drop("duo", history, now=NOW + DAY, exclusives=(rule,)) is None


@pytest.mark.parametrize(
    ("zone", "utc", "quiet"),
    [
        ("Europe/Stockholm", datetime(2026, 7, 1, 20, 30, tzinfo=UTC), True),  # 22:30 in summer time
        ("Europe/Stockholm", datetime(2026, 12, 1, 20, 30, tzinfo=UTC), False),  # 21:30 in winter time
        ("America/Sao_Paulo", datetime(2026, 7, 1, 9, 59, tzinfo=UTC), True),  # 06:59
        ("America/Sao_Paulo", datetime(2026, 7, 1, 10, 0, tzinfo=UTC), False),  # 07:00
        ("Europe/Stockholm", datetime(2026, 7, 1, 20, 0, tzinfo=UTC), True),  # 22:00
        ("Europe/Stockholm", datetime(2026, 7, 1, 19, 59, tzinfo=UTC), False),  # 21:59
        ("../../etc/passwd", datetime(2026, 7, 1, 23, 0, tzinfo=UTC), True),  # no zone: UTC
        (None, datetime(2026, 7, 1, 12, 0, tzinfo=UTC), False),
    ],
)
def test_quiet_hours_follow_the_users_own_wall_clock(zone, utc, quiet):
    rule = QuietHours("night", frozenset({"push"}), 22 * 60, 7 * 60)
    assert is_quiet(rule, utc.timestamp(), {"timezone": zone} if zone else {}) is quiet


@pytest.mark.parametrize(("hour", "minute", "quiet"), [(11, 59, False), (12, 0, True), (13, 59, True), (14, 0, False)])
def test_quiet_hours_at_noon_begin_and_end_to_the_minute(hour, minute, quiet):
    rule = QuietHours("siesta", frozenset({"push"}), 12 * 60, 14 * 60, "UTC")
    assert is_quiet(rule, datetime(2026, 7, 1, hour, minute, tzinfo=UTC).timestamp(), {}) is quiet


def test_quiet_hours_bind_only_their_surfaces():
    rule = QuietHours("always", frozenset({"push"}), 0, 1440)
    assert drop("annual", quiet_hours=(rule,), surface="push").stage is Stage.QUIET
    assert drop("annual", quiet_hours=(rule,)) is None


def test_a_hard_budget_stops_when_it_is_spent_or_unreadable_and_a_soft_one_only_when_spent():
    hard = Budget("push", frozenset({"annual"}), 10)
    soft = Budget("push", frozenset({"annual"}), 10, hard=False)
    for budget, spent, dropped in ((hard, 9, False), (hard, 10, True), (hard, None, True), (soft, None, False)):
        reason = drop("annual", facts=Facts(budgets={} if spent is None else {"push": spent}), budgets=(budget,))
        assert (reason is not None) == dropped, (budget, spent)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("spent", [0, 10, None])
def test_a_budget_holds_nothing_back_before_it_begins_and_after_it_ends(even, spent):
    budget = Budget("june", frozenset({"annual"}), 10, starts=NOW, until=NOW + DAY, even=even)
    facts = Facts(budgets={} if spent is None else {"june": spent})
    assert drop("annual", now=NOW - 1, facts=facts, budgets=(budget,)) is None
    assert drop("annual", now=NOW + DAY, facts=facts, budgets=(budget,)) is None
    held = drop("annual", now=NOW + DAY - 1, facts=facts, budgets=(budget,))
    assert (held is not None) == (spent != 0)


@given(st.floats(-1.0, 2.0), st.floats(-1.0, 2.0))
def test_a_paced_budget_never_shrinks_and_ends_at_the_whole(earlier, later):
    budget = Budget("b", frozenset(), 1000, until=NOW + DAY, starts=NOW, even=True)
    first, second = sorted([earlier, later])
    assert 0 <= allowance(budget, NOW + first * DAY) <= allowance(budget, NOW + second * DAY) <= 1000
    assert allowance(budget, NOW + DAY) == 1000

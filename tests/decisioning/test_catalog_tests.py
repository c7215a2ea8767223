"""The catalog's own tests: they pass when the rules do what they say, and fail with a sentence when not."""

import pytest

from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import CatalogError, load_catalog

BASE = """\
features:
  tier: {type: enum, values: [free, premium]}
  country: {type: enum, values: [SE, US], from: context}
surfaces: {shelf: {fallback: null}}
offers:
  book: {owner: a, group: g, surfaces: [shelf], eligible: {tier: free}}
  song: {owner: a, group: g, surfaces: [shelf], eligible: {country: SE}}
  gift: {owner: a, group: g, surfaces: [shelf], live: {from: 2026-11-01, until: 2027-01-06}}
suppress: {after_dismiss: {after: dismiss, for: 14d}}
budgets: {small: {offers: [book], impressions: 1, hard: true}}
holdouts: {everybody: {percent: 100, salt: s}}
"""


def failures(given: str, expect: str) -> list[str]:
    test = f"tests: [{{name: t, given: {given}, on: shelf, expect: {expect}}}]"
    return [str(one) for one in run_tests(load_catalog({"base.yaml": BASE.encode(), "t.yaml": test.encode()}))]


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("{tier: free}", "{eligible: [book], because: {song: eligible}}"),
        ("{tier: premium, country: SE}", "{never: [book], eligible: [song, gift], because: {book: book}}"),
        ("{history: [{dismiss: song, ago: 13d}], country: SE}", "{because: {song: after_dismiss}}"),
        ("{history: [{dismiss: song, ago: 15d}], country: SE}", "{eligible: [song]}"),
        ("{now: 2027-01-07}", "{because: {gift: live}}"),
    ],
)
def test_a_test_passes_when_the_rules_do_what_it_expects(given, expect):
    assert failures(given, expect) == []


@pytest.mark.parametrize(
    ("given", "expect", "message"),
    [
        ("{tier: free}", "{never: [book]}", "book may be shown on shelf."),
        (
            "{tier: premium}",
            "{eligible: [book]}",
            "book can't be shown on shelf: eligible book says no (base.yaml:6): tier is premium, needs free.",
        ),
        (
            "{tier: free}",
            "{because: {book: eligible}}",
            "book may be shown on shelf, although eligible was to forbid it.",
        ),
        (
            "{history: [{dismiss: gift, ago: 1d}]}",
            "{because: {gift: live}}",
            "gift was to be dropped by live, but suppressed after_dismiss says no (base.yaml:9): "
            "quiet after dismiss (same offer), again in 13 d.",
        ),
    ],
)
def test_a_failure_is_a_sentence_with_its_place(given, expect, message):
    assert failures(given, expect) == [f't.yaml:1: the test "t" fails: {message}']


@pytest.mark.parametrize(
    ("given", "expect", "message"),
    [
        ("{teir: free}", "{never: [book]}", 'unknown key "teir". Did you mean "tier"?'),
        ("{tier: gold}", "{never: [book]}", 'unknown tier value "gold"'),
        ("{}", "{never: [boook]}", 'unknown offer "boook". Did you mean "book"?'),
        ("{}", "{because: {book: after_dismis}}", 'unknown rule "after_dismis". Did you mean "after_dismiss"?'),
        ("{}", "{}", 'Give "never", "eligible" or "because".'),
        ("{history: [{dismiss: book}]}", "{never: [book]}", '"ago" is missing'),
        ("{history: [{ago: 1d}]}", "{never: [book]}", "needs one event and its offer"),
    ],
)
def test_a_wrong_test_is_an_error_of_the_catalog(given, expect, message):
    with pytest.raises(CatalogError) as caught:
        failures(given, expect)
    assert message in str(caught.value)

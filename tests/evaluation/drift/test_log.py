"""Two windows of the decision log held against each other, with decisions that the engine made."""

import json
import random
import re
from dataclasses import replace

import pytest

from decisioning.catalog import DAY, FeatureSpec, FeatureType
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, Request, Scores
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from evaluation.drift.log import log_drift
from evaluation.drift.page import drift_page
from stores.log.decision_log import DecisionRecord, encode

CATALOG = {
    "all.yaml": b"""
features:
  tier: {type: enum, values: [free, basic, premium]}
  sessions_7d: {type: int, max_age: 36h}
  addons: {type: set, values: [books, hifi]}
  renews: {type: time}
  device: {type: enum, values: [phone, tv], from: context}
  app_version: {type: text, from: context}
groups:
  plan: {}
surfaces:
  shelf: {slots: 1, allow_nothing: true, fallback: generic}
offers:
  duo: {owner: pm, group: plan, surfaces: [shelf], score: {model: upsell, value: 10}, eligible: {tier: [free, basic]}}
  solo: {owner: pm, group: plan, surfaces: [shelf], score: {model: upsell, value: 12}, eligible: {tier: free}}
  generic: {owner: pm, group: plan, surfaces: [shelf], score: {prior: 0.001, value: 1}}
"""
}
UNTIL = 1_795_348_800.0


class Model:
    """The more sessions the likelier, by a factor."""

    def __init__(self, version=1, **factors):
        self.label, self.factors = f"upsell/{version}", {"duo": 0.01, "solo": 0.02} | factors

    def score(self, features, surface, offers):
        found = [self.factors.get(offer, 0.01) * (1 + features.get("sessions_7d", 0)) for offer in offers]
        return Scores(found, found)

    prior = score


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(CATALOG)


@pytest.fixture
def lines(catalog):
    """Some weeks of decisions, `n` of them a week, by `users` people; `changes` is what differs in the last week."""

    def write(weeks=2, n=700, users=350, model=None, age=3600.0, **changes):
        before, after = (Release("r1", catalog, {"upsell": one}) for one in (Model(), model or Model()))
        found = []
        for week in range(weeks):
            last, dice = week == weeks - 1, random.Random(week)
            for number in range(n):
                now = UNTIL - (weeks - week) * 7 * DAY + number * 7 * DAY / n
                person = random.Random(f"{week}/{number % users}")
                features = {
                    "tier": person.choices(["free", "basic", "premium"], [6, 3, 1])[0],
                    "sessions_7d": person.choice([0, 0, 0, 1, 1, 2, 5]),
                    "addons": frozenset(person.sample(["books", "hifi"], person.choice([0, 0, 1]))),
                    "renews": now + person.random() * 30 * DAY,
                } | ({name: of(person) for name, of in changes.items() if name != "device"} if last else {})
                device = changes.get("device") if last else None
                context = {
                    "device": device(dice) if device else dice.choice(["phone", "tv"]),
                    "app_version": f"9.{dice.randint(1, 90)}",
                }
                request = Request(f"{week}-{number}", f"user-{number % users}", "shelf", now, context)
                facts = Facts(features, now - (age if last else 3600.0))
                record = DecisionRecord(request, facts, decide(after if last else before, request, facts))
                found.append(encode(record))
        return found

    return write


def compared(lines, catalog, **options):
    return log_drift(lines, catalog, **{"until": UNTIL, "length": 7 * DAY, **options})


def test_two_weeks_alike_show_no_drift(lines, catalog):
    report = compared(lines(), catalog)
    assert report.ok
    assert (report.before.rows, report.after.rows) == (700, 700)
    assert {one.name for one in report.drifts} == {
        *catalog.features,
        "source of decisions",
        "p_convert of upsell",
        "p_convert of upsell for duo",
        "p_convert of upsell for solo",
    }
    json.dumps(report.to_json(), allow_nan=False)
    assert "None of 10 drifted" in drift_page(report)


@pytest.mark.parametrize(
    ("name", "changes", "also"),
    [
        ("device", {"device": lambda dice: dice.choices(["phone", "tv"], [1, 20])[0]}, set()),
        ("renews", {"renews": lambda person: UNTIL + (40 + person.random() * 30) * DAY}, set()),
        ("addons", {"addons": lambda person: frozenset({"books", "hifi"})}, set()),
        ("sessions_7d", {"sessions_7d": lambda person: None}, {"p_convert of upsell"}),
    ],
)
def test_a_planted_change_is_named(lines, catalog, name, changes, also):
    report = compared(lines(weeks=6, **changes), catalog)
    assert name in report.drifted
    assert {one for one in report.drifted if not one.startswith("p_convert")} == {name}
    assert also <= {*report.drifted}


def test_a_model_that_scores_otherwise_is_named_by_offer(lines, catalog):
    report = compared(lines(weeks=6, model=Model(2, solo=0.06)), catalog)
    assert {*report.drifted} == {"p_convert of upsell", "p_convert of upsell for solo"}
    assert "The models were upsell/1 and are upsell/2 now." in report.notes


def test_answers_from_elsewhere_are_named(lines, catalog):
    report = compared(lines(weeks=6, tier=lambda person: person.choice(["free", None, None])), catalog)
    assert {"source of decisions", "tier"} <= {*report.drifted}
    [source] = [one for one in report.drifts if one.name == "source of decisions"]
    assert set(source.labels[:-2]) <= {"model", "rules", "fallback", "none"}


def test_values_that_were_too_old_when_they_were_used_are_stale(lines, catalog):
    report = compared(lines(age=37 * 3600.0), catalog)
    assert report.stale == ("sessions_7d",)
    assert not report.ok
    assert report.freshness[0].stale == 1.0


def test_few_people_with_many_decisions_prove_little(lines, catalog):
    """Four people a week, who differ: it is their number that counts, and not that of their decisions."""
    report = compared(lines(n=1200, users=4), catalog)
    assert not report.drifted
    assert {one.basis for one in report.drifts} == {"noise"}


def test_a_decision_that_was_logged_twice_counts_once(lines, catalog):
    once = lines(n=50)
    assert compared(once + once, catalog).after.rows == 50


def test_lines_that_are_no_decisions_are_counted_and_told(lines, catalog):
    torn = b'{"request": {"now": %f}, "facts": 3}' % (UNTIL - DAY)
    report = compared([*lines(n=50), b'{"torn', torn], catalog)
    assert "2 lines of the log are no decisions." in report.notes


def test_an_empty_window_is_refused_with_its_times(lines, catalog):
    with pytest.raises(
        UserError, match=r"between 2026-11-08 11:59 and 2026-11-15 11:59 UTC \(700 lie .* --last or --until"
    ):
        compared(lines(weeks=1), catalog, until=UNTIL - 60)
    with pytest.raises(UserError, match="nor near it"):
        compared([], catalog)


def test_a_feature_that_was_declared_otherwise_when_it_was_logged_counts_as_missing(lines, catalog):
    other = FeatureSpec("tier", FeatureType.FLOAT)
    report = compared(lines(n=50), replace(catalog, features={**catalog.features, "tier": other}))
    [tier] = [one for one in report.drifts if one.name == "tier"]
    assert tier.missing == (1.0, 1.0)


def test_the_page_shows_what_moved_and_needs_nothing_else(lines, catalog):
    report = compared(lines(weeks=6, tier=lambda person: "premium"), catalog)
    page = drift_page(report)
    assert page == drift_page(report)
    assert page.count("<svg") == sum(one.status != "ok" for one in report.drifts) > 0
    assert "<h3>tier</h3>" in page
    assert "nan" not in page.replace("dominant", "")
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*""", page)

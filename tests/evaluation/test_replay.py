"""Recorded decisions come out the same again, and replay sees when one does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from evaluation.replay import replay
from stores.decision_log import DecisionRecord, encode

CATALOG = Path(__file__).parents[1] / "golden" / "catalog" / "all.yaml"
NOW = 1_795_348_800.0


@pytest.fixture(scope="module")
def release():
    return Release("r1", load_catalog({"all.yaml": CATALOG.read_bytes()}), salt="s")


@pytest.fixture(scope="module")
def records(release):
    facts = Facts({"tier": "free", "sessions_7d": 5}, NOW, (HistoryEvent("dismiss", "duo", "shelf", NOW - 60.5),))
    requests = [Request(f"d{n}", f"user-{n}", "shelf", NOW + n / 7, {"device": "phone"}) for n in range(50)]
    return [DecisionRecord(request, facts, decide(release, request, facts)) for request in requests]


def test_every_recorded_decision_comes_out_identical(release, records):
    report = replay(map(encode, records), lambda _: release)
    assert (report.decisions, report.identical, report.ok) == (50, 50, True)


def test_a_decision_that_was_tampered_with_is_named(release, records):
    shown = records[3].decision
    forged = replace(records[3], decision=replace(shown, policy=replace(shown.policy, draw=shown.policy.draw + 1)))
    report = replay(map(encode, [*records[:3], forged]), lambda _: release)
    assert report.different == ("d3",)
    assert not report.ok


def test_a_changed_rule_shows_as_a_difference(release, records):
    catalog = release.catalog
    report = replay(map(encode, records), lambda _: replace(release, catalog=replace(catalog, suppressions=())))
    assert report.identical < report.decisions


def test_a_release_that_is_gone_is_said_and_counts_as_not_identical(records):
    def gone(release_id):
        raise UserError("gone")

    report = replay(map(encode, records), gone)
    assert (report.identical, report.unloadable, report.ok) == (0, ("r1",), False)


def test_a_line_that_is_no_decision_counts_as_not_identical(release, records):
    report = replay([encode(records[0]), b'{"torn": '], lambda _: release)
    assert (report.decisions, report.identical, report.ok) == (2, 1, False)

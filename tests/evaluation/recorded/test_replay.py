"""Recorded decisions come out the same again, and replay sees when one does not."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from kiosk import DAY, kiosk

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, HistoryEvent, Request
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from evaluation.recorded import sweeping, traffic
from evaluation.recorded.replay import replay, replay_log
from stores.log.chunks import chunks
from stores.log.decision_log import DecisionRecord, encode

CATALOG = Path(__file__).parents[2] / "golden" / "catalog" / "all.yaml"
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
    report = replay(records, lambda _: release)
    assert (report.decisions, report.identical, report.ok) == (50, 50, True)


def test_a_decision_that_was_tampered_with_is_named(release, records):
    shown = records[3].decision
    forged = replace(records[3], decision=replace(shown, policy=replace(shown.policy, draw=shown.policy.draw + 1)))
    report = replay([*records[:3], forged], lambda _: release)
    assert report.different == ("d3",)
    assert not report.ok


def test_a_changed_rule_shows_as_a_difference(release, records):
    catalog = release.catalog
    report = replay(records, lambda _: replace(release, catalog=replace(catalog, suppressions=())))
    assert report.identical < report.decisions


def test_a_release_that_is_gone_is_said_and_counts_as_not_identical(records):
    def gone(release_id):
        raise UserError("gone")

    report = replay(records, gone)
    assert (report.identical, report.unloadable, report.ok) == (0, ("r1",), False)


def test_a_line_that_is_no_decision_counts_as_not_identical(release, records):
    report = replay(traffic.records([encode(records[0]), b'{"torn": '], 0.0), lambda _: release)
    assert (report.decisions, report.identical, report.ok) == (2, 1, False)


def test_parts_of_a_log_add_up(release, records):
    taken = [*records, None]
    whole = replay(taken, lambda _: release)
    parts = [replay(part, lambda _: release) for part in (taken[40:], taken[:13], taken[13:40])]
    total = parts[0] + parts[1] + parts[2]
    assert (total.decisions, total.identical, total.different) == (51, 50, ("a line that is no decision",))
    assert total.log.decisions == whole.log.decisions
    assert total.log.problems() == whole.log.problems() == ()


def test_the_log_is_checked_against_its_own_chances(release, records):
    """What explored was hidden after the draw: the same decisions, and yet not what their policies say."""
    kept = [one for one in records if one.decision.first == one.decision.policy.champion]
    hidden = replay([kept[n % len(kept)] for n in range(3000)], lambda _: release)
    assert hidden.ok
    assert any("champion" in problem for problem in hidden.log.problems())


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    found = kiosk(tmp_path_factory.mktemp("kiosk"))
    found.log(found.records(1500))
    return found


@pytest.mark.parametrize(("last", "decisions"), [("all", 1500), ("1500", 1500), ("700", 700), ("99999", 1500)])
def test_the_last_decisions_are_replayed(shop, last, decisions):
    report = replay_log(shop.home.logs / "decisions", shop.load, last)
    assert (report.decisions, report.identical) == (decisions, decisions)
    assert report.log.problems() == ()


def test_a_time_back_from_the_latest_decision_is_replayed(shop):
    report = replay_log(shop.home.logs / "decisions", shop.load, "48h")
    recent = max(one.request.now for one in shop.records(1500)) - 2 * DAY
    assert report.decisions == sum(one.request.now >= recent for one in shop.records(1500)) > 100


def test_several_processes_replay_the_same(shop, monkeypatch):
    monkeypatch.setattr(sweeping, "SMALL", 0)
    monkeypatch.setattr(traffic, "chunks", partial(chunks, size=2**18))
    report = replay_log(shop.home.logs / "decisions", shop.load, "all")
    assert (report.decisions, report.identical, report.unloadable) == (1500, 1500, ())

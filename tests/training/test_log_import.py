"""Our own log as training tables: chances and facts as they were, and only what can teach."""

import json
import re
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from kiosk import CATALOG, DAY, kiosk

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import MILLION, Event, Scores
from decisioning.errors import UserError
from evaluation.recorded import sweeping, traffic
from features.snapshots import build_snapshot
from stores.log.chunks import chunks
from stores.log.decision_log import encode, event_line
from stores.log.event_log import EventLog
from stores.tables import Tables
from training.importers.log import import_log

AGED = CATALOG.replace(
    "  market: {type: enum",
    "  visits: {type: int, default: 3, max_age: 30m}\n  taste: {type: set, values: [a, b]}\n  market: {type: enum",
)


@pytest.fixture
def shop(tmp_path):
    return kiosk(tmp_path)


def imported(shop, text=CATALOG, **more):
    told = import_log(shop.home, load_catalog({"all.yaml": text.encode()}), **more)
    return told, Tables.read(shop.home.data)


def add_events(shop, *events: Event) -> None:
    log = EventLog(shop.home.logs / "events")
    for event in events:
        log.append(event_line(event))
    log.close()


def event(record, name="e1", kind="convert", after=60.0, **more) -> Event:
    request = record.request
    given = {"offer": record.decision.first, "value": None} | more
    return Event(
        name, kind, request.decision_id, user=request.user, surface=request.surface, at=request.now + after, **given
    )


def drawn(records):
    return [one for one in records if one.decision.policy is not None and one.decision.holdout is None]


def test_each_drawn_decision_is_a_row_with_the_chance_that_it_had(shop):
    records = shop.records(800)
    shop.log(records)
    told, tables = imported(shop)
    rows = tables.decisions.set_index("decision_id")
    assert set(rows.index) == {one.decision.decision_id for one in drawn(records)}
    for one in drawn(records):
        row, policy = rows.loc[one.decision.decision_id], one.decision.policy
        assert row["probability"] == policy.weight(one.decision.first) / MILLION
        assert (row["offer"], row["champion"], list(row["eligible"])) == (
            one.decision.first,
            policy.champion,
            list(policy.offers),
        )
        assert row["user_id"] == one.request.user
        assert row["at"].timestamp() == pytest.approx(one.request.now, abs=1e-5)
    assert rows["challenger"].isna().all()
    assert told["decisions"] == len(rows)
    assert tables.dataset["as_of"] >= max(one.request.now for one in records)


def test_what_was_left_out_is_told_with_the_reason(shop):
    records = shop.records(800)
    shop.log(records)
    told, _ = imported(shop)
    held = sum(one.decision.holdout is not None for one in records)
    empty = sum(one.decision.holdout is None and one.decision.policy is None for one in records)
    assert min(held, empty) > 10
    assert {why.split(" ")[2]: count for why, count in told["left_out"].items()} == {"held-out": held, "drew": empty}


def test_champion_and_challenger_stand_side_by_side(shop):
    class Likes:
        label = "likes/1"

        def score(self, features, surface, offers):
            return Scores(*[[0.9 if name == "student" else 0.1 for name in offers]] * 2)

        def prior(self, surface, offers):
            return self.score({}, surface, offers)

    text = CATALOG.replace("score: {value: 10, prior: 0.05}", "score: {model: m, value: 10, prior: 0.05}")
    text = text.replace("challenger: 0}", "challenger: 0.1}")
    release = replace(shop.release, catalog=load_catalog({"a.yaml": text.encode()}), challengers={"m": Likes()})
    records = drawn(shop.records(400, release=release))
    shop.log(records)
    told, tables = imported(shop, text)
    for row, one in zip(
        tables.decisions.sort_values("decision_id").itertuples(),
        sorted(records, key=lambda one: one.decision.decision_id),
        strict=True,
    ):
        assert row.challenger == one.decision.policy.challenger
        assert row.champion == one.decision.policy.champion
    assert told["with_challenger"] == len(records)
    assert (tables.decisions["challenger"] != tables.decisions["champion"]).any()


def test_facts_are_as_logged_without_what_was_stale_and_without_defaults(shop):
    [first, second] = drawn(shop.records(60))[:2]
    fresh = replace(
        first, facts=replace(first.facts, features={"visits": 7, "taste": frozenset("b")}, as_of=first.request.now - 60)
    )
    stale = replace(
        second, facts=replace(second.facts, features={"visits": 7, "tier": "free", "market": 3})
    )  # an hour old
    shop.log([fresh, stale])
    _, tables = imported(shop, AGED)
    facts = tables.facts.set_index("decision_id")
    mine, other = facts.loc[fresh.decision.decision_id], facts.loc[stale.decision.decision_id]
    assert (mine["visits"], list(mine["taste"]), mine["device"]) == (7, ["b"], fresh.request.context["device"])
    assert pd.isna(mine["tier"])
    assert pd.isna(other["visits"])
    assert pd.isna(other["market"])  # of another type than the catalog says
    assert other["tier"] == "free"


def test_outcomes_are_matched_once_and_only_for_the_first_slot(shop):
    records = shop.records(400, surfaces=["shelf"])
    [record] = [one for one in drawn(records) if len(one.decision.slate) == 2][:1]
    held = next(one for one in records if one.decision.holdout is not None)
    shop.log([record, held], truth=dict.fromkeys(["annual", "monthly", "student", "generic"], 0.0))
    add_events(
        shop,
        event(record, value=9.5),
        event(record, value=9.5),
        event(record, "e2", "click", after=-20.0),
        event(record, "e3", offer=record.decision.slate[1].offer),
        event(record, "e4", after=-4000.0),
        event(held, "e5"),
    )
    told, tables = imported(shop)
    rows = tables.outcomes.sort_values("event_id")
    assert list(rows["event_id"]) == ["e1", "e2"]
    assert list(rows["type"]) == ["convert", "click"]
    assert rows["value"].iloc[0] == 9.5
    assert pd.isna(rows["value"].iloc[1])
    at = tables.decisions["at"].iloc[0]
    assert list(rows["at"] - at) == [pd.Timedelta(seconds=60), pd.Timedelta(0)]  # a clock that lags followed at once
    assert sorted(told["events_ignored"].values()) == [1, 1, 1, 1, 2]


def test_of_a_sticky_answer_the_first_draw_is_the_row(shop):
    [first, *others] = drawn(shop.records(50, surfaces=["push"]))
    fallback = replace(first.decision, policy=None, slate=())
    early = replace(first, decision=fallback, request=replace(first.request, now=first.request.now - 90))
    late = replace(first, request=replace(first.request, now=first.request.now + 90))
    shop.log([early, first, late, *others])
    told, tables = imported(shop)
    assert (tables.decisions["decision_id"] == first.decision.decision_id).sum() == 1
    row = tables.decisions.set_index("decision_id").loc[first.decision.decision_id]
    assert row["at"].timestamp() == pytest.approx(first.request.now, abs=1e-5)
    assert told["left_out"]["records of a sticky answer besides the one that counts"] == 2


def test_torn_lines_are_counted(shop):
    shop.log(shop.records(60))
    log, events = EventLog(shop.home.logs / "decisions"), EventLog(shop.home.logs / "events")
    log.append(encode(shop.records(1, seed=5)[0])[:300])
    events.append(b'{"event_id": ')
    log.close()
    events.close()
    told, _ = imported(shop)
    assert told["left_out"]["lines that are no decision"] == 1
    assert told["events_ignored"]["lines that are no event"] == 1


def test_a_decision_that_two_servers_logged_is_one_row(shop):
    records = shop.records(50)
    shop.log([*records, *drawn(records)[:3]])
    told, tables = imported(shop)
    assert tables.decisions["decision_id"].is_unique
    assert len(tables.decisions) == len(tables.facts) == len(drawn(records))
    assert told["left_out"]["records of a decision that was logged before"] == 3


def test_several_processes_make_the_same_tables(shop, monkeypatch):
    shop.log(shop.records(900))
    _, alone = imported(shop)
    monkeypatch.setattr(sweeping, "SMALL", 0)
    monkeypatch.setattr(traffic, "chunks", partial(chunks, size=2**18))
    import_log(shop.home, shop.release.catalog)
    together = Tables.read(shop.home.data)
    pd.testing.assert_frame_equal(alone.decisions, together.decisions)
    pd.testing.assert_frame_equal(alone.facts, together.facts)
    pd.testing.assert_frame_equal(alone.outcomes, together.outcomes)


def test_a_log_that_teaches_nothing_is_refused_and_changes_nothing(shop):
    shop.log(shop.records(100))
    imported(shop)
    before = (shop.home.data / "dataset.json").read_bytes()
    with pytest.raises(UserError, match="knows none of the offers"):
        imported(shop, re.sub("(annual|monthly|student|generic)", r"other_\1", CATALOG))
    assert (shop.home.data / "dataset.json").read_bytes() == before


def test_an_empty_log_says_what_to_do(shop):
    with pytest.raises(UserError, match="serve some first"):
        imported(shop)


def test_a_log_of_fallbacks_alone_says_why_nothing_can_be_learned(shop):
    records = [one for one in shop.records(300) if one.decision.policy is None and one.decision.holdout is None]
    shop.log(records)
    with pytest.raises(UserError, match=f"{len(records)} decisions that drew nothing"):
        imported(shop)


def test_no_snapshot_is_built_from_hashes(shop):
    """Published, they would be hashed once more, and every user would be a stranger."""
    shop.log(shop.records(60))
    imported(shop)
    assert json.loads((shop.home.data / "dataset.json").read_text())["users"] == "keyed"
    with pytest.raises(UserError, match="hashes already"):
        build_snapshot(shop.home.data, shop.home.snapshots)


def test_only_the_last_days_are_taken_where_that_is_asked(shop):
    records = shop.records(500)
    shop.log(records)
    _, tables = imported(shop, last="5d")
    latest = max(one.request.now for one in records)
    assert len(tables.decisions) == sum(one.request.now >= latest - 5 * DAY for one in drawn(records))

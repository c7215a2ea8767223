"""Erasing a user: from everything, proved by looking, and from nobody else."""

import asyncio
import fcntl
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kiosk import DAY, NOW, kiosk
from namespaces import namespace

from decisioning.domain import Event
from decisioning.errors import UserError
from decisioning.identity import user_key
from features.schema import Schema
from features.snapshots import build_snapshot, current
from stores.embedded import running
from stores.erasing import proof as erasing_proof
from stores.erasing.erase import erase, find
from stores.erasing.erasures import FILE
from stores.erasing.proof import Search
from stores.erasing.store import erase_from_store
from stores.home import Home
from stores.home_logs import compact_logs, ship_logs
from stores.log.decision_log import DecisionRecord, encode, event_line
from stores.log.event_log import EventLog
from stores.log.reader import read
from stores.log.segments import segments
from stores.online.budgets import Want
from stores.online.redis_store import RedisStore
from stores.publishing.publish import pointer_of, rollback
from stores.publishing.snapshot import publish_snapshot
from stores.tables import Tables

ROOT = Path(__file__).parents[3]
WHO, OTHER = "listener-0007", "listener-0008"
USERS = [f"listener-{number:04d}" for number in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Home:
    """A home with every part: a dataset, a snapshot, and a log whose users are those of the dataset."""
    own = kiosk(tmp_path_factory.mktemp("home"))
    home = own.home
    facts = pd.DataFrame({"user_id": pd.array(USERS, "string"), "as_of": pd.Timestamp(NOW - DAY, unit="s", tz="UTC")})
    facts["tier"] = pd.array(["free", "basic"] * 20, "string")
    at = pd.Timestamp(NOW, unit="s", tz="UTC")
    ids = [f"d{number}" for number in range(len(USERS))]
    decisions = pd.DataFrame({"decision_id": ids, "user_id": USERS, "at": at, "surface": "banner", "offer": "annual"})
    decisions["probability"] = 0.5
    outcomes = pd.DataFrame({"event_id": ids, "decision_id": ids, "type": "convert", "value": 1.0, "at": at})
    schema = Schema.of(own.release.catalog.features)
    only = Schema(tuple(spec for spec in schema.specs if spec.name == "tier"))
    texts = {"decisions": decisions, "outcomes": outcomes}
    for frame in texts.values():
        for name in frame.columns:
            if frame[name].dtype == object:
                frame[name] = frame[name].astype("string")
    Tables(facts, decisions, outcomes, {"source": "test", "features": only.to_json()}).write(home.data)
    build_snapshot(home.data, home.snapshots)
    log(home, own.records(200, days=3.0))
    return home


def log(home: Home, records: list[DecisionRecord], users: list[str] = USERS) -> None:
    """Writes the records as those of our users, and an event after each."""
    from dataclasses import replace

    decisions, events = EventLog(home.logs / "decisions"), EventLog(home.logs / "events")
    for number, record in enumerate(records):
        key = user_key(home.secret(), users[number % len(users)])
        record = replace(record, request=replace(record.request, user=key))
        decisions.append(encode(record))
        about = (record.decision.decision_id, "annual", key, "banner", record.request.now + 1)
        events.append(event_line(Event(f"{users[number % len(users)]}-{number}", "click", *about)))
    decisions.close()
    events.close()


@pytest.fixture
def home(made, tmp_path) -> Home:
    shutil.copytree(made.path, tmp_path / "home")
    return Home(tmp_path / "home")


def key_of(home: Home, user: str = WHO) -> str:
    return user_key(home.secret(), user)


def lines_of(home: Home, user: str) -> int:
    key = key_of(home, user).encode()
    return sum(key in line for name in ("decisions", "events") for line in read(home.logs / name))


def test_everything_below_the_home_is_erased_and_nobody_else_is_touched(home):
    compact_logs(home)
    others = {user: lines_of(home, user) for user in USERS if user != WHO}
    assert lines_of(home, WHO) == 10
    found = erase(home, WHO, None, who="ticket 7", now=NOW + DAY)
    assert found.ok
    assert found.left == []
    assert found.log.lines == {"decisions": 5, "events": 5}
    assert set(found.rows.values()) == {1}
    assert lines_of(home, WHO) == 0
    assert {user: lines_of(home, user) for user in others} == others
    tables = Tables.read(home.data)
    assert len(tables.facts) == len(tables.decisions) == len(tables.outcomes) == len(USERS) - 1
    assert WHO not in set(tables.facts["user_id"])
    assert "d7" not in set(tables.outcomes["decision_id"])
    assert tables.dataset["rows"] == {"facts": 39, "decisions": 39, "outcomes": 39}
    assert not list(Search(WHO, key_of(home)).files(home.path))


def test_the_search_would_have_found_the_user_in_each_of_these_places(home):
    found = {one.file.split("/")[0]: one.what for one in Search(WHO, key_of(home)).files(home.path)}
    assert found == {"data": "id", "snapshots": "id", "logs": "id and key"}


def test_a_dry_run_tells_what_an_erasure_erases_and_changes_nothing(home):
    before = sorted((path, path.stat().st_mtime_ns) for path in home.path.rglob("*") if path.is_file())
    told = find(home, WHO, None)
    assert sorted((path, path.stat().st_mtime_ns) for path in home.path.rglob("*") if path.is_file()) == before
    done = erase(home, WHO, None, who="me", now=NOW)
    assert (done.rows, done.log.lines) == (told.rows, told.log.lines)


def test_erasing_twice_finds_nothing_the_second_time(home):
    erase(home, WHO, None, who="me", now=NOW)
    again = erase(home, WHO, None, who="me", now=NOW + 1)
    assert again.total == 0
    assert again.ok


def test_the_record_holds_who_asked_and_when_but_not_whom(home):
    erase(home, WHO, None, who="ticket 7", now=NOW)
    [record] = map(json.loads, (home.path / FILE).read_text().splitlines())
    assert {**record, "user": ""} == {"user": "", "at": NOW, "by": "ticket 7"}
    assert record["user"] not in (WHO, key_of(home))


def test_the_snapshot_without_the_user_is_another_one_and_stays_the_current_one(home):
    before = current(home.snapshots)
    erase(home, WHO, None, who="me", now=NOW)
    after = current(home.snapshots)
    assert after.id == f"{before.id}-e1"
    assert (after.rows, after.schema, after.as_of) == (before.rows - 1, before.schema, before.as_of)
    assert not before.path.exists()
    erase(home, OTHER, None, who="me", now=NOW)
    assert current(home.snapshots).id == f"{before.id}-e2"
    assert set(current(home.snapshots).frame()["user_id"]) == {*USERS} - {WHO, OTHER}


@pytest.mark.parametrize("part", ["data", "snapshots", "logs", "releases"])
def test_a_home_with_only_some_parts_is_fine(home, part):
    shutil.rmtree(home.path / part)
    assert erase(home, WHO, None, who="me", now=NOW).ok


def test_a_home_that_is_not_there_and_an_empty_id_are_refused(home, tmp_path):
    with pytest.raises(UserError, match="no work folder"):
        erase(Home(tmp_path / "nowhere"), WHO, None, who="me", now=NOW)
    with pytest.raises(UserError, match="empty"):
        erase(home, " ", None, who="me", now=NOW)
    assert not (tmp_path / "nowhere").exists()


def test_an_id_that_is_also_a_word_erases_no_rows_of_others(home):
    rows = len(Tables.read(home.data).facts)
    found = erase(home, "free", None, who="me", now=NOW)
    assert len(Tables.read(home.data).facts) == rows
    assert {one.file.split("/")[0] for one in found.left} >= {"data", "snapshots"}


def test_other_parquet_files_lose_the_user_and_other_files_are_told_of(home):
    out = home.path / "scores" / "push.parquet"
    out.parent.mkdir()
    pq.write_table(pa.table({"user_id": [WHO, OTHER], "offers": [["a"], ["b"]]}), out)
    (home.path / "notes.txt").write_text(f"call {WHO}!")
    with gzip.open(home.path / "old.csv.gz", "wt") as file:
        file.write(f"{key_of(home)},1\n")
    found = erase(home, WHO, None, who="me", now=NOW)
    assert pq.read_table(out)["user_id"].to_pylist() == [OTHER]
    assert {one.file: one.what for one in found.left} == {"notes.txt": "id", "old.csv.gz": "key"}
    assert not found.ok


def test_ids_that_contain_the_id_are_others(home):
    (home.path / "notes.txt").write_text(f"x{WHO} {WHO}_2 {WHO}9 ")
    assert "notes.txt" not in {one.file for one in Search(WHO, key_of(home)).files(home.path)}


def test_what_lies_across_two_blocks_of_a_large_file_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(erasing_proof, "BLOCK", 100)
    key = "0123456789abcdef" * 2
    for place in (90, 99):
        (tmp_path / "a.txt").write_text("." * place + WHO + "." * 200 + "." * place + key + ".")
        assert [one.what for one in Search(WHO, key).files(tmp_path)] == ["id and key"]
        (tmp_path / "a.txt").write_text("." * place + WHO)
        assert [one.what for one in Search(WHO, key).files(tmp_path)] == ["id"]
        for cut in range(100):  # whichever block ends within or beside the ids of others
            (tmp_path / "a.txt").write_text("." * cut + f"{WHO}5 9{WHO} " * 30)
            assert not list(Search(WHO, key).files(tmp_path))


def test_an_id_of_digits_is_looked_for_as_a_whole_value(tmp_path):
    search = Search("1234", "0" * 31 + "1")
    (tmp_path / "a.json").write_text('{"rows": 1234}')
    (tmp_path / "b.json").write_text('{"user": "1234"}')
    pq.write_table(pa.table({"user_id": ["1234"], "n": [1]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"user_id": ["12345"], "n": [1234]}), tmp_path / "d.parquet")
    assert [one.file for one in search.files(tmp_path)] == ["b.json", "c.parquet"]


def test_a_file_that_is_damaged_or_half_written_stops_nothing_and_is_named(home):
    whole = (home.data / "decisions.parquet").read_bytes()
    for name in ("torn.parquet", ".part-00000.parquet.4711"):
        (home.path / name).write_bytes(whole[:-100])
    found = erase(home, WHO, None, who="me", now=NOW)
    assert {one.file for one in found.left} == {"torn.parquet", ".part-00000.parquet.4711"}
    assert all("can't be read" in one.what for one in found.left)
    assert not lines_of(home, WHO)


def test_a_file_that_lost_the_user_keeps_what_was_noted_in_it(home):
    table = pa.table({"user_id": [WHO, OTHER], "n": [1, 2]}, metadata={"of": "pandas"})
    with pq.ParquetWriter(home.path / "out.parquet", table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"segue.tally": "2"})
    before = pq.read_metadata(home.path / "out.parquet").metadata
    erase(home, WHO, None, who="me", now=NOW)
    assert pq.read_metadata(home.path / "out.parquet").metadata == before
    assert pq.read_table(home.path / "out.parquet").num_rows == 1


# --- Running servers --------------------------------------------------------------------------------------------------


def test_the_segment_that_a_server_has_open_is_sealed_first(home):
    server = EventLog(home.logs / "events")
    server.append(event_line(Event("e1", "click", "d", "annual", key_of(home), "banner", NOW)))
    assert erase(home, WHO, None, who="me", now=NOW + 1).ok
    server.append(b"{}")
    server.close()


def test_a_server_that_does_not_answer_is_told_of_and_compaction_leaves_its_lines_out_later(home):
    hung = EventLog(home.logs / "events", sync_seconds=60.0)
    hung.append(event_line(Event("e1", "click", "d", "annual", key_of(home), "banner", NOW)))
    found = erase(home, WHO, None, who="me", now=NOW + 1, seconds=0.05)
    assert [one.file.rsplit(".", 2)[1] for one in found.left] == ["open"]
    assert not found.ok
    hung.close()
    compact_logs(home)
    assert lines_of(home, WHO) == 0
    assert not list(Search(WHO, key_of(home)).files(home.path))


def test_what_waits_to_be_shipped_is_sent_without_the_user(home, tmp_path):
    ship_logs(home, str(tmp_path / "before"))
    log(home, kiosk(tmp_path / "other").records(80, seed=2))
    compact_logs(home)
    assert segments(home.logs / "events")
    found = erase(home, WHO, None, who="me", now=NOW + 1)
    assert found.ok
    assert found.shipped_to == [str(tmp_path / "before")]
    ship_logs(home, str(tmp_path / "before"))
    files = (tmp_path / "before").rglob("*.parquet")
    sent = [line for path in files for line in pq.read_table(path)["line"].to_pylist()]
    assert sum(key_of(home).encode() in line for line in sent) == 10  # of the shipment before
    assert sum(key_of(home, OTHER).encode() in line for line in sent) == 14


def test_what_a_killed_batch_had_written_loses_the_user_and_what_one_writes_is_told_of(home):
    lines = list(read(home.logs / "decisions"))[:40]
    dead, alive = (home.logs / "decisions" / f".0000000000001-batch.x-{n:06d}.jsonl.{n}" for n in (1, 2))
    for path in (dead, alive):
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    with alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = erase(home, WHO, None, who="me", now=NOW + 1)
    assert [one.file for one in found.left] == [str(alive.relative_to(home.path))]
    assert dead.read_bytes().splitlines() == [line for line in lines if key_of(home).encode() not in line] != lines
    assert erase(home, WHO, None, who="me", now=NOW + 1).ok


# --- The online store -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["valkey_url", "debian_url", "cluster_url"])
def store_url(request) -> str:
    return request.getfixturevalue(request.param)


def seen(url: str, name: str, key: str, schema: Schema):
    async def ask():
        store = RedisStore(url, timeout=5.0, namespace=name)
        try:
            return await store.read(key, schema, ["money"])
        finally:
            await store.close()

    return asyncio.run(ask())


def live(url: str, name: str, key: str, decision: str) -> None:
    """What a user leaves in a store: an event, a sticky answer, a unit on lease and one that is confirmed."""

    async def work():
        store = RedisStore(url, timeout=5.0, namespace=name)
        await store.reserve(decision, [Want("money", "annual", 10), Want("money", "monthly", 10)], 600.0)
        await store.apply(Event(f"e-{key}", "impression", decision, "annual", key, "banner", NOW), ["money"])
        await store.remember(key, decision, b"an answer", 600.0)
        await store.close()

    asyncio.run(work())


def test_the_store_forgets_the_user_in_every_version_and_stays_whole(home, store_url, monkeypatch):
    snapshot = current(home.snapshots)
    with namespace(store_url) as name:
        monkeypatch.setenv("SEGUE_NAMESPACE", name)
        options = {"namespace": name}
        publish_snapshot(store_url, snapshot, home.secret(), **options)
        frame = pd.read_parquet(home.data / "facts.parquet")
        frame["as_of"] += pd.Timedelta(hours=1)
        frame.to_parquet(home.data / "facts.parquet", index=False)
        second = build_snapshot(home.data, home.snapshots)
        publish_snapshot(store_url, second, home.secret(), **options)
        decision = min(find(home, WHO, None).log.decisions)
        live(store_url, name, key_of(home), decision)
        live(store_url, name, key_of(home, OTHER), "another.banner")
        told = find(home, WHO, store_url).store
        assert (told.features, told.keys) == (2, 2)  # history, answer; the note that it was counted was settled
        assert told.units >= 2
        done = erase(home, WHO, store_url, who="me", now=NOW)
        assert done.store == told
        assert done.ok
        facts = seen(store_url, name, key_of(home), second.schema)
        assert (facts.features, facts.history, facts.degraded) == ({}, (), ("features:unknown_user",))
        other = seen(store_url, name, key_of(home, OTHER), second.schema)
        assert other.features
        assert len(other.history) == 1
        assert other.budgets == {"money": 3}  # spent stays spent, his lease is free again
        assert pointer_of(store_url, **options).current.users == len(USERS) - 1
        assert rollback(store_url, **options).users == len(USERS) - 1
        again = publish_snapshot(store_url, current(home.snapshots), home.secret(), **options)
        assert (again.users, again.version.split("-e1")[0]) == (len(USERS) - 1, second.id)
        assert not seen(store_url, name, key_of(home), second.schema).features


def test_an_erasure_of_the_store_that_was_killed_is_finished_by_the_next(home, valkey_url):
    with namespace(valkey_url) as name:
        publish_snapshot(valkey_url, current(home.snapshots), home.secret(), namespace=name)
        from stores.erasing import store as erasing_store

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(erasing_store._Store, "_adjust", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                erase_from_store(valkey_url, name, key_of(home))
        assert pointer_of(valkey_url, namespace=name).current.users == len(USERS)
        assert erase_from_store(valkey_url, name, key_of(home)).total == 0
        assert pointer_of(valkey_url, namespace=name).current.users == len(USERS) - 1


def test_units_are_found_by_an_erasure_that_comes_after_one_that_never_reached_the_store(home, store_url, monkeypatch):
    from stores.erasing import erase as erasing

    def killed(*words, **more):
        raise KeyboardInterrupt

    with namespace(store_url) as name:
        monkeypatch.setenv("SEGUE_NAMESPACE", name)
        live(store_url, name, key_of(home), min(find(home, WHO, None).log.decisions))
        units = find(home, WHO, store_url).store.units
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(erasing, "erase_from_store", killed)
            with pytest.raises(KeyboardInterrupt):
                erase(home, WHO, store_url, who="me", now=NOW)
        assert erase(home, WHO, store_url, who="me", now=NOW).store.units == units > 0


def test_nothing_is_erased_from_a_store_that_is_being_published_to(home, valkey_url):
    from stores.publishing.redis_store import opened

    refused = pytest.raises(UserError, match="publishing")
    with namespace(valkey_url) as name, opened(valkey_url, name) as shelf, shelf.lock(), refused:
        erase_from_store(valkey_url, name, key_of(home))


def test_a_store_that_is_down_is_one_clear_message(home):
    with pytest.raises(UserError, match="erase again when it is up"):
        erase(home, WHO, "redis://127.0.0.1:1", who="me", now=NOW)


def test_the_embedded_servers_file_forgets_too(home):
    with running(home.valkey) as url:
        publish_snapshot(url, current(home.snapshots), home.secret())
    rdb = home.valkey / "valkey.rdb"
    before = rdb.read_bytes()
    with running(home.valkey) as url:
        assert erase(home, WHO, url, who="me", now=NOW).ok
        assert rdb.read_bytes() != before
    assert not list(Search(WHO, key_of(home)).files(home.valkey))


# --- Killed at every step ---------------------------------------------------------------------------------------------

KILLED = """
import shutil, sys
from pathlib import Path
from killing import killed_before
from stores.erasing.erase import erase
from stores.erasing.proof import Search
from stores.home import Home
from stores.log.reader import read
from stores.tables import Tables

root, who = Path(sys.argv[1]), sys.argv[2]
before = {name: sorted(read(root / "home" / "logs" / name)) for name in ("decisions", "events")}
fatal, alive = 0, False
while not alive:
    fatal += int(sys.argv[3])
    shutil.copytree(root / "home", root / str(fatal))
    home = Home(root / str(fatal))
    alive = not killed_before(fatal, lambda: erase(home, who, None, who="me", now=1.8e9))
    if fatal % 2:  # what reads the dataset next finds it whole, be it an erasure or not
        assert len(Tables.read(home.data).facts) in (39, 40), fatal
    erase(home, who, None, who="me", now=1.8e9)
    found = erase(home, who, None, who="me", now=1.8e9)
    assert found.ok and not found.total, (fatal, found)
    assert len(Tables.read(home.data).facts) == 39, fatal
    for name, lines in before.items():
        kept = sorted(read(home.logs / name))
        assert len(kept) == len(lines) - 5 and set(kept) <= set(lines), fatal
    shutil.rmtree(home.path)
print(fatal)
"""


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.heavy), 13])
def test_an_erasure_that_is_killed_before_any_step_is_finished_by_the_next(home, tmp_path, stride):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    command = [sys.executable, "-c", KILLED, str(tmp_path), WHO, str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20

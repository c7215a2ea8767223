"""`segue features publish | verify | rollback` as people and nightly jobs use them."""

import json
import shutil

import pytest
from namespaces import namespace
from redis import Redis
from small_snapshots import SCHEMA, write

from decisioning.domain import Decision, Facts, Request, Source
from decisioning.identity import user_key
from stores.home import Home
from stores.home_logs import compact_logs
from stores.log.decision_log import DecisionRecord, encode
from stores.log.event_log import EventLog
from stores.online.layout import Keys, Pointer, bucket_of, field_of


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def run(home, valkey_url, monkeypatch, here):
    """Runs a verb in this process: its exit code, and what it said on both streams, complaints in one line."""
    with namespace(valkey_url) as name:
        monkeypatch.setenv("SEGUE_HOME", str(home.path))
        monkeypatch.setenv("SEGUE_NAMESPACE", name)
        monkeypatch.setenv("REDIS_URL", valkey_url)

        def verb(*words):
            code, said, complained = here("features", *words)
            return code, said, " ".join(complained.split())

        yield verb


def make_current(home: Home, name: str, rows: int = 200, **more) -> None:
    write(home.snapshots / name, rows, id=name, **more)
    (home.snapshots / "current").write_text(name)


def log(home: Home, **features) -> None:
    """One decision, made with these features of the snapshot of 1 November."""
    facts = Facts(features, 1_793_491_200.0)
    decision = Decision("d1", "home", "r", (), Source.NONE, None, (), (), (), (), "", None)
    user = user_key(home.secret(), "user00003")
    decisions = EventLog(home.logs / "decisions")
    decisions.append(encode(DecisionRecord(Request("d1", user, "home", 1_793_491_300.0), facts, decision)))
    decisions.close()


def test_publishing_rolling_back_and_verifying_from_the_first_message_on(run, home):
    code, _, said = run("verify")
    assert (code, "run `segue features publish` first" in said) == (2, True)
    code, _, said = run("publish")
    assert (code, "segue features build" in said) == (2, True)

    make_current(home, "one")
    code, told, said = run("publish", "--progress")
    assert (code, "users: 200" in told, "200 of 200 users are in the store (100%)" in said) == (0, True, True)
    code, _, said = run("rollback")
    assert (code, "no earlier features" in said) == (2, True)
    assert json.loads(run("publish", "--json")[1])["changed"] is False
    assert json.loads(run("publish", "--again", "--json")[1])["changed"] is True

    make_current(home, "two", shift=1)
    assert run("publish")[0] == 0
    code, told, _ = run("verify", "--sample", 0, "--json")
    store = json.loads(told)["store"]
    assert (code, store["snapshot"], store["users"], store["differing"]) == (0, "two", 200, 0)
    assert json.loads(run("rollback", "--json")[1])["snapshot"].startswith("one-")
    assert json.loads(run("verify", "--json")[1])["store"]["snapshot"] == "one"
    code, _, said = run("verify", "--snapshot", "two")
    assert (code, "doesn't have the features of snapshot two" in said) == (2, True)


def test_skew_in_the_store_ends_with_1_and_says_whose_and_where(run, home, valkey_url, monkeypatch):
    make_current(home, "one")
    run("publish")
    user = user_key(home.secret(), "user00003")
    with Redis.from_url(valkey_url) as client:
        keys = Keys(home.namespace)
        version = Pointer.decode(client.get(keys.current)).current
        bucket = keys.bucket(version, bucket_of(field_of(user), version.buckets))
        packed = bytearray(client.hget(bucket, field_of(user)))
        packed[-1] ^= 1
        client.hset(bucket, field_of(user), bytes(packed))
    code, told, _ = run("verify", "--json")
    found = json.loads(told)
    assert (code, found["ok"], found["store"]["named"]) == (1, False, {user: [SCHEMA.names[-1]]})
    assert run("publish", "--again")[0] == 0
    assert run("verify")[0] == 0


def test_skew_in_the_log_ends_with_1_and_says_whose_and_where(run, home):
    make_current(home, "one")
    run("publish")
    log(home, minutes=1.0, sessions=3, tier="free")
    found = json.loads(run("verify", "--json")[1])
    assert (found["ok"], found["log"]["decisions"], found["log"]["uncompared"]) == (True, 1, 0)
    log(home, minutes=1.0, sessions=4, tier="free")
    code, told, _ = run("verify", "--json")
    found = json.loads(told)["log"]
    assert (code, found["decisions"], found["differing"], found["by_feature"]) == (1, 2, 1, {"sessions": 1})
    assert run("verify", "--last", "soon")[0] == 2


def test_decisions_are_verified_after_their_log_was_compacted(run, home):
    make_current(home, "one")
    run("publish")
    log(home, minutes=1.0, sessions=4, tier="free")
    compact_logs(home)
    code, told, _ = run("verify", "--json")
    assert (code, json.loads(told)["log"]["decisions"]) == (1, 1)


def test_it_is_said_when_the_published_snapshot_is_gone(run, home):
    make_current(home, "one")
    run("publish")
    shutil.rmtree(home.snapshots / "one")
    make_current(home, "two")
    code, _, said = run("verify")
    assert (code, "one, which is published, is no longer in" in said) == (2, True)
    assert run("verify", "--snapshot", "one")[0] == 2

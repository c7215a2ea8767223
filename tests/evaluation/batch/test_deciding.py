"""Decisions of everybody: serving's own, once for each user, and never more than budgets and caps allow."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_batch import batch, until_killed
from post_office import DAY, HOUR, NOW
from shop import Server

from decisioning.domain import Event
from decisioning.engine import decide
from decisioning.errors import UserError
from decisioning.identity import user_key
from evaluation.batch.desk import AT_ONCE
from evaluation.batch.without_store import WithoutStore
from evaluation.recorded.replay import replay_log
from features.snapshots import snapshot_rows
from stores.embedded import running
from stores.log.decision_log import canonical, decode
from stores.log.reader import read
from stores.online.port import StoreDown
from stores.online.redis_store import RedisStore
from stores.publishing.publish import publish

VINYLS, POSTERS, CROWD = 25, 40, 4200


def rows(folder) -> list[dict]:
    return pq.read_table(folder).to_pylist()


def shown(folder) -> Counter:
    return Counter(one["offer"] for row in rows(folder) for one in row["slate"])


def ask(store: partial, question):
    """What a question to the store comes to."""

    async def asked():
        opened = store()
        try:
            return await question(opened)
        finally:
            await opened.close()

    return asyncio.run(asked())


def out_of(office, store, *budgets) -> dict[str, int]:
    return dict(ask(store, lambda opened: opened.read("nobody", office.snapshot.schema, budgets)).budgets)


def publish_all(office, store) -> None:
    url, namespace = store.args[0], store.keywords["namespace"]
    snapshot, secret = office.snapshot, office.home.secret()
    publish(
        url, snapshot_rows(snapshot, secret), schema=snapshot.schema, as_of=snapshot.as_of, snapshot_id=snapshot.id,
        count=snapshot.rows, namespace=namespace,
    )  # fmt: skip


# --- The same decide --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", ["push", "mail"])
def test_every_decision_is_what_serving_decides_of_the_same_facts_to_the_last_bit(office, store, tmp_path, surface):
    users = office.list_of(tmp_path / "u.csv", device=["phone", "tv", ""] * 100)
    batch(office, tmp_path / "out", store, log=tmp_path / "log", surface=surface, users=users)
    records = list(map(decode, read(tmp_path / "log")))
    assert len(records) == 300
    for record in records:
        assert canonical(record.decision) == canonical(decide(office.release, record.request, record.facts))
    assert len({record.decision.p_convert for record in records}) > 50  # or all this would prove little
    assert {record.request.context.get("device") for record in records} == {"phone", "tv", None}


def test_the_facts_are_those_that_a_server_would_read(office, store, tmp_path):
    publish_all(office, store)
    secret = office.home.secret()
    past = Event("e1", "dismiss", "d0.push", "annual", user_key(secret, "user-4"), "push", NOW - DAY)
    ask(store, lambda opened: opened.apply(past))
    read_before = {
        user: ask(store, lambda opened, user=user: opened.read(user_key(secret, user), office.snapshot.schema))
        for user in ("user-4", "user-5", "nobody-we-know")
    }
    users = office.list_of(tmp_path / "u.csv", read_before)
    batch(office, tmp_path / "out", store, log=tmp_path / "log", surface="mail", users=users)
    for record, server in zip(map(decode, read(tmp_path / "log")), read_before.values(), strict=True):
        assert replace(record.facts, budgets={}) == replace(server, budgets={})
    assert read_before["user-4"].history
    assert read_before["nobody-we-know"].degraded == ("features:unknown_user",)


@settings(max_examples=15, deadline=None)
@given(
    late=st.sampled_from([0.0, 5 * HOUR, 40 * HOUR]),
    device=st.sampled_from(["phone", "tv", "fridge", ""]),
    seed=st.integers(0, 10**6),
)
def test_random_users_at_random_moments_are_decided_as_one_by_one(office, tmp_path_factory, late, device, seed):
    folder = tmp_path_factory.mktemp("random")
    ids = [f"user-{(seed * 7 + n * 13) % 330}" for n in range(20)]  # some of them unknown
    users = office.list_of(folder / "u.csv", ids, device=[device] * 20)
    batch(office, folder / "out", WithoutStore(), log=folder / "log", surface="mail", users=users, at=NOW + late)
    for record in map(decode, read(folder / "log")):
        assert canonical(record.decision) == canonical(decide(office.release, record.request, record.facts))
        assert ("context:undeclared_values:1" in record.decision.degraded) == (device == "fridge")


def test_whose_values_are_fresher_than_the_snapshot_is_decided_by_those(office, store, tmp_path):
    publish_all(office, store)
    fresh, key = {"age": 79, "tier": "free", "likes": frozenset({"jazz"})}, user_key(office.home.secret(), "user-4")
    ask(store, lambda opened: opened.refresh(key, fresh, NOW - HOUR))
    users = office.list_of(tmp_path / "u.csv", ["user-3", "user-4", "user-5"])
    batch(office, tmp_path / "out", store, log=tmp_path / "log", surface="mail", users=users)
    records = {record.request.user: record for record in map(decode, read(tmp_path / "log"))}
    assert records[key].facts.features.items() >= fresh.items()
    for record in records.values():
        assert canonical(record.decision) == canonical(decide(office.release, record.request, record.facts))


def test_the_log_replays_and_names_every_decision_once(crowd, store, tmp_path):
    log = crowd.home.logs / "decisions"
    tally = batch(crowd, tmp_path / "out", store, log=log, part_rows=2048)["tally"]
    assert tally["remade"] <= AT_ONCE * 3  # a budget that was refused is asked for no more in a part
    report = replay_log(log, lambda release: crowd.release, "all")
    assert (report.decisions, report.identical) == (CROWD, CROWD)
    assert {decode(line).decision.decision_id for line in read(log)} == {
        row["decision_id"] for row in rows(tmp_path / "out")
    }


def test_the_decisions_of_another_day_are_others_where_nothing_is_sticky(office, store, tmp_path):
    ids = []
    for day in range(2):
        batch(office, tmp_path / str(day), store, surface="mail", at=NOW + day * DAY)
        ids.append({row["decision_id"] for row in rows(tmp_path / str(day))})
    assert len(ids[0] | ids[1]) == 600


def test_the_same_question_gets_the_same_answer(crowd, store, other_store, tmp_path):
    for number, (own, workers) in enumerate([(store, 1), (other_store, 2)]):
        # Without the one budget that would run out: who gets the last unit is a matter of who asks first.
        batch(
            crowd, tmp_path / f"{number}", own, workers=workers, surface="banner", part_rows=2048, log=tmp_path / "log"
        )
        if number == 0:
            lines = list(read(tmp_path / "log"))
    assert rows(tmp_path / "0") == rows(tmp_path / "1")
    assert list(read(tmp_path / "log")) == lines


# --- Budgets, caps, switches ------------------------------------------------------------------------------------------


def test_no_budget_is_overspent_by_two_workers_while_a_server_decides_too(crowd, store, tmp_path):
    publish_all(crowd, store)

    async def serve(opened) -> int:
        server = Server(opened, crowd.release, NOW)
        server.runtime.secret = crowd.home.secret()
        return sum(["vinyl" in await server.shown(f"user-{n}", "mail") for n in range(4100, 4120)])

    before = ask(store, serve)
    assert 0 < before < VINYLS
    batch(crowd, tmp_path / "out", store, workers=2, part_rows=2048)
    assert shown(tmp_path / "out")["vinyl"] == VINYLS - before
    assert ask(store, serve) == 0  # mails are drawn anew, and there is nothing left
    assert out_of(crowd, store, "vinyls", "posters")["vinyls"] == VINYLS


def test_soft_budgets_are_kept_too_as_no_impression_comes_before_the_end(office, store, tmp_path):
    batch(office, tmp_path / "out", store, surface="mail")
    found = shown(tmp_path / "out")
    assert found["poster"] == POSTERS
    assert found["vinyl"] == VINYLS
    assert out_of(office, store, "vinyls", "posters") == {"vinyls": VINYLS, "posters": POSTERS}


def test_an_impression_that_is_reported_confirms_the_unit(office, store, tmp_path):
    batch(office, tmp_path / "out", store)
    row = next(row for row in rows(tmp_path / "out") if row["offer"] == "vinyl")
    user = user_key(office.home.secret(), row["user_id"])
    seen = Event("i1", "impression", row["decision_id"], "vinyl", user, "push", NOW + 60)
    ask(store, lambda opened: opened.apply(seen, ("vinyls",)))
    assert out_of(office, store, "vinyls") == {"vinyls": VINYLS}


def test_what_was_decided_counts_for_caps(office, store, tmp_path):
    first = batch(office, tmp_path / "today", store)["tally"]
    again = batch(office, tmp_path / "tomorrow", store, at=NOW + DAY)["tally"]
    assert first["shown"] > 200
    got = {row["user_id"] for row in rows(tmp_path / "today") if row["offer"]}
    assert not got & {row["user_id"] for row in rows(tmp_path / "tomorrow") if row["offer"]}
    assert again["nothing"]["cap:sent"] == first["shown"]


def test_an_offer_that_is_switched_off_goes_to_nobody(office, store, tmp_path):
    ask(store, lambda opened: opened.kill("annual"))
    batch(office, tmp_path / "out", store)
    assert "annual" not in shown(tmp_path / "out")
    assert shown(tmp_path / "out")["monthly"]


def test_without_a_store_caps_and_hard_budgets_count_as_reached_and_it_is_said(office, tmp_path):
    pushed = batch(office, tmp_path / "push", WithoutStore(), log=tmp_path / "log")["tally"]
    assert pushed["shown"] == 0
    assert pushed["degraded"] == {"store:none": 300}
    assert {why.partition(":")[0] for why in pushed["nothing"]} == {"guard", "cap"}
    mailed = batch(office, tmp_path / "mail", WithoutStore(frozenset({"annual"})), surface="mail")["tally"]
    assert set(mailed["sources"]) == {"fallback"}  # everything that is not the fallback has a cap


# --- Sticky answers ---------------------------------------------------------------------------------------------------


def test_a_server_gives_the_answer_of_the_batch_again(office, store, tmp_path):
    publish_all(office, store)
    batch(office, tmp_path / "out", store)
    some = [row for row in rows(tmp_path / "out") if row["offer"]][:20]

    async def serve(opened):
        server = Server(opened, office.release, NOW + HOUR)
        server.runtime.secret = office.home.secret()
        return [await server.decide(row["user_id"], "push") for row in some], server.lines

    answers, lines = ask(store, serve)
    assert [(one["decision_id"], one["offers"][0]["offer"]) for one in answers] == [
        (row["decision_id"], row["offer"]) for row in some
    ]
    assert lines == []


def test_the_batch_gives_a_servers_answer_again_and_logs_it_no_second_time(office, store, tmp_path):
    publish_all(office, store)

    async def serve(opened):
        server = Server(opened, office.release, NOW - HOUR)
        server.runtime.secret = office.home.secret()
        return [await server.decide(f"user-{n}", "push") for n in range(40)]

    given = {one["decision_id"]: one["offers"][0]["offer"] for one in ask(store, serve) if one["offers"]}
    tally = batch(office, tmp_path / "out", store, log=tmp_path / "log")["tally"]
    found = {row["decision_id"]: row["offer"] for row in rows(tmp_path / "out")}
    assert {name: found[name] for name in given} == given
    assert len(given) > 20
    assert tally["given_before"] == 40  # to those who got nothing, nothing again
    assert not {decode(line).decision.decision_id for line in read(tmp_path / "log")} & set(given)


# --- What goes wrong --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerStops:
    """An engine under which the store's server stops before the second part."""

    server: ExitStack

    def map(self, task, parts):
        opened = task()
        for part in parts:
            if part.number == 1:
                self.server.close()
            yield opened(part)


def test_a_store_that_goes_away_stops_the_run_and_what_is_decided_is_kept(crowd, tmp_path):
    with ExitStack() as server:
        url = server.enter_context(running(tmp_path / "valkey"))
        store = partial(RedisStore, url, timeout=5.0)
        with pytest.raises(UserError, match=r"went away .* run the same again to go on"):
            batch(crowd, tmp_path / "out", store, log=tmp_path / "log", engine=ServerStops(server), part_rows=2048)
    assert [path.name for path in (tmp_path / "out").glob("*part*")] == ["part-00000.parquet"]
    assert len(list(read(tmp_path / "log"))) == 2048
    with running(tmp_path / "valkey") as url:
        store = partial(RedisStore, url, timeout=5.0)
        manifest = batch(crowd, tmp_path / "out", store, log=tmp_path / "log", part_rows=2048)
    assert manifest["tally"]["users"] == len(crowd.ids)
    assert shown(tmp_path / "out")["vinyl"] == VINYLS


@dataclass(frozen=True)
class GoesAway:
    """Opens a store that goes away at the n-th call of one kind."""

    store: partial
    what: str
    n: int

    def __call__(self):
        opened, done = self.store(), []
        real = getattr(opened, self.what)

        async def counted(*words, **more):
            done.append(1)
            if len(done) >= self.n:
                raise StoreDown("gone")
            return await real(*words, **more)

        setattr(opened, self.what, counted)
        return opened


@pytest.mark.parametrize(("what", "n"), [("reserve", 30), ("remember", 280), ("apply", 60)])
def test_a_part_that_was_interrupted_comes_to_the_same_decisions(office, store, other_store, tmp_path, what, n):
    batch(office, tmp_path / "whole", other_store, log=tmp_path / "whole_log")
    with pytest.raises(UserError, match="went away"):
        batch(office, tmp_path / "out", GoesAway(store, what, n), log=tmp_path / "log")
    assert not list(read(tmp_path / "log"))
    batch(office, tmp_path / "out", store, log=tmp_path / "log")
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert list(read(tmp_path / "log")) == list(read(tmp_path / "whole_log"))
    assert out_of(office, store, "vinyls", "posters") == out_of(office, other_store, "vinyls", "posters")


def test_a_store_that_does_not_answer_is_told_before_anybody_is_decided(office, tmp_path):
    gone = partial(RedisStore, f"unix://{tmp_path}/nobody.sock", timeout=1.0)
    with pytest.raises(UserError, match=r"doesn't answer .* start it"):
        batch(office, tmp_path / "out", gone, log=tmp_path / "log")
    assert not list((tmp_path / "out").glob("*part*"))
    assert not (tmp_path / "log").exists()


def test_users_of_a_file_whom_nobody_knows_are_decided_as_a_server_would(office, store, tmp_path):
    users = office.list_of(tmp_path / "u.csv", ["who", "user-1", "who"])
    manifest = batch(office, tmp_path / "out", store, users=users, surface="mail")
    assert [row["user_id"] for row in rows(tmp_path / "out")] == ["who", "user-1"]
    assert manifest["tally"]["degraded"] == {"features:unknown_user": 1}
    assert manifest["tally"]["file"]["duplicates"] == 1


@pytest.mark.parametrize(("who", "times"), [("office", 2), pytest.param("crowd", 8, marks=pytest.mark.heavy)])
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(
    who, times, request, store, other_store, tmp_path
):
    office = request.getfixturevalue(who)
    batch(office, tmp_path / "whole", other_store, log=tmp_path / "whole_log", part_rows=2048)
    for seed in range(times):
        until_killed(office, tmp_path / "out", store, tmp_path / "log", seed)
    manifest = batch(office, tmp_path / "out", store, log=tmp_path / "log", part_rows=2048)
    found = rows(tmp_path / "out")
    assert found == rows(tmp_path / "whole")
    assert manifest["tally"]["users"] == len({row["user_id"] for row in found}) == len(office.ids)
    logged = [decode(line).decision.decision_id for line in read(tmp_path / "log")]
    assert logged == [decode(line).decision.decision_id for line in read(tmp_path / "whole_log")]
    assert shown(tmp_path / "out")["vinyl"] == VINYLS
    assert out_of(office, store, "vinyls", "posters") == out_of(office, other_store, "vinyls", "posters")
    secret = office.home.secret()
    for row in found[:: len(found) // 10]:
        user = user_key(secret, row["user_id"])
        facts = ask(store, lambda opened, user=user: opened.read(user, office.snapshot.schema))
        assert [event.offer for event in facts.history] == [one["offer"] for one in row["slate"]]

"""Publishing to a server that is not what it should be: refused in clear words, and what is in use stays."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from secrets import token_hex
from threading import Event

import pytest
from namespaces import namespace
from redis import Redis

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import Schema
from stores.connect import connect
from stores.embedded import running
from stores.online.layout import Keys, Version
from stores.online.redis_store import RedisStore
from stores.publishing import lock as publishing_lock
from stores.publishing import port as publishing_port
from stores.publishing.publish import publish, rollback
from stores.publishing.redis_store import RedisShelf
from stores.publishing.wire import Wire, command

SCHEMA = Schema(tuple(FeatureSpec(f"f{number:02}", FeatureType.FLOAT) for number in range(40)))
USERS = [f"{number:032x}" for number in range(3_000)]


@pytest.fixture(scope="module")
def own_url(tmp_path_factory) -> Iterator[str]:
    """A server of this module's own, to be maltreated."""
    with running(tmp_path_factory.mktemp("own")) as url:
        yield url


@pytest.fixture
def admin(own_url) -> Iterator[Redis]:
    with Redis.from_url(own_url, protocol=2) as client:
        client.flushall()
        yield client


@contextmanager
def configured(admin: Redis, **settings: str | int) -> Iterator[None]:
    names = {name: name.replace("_", "-") for name in settings}
    before = {name: admin.config_get(names[name])[names[name]] for name in settings}
    for name, value in settings.items():
        admin.config_set(names[name], value)
    try:
        yield
    finally:
        for name, value in before.items():
            admin.config_set(names[name], value)


def rows(build: float, users=USERS):
    return ((user, SCHEMA.pack(dict.fromkeys(SCHEMA.names, build))) for user in users)


def publish_build(url, build: int, **options):
    options = {"rows": rows(build), "count": len(USERS), "namespace": "shop"} | options
    return publish(url, options.pop("rows"), schema=SCHEMA, as_of=0.0, snapshot_id=f"s{build}", **options)


def read(url: str, user: str = USERS[7]) -> float | None:
    async def once() -> float | None:
        store = RedisStore(url, timeout=5.0, namespace="shop")
        try:
            return (await store.read(user, SCHEMA)).features.get("f00")
        finally:
            await store.close()

    return asyncio.run(once())


def everything(admin: Redis) -> dict[bytes, bytes]:
    return {key: admin.dump(key) for key in admin.scan_iter(count=1000)}


KEYS = Keys("shop")
SOMEBODY_ELSES = {
    "a pointer that is text": lambda admin: admin.set(KEYS.current, "hello"),
    "a pointer that is other JSON": lambda admin: admin.set(KEYS.current, '{"current": 7}'),
    "a pointer that is a list": lambda admin: admin.rpush(KEYS.current, "a"),
    "versions that are text": lambda admin: admin.set(KEYS.versions, "a"),
    "versions of another kind": lambda admin: admin.hset(KEYS.versions, "s9", "1.0"),
    "progress that is a set": lambda admin: admin.sadd(KEYS.progress, "a"),
    "a lock that is a hash": lambda admin: admin.hset(KEYS.lock, "a", "b"),
    "a bucket that is text": lambda admin: admin.set(KEYS.bucket(Version("s1", 93, 0.0, "", 0), 92), "a"),
}


@pytest.mark.parametrize("put", SOMEBODY_ELSES.values(), ids=SOMEBODY_ELSES)
def test_a_store_with_another_projects_keys_is_refused_before_anything_is_written(own_url, admin, put):
    put(admin)
    before = everything(admin)
    with pytest.raises(UserError, match=r"key shop:\S+ isn't one that publishing made.*SEGUE_NAMESPACE"):
        publish_build(own_url, 1)
    assert everything(admin) == before


def test_a_snapshot_that_returns_while_its_old_keys_expire_stays(own_url, admin):
    for build in (1, 2, 3, 1):
        publish_build(own_url, build)
    keys = list(admin.scan_iter("shop:fs:s1:*", count=1000))
    assert {admin.ttl(key) for key in keys} == {-1}
    assert len(keys) == 93


def test_features_that_cannot_fit_are_refused_before_anything_is_written(own_url, admin):
    publish_build(own_url, 1)
    with configured(admin, maxmemory=admin.info("memory")["used_memory"] + 100_000):
        with pytest.raises(UserError, match=r"3,000 users need about 0.6 MB.*maxmemory.*No features were written"):
            publish_build(own_url, 2)
        assert not admin.keys("shop:fs:s2:*")
        assert read(own_url) == 1.0
    assert publish_build(own_url, 2).changed


def test_a_server_that_keeps_plain_hashes_is_reckoned_with_what_these_take(own_url, admin):
    """Else it would fill up half-way, and the histories of users with it."""
    used = admin.info("memory")["used_memory"]
    room = {"maxmemory": round((used + 3_000 * 230) / 0.95)}
    with configured(admin, hash_max_listpack_value=64, **room), pytest.raises(UserError, match=r"need about 0\.8 MB"):
        publish_build(own_url, 1)
    assert not admin.keys("shop:fs:*")
    with configured(admin, **room):
        assert publish_build(own_url, 1).changed
        assert admin.info("memory")["used_memory"] < 0.97 * room["maxmemory"]


def test_what_adds_nothing_needs_no_room(own_url, admin):
    publish_build(own_url, 1)
    admin.setbit("other:data", 8 * 40_000_000, 1)  # without a buffer of the same size, that would go again
    with configured(admin, maxmemory=round(1.04 * admin.info("memory")["used_memory"])):
        assert publish_build(own_url, 1, again=True).changed
        with pytest.raises(UserError, match="No features were written"):
            publish_build(own_url, 2)


def test_a_store_that_fills_up_meanwhile_gets_its_memory_back(own_url, admin, monkeypatch):
    """As if somebody else's data came in between: it can't be foreseen."""
    monkeypatch.setattr(publishing_port, "BLOCK_ROWS", 500)
    publish_build(own_url, 1)

    def rows_and_less_room():
        yield from rows(2, USERS[:2000])
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 50_000)
        yield from rows(2, USERS[2000:])

    with configured(admin, maxmemory=admin.info("memory")["used_memory"] + 900_000):
        with pytest.raises(UserError, match="memory is full; the features in use are unchanged"):
            publish_build(own_url, 2, rows=rows_and_less_room())
        assert not admin.keys("shop:fs:s2:*")
        assert (admin.hkeys(KEYS.versions), admin.hkeys(KEYS.progress)) == ([b"s1"], [])
        assert admin.set("shop:other", "still writes")
        assert read(own_url) == 1.0
    assert publish_build(own_url, 2).resumed_at == 0
    assert read(own_url) == 2.0


def test_a_store_that_drops_features_by_itself_is_refused_unless_that_is_accepted(own_url, admin):
    with configured(admin, maxmemory=200_000_000, maxmemory_policy="allkeys-lru"):
        with pytest.raises(UserError, match=r"allkeys-lru.*noeviction.*--allow-eviction.*No features were written"):
            publish_build(own_url, 1)
        assert not admin.keys("shop:fs:s1:*")
        assert publish_build(own_url, 1, allow_eviction=True).changed


def test_a_store_that_drops_histories_by_itself_is_warned_of(own_url, admin):
    with configured(admin, maxmemory=200_000_000, maxmemory_policy="volatile-ttl"):
        assert ["histories" in warning for warning in publish_build(own_url, 1).warnings] == [True]
    assert publish_build(own_url, 2).warnings == ()


def test_features_that_were_evicted_are_published_again(own_url, admin):
    publish_build(own_url, 1)
    with configured(admin, maxmemory_policy="allkeys-random", maxmemory=admin.info("memory")["used_memory"] - 200_000):
        admin.set("shop:one-more", "a")
    assert admin.hlen(KEYS.versions) <= 1
    assert publish_build(own_url, 1).changed
    assert [read(own_url, user) for user in USERS[::500]] == [1.0] * 6


def test_plain_hashes_are_told_of_with_the_setting_that_helps(own_url, admin):
    compact = publish_build(own_url, 1)
    with configured(admin, hash_max_listpack_value=64):
        plain = publish_build(own_url, 2)
    assert plain.bytes_per_user > 1.1 * compact.bytes_per_user
    assert compact.warnings == ()
    assert ["hash-max-listpack-value to at least 164" in warning for warning in plain.warnings] == [True]
    assert publish_build(own_url, 2, again=True).warnings == plain.warnings  # what is there stays plain


def test_the_lock_is_renewed_for_as_long_as_publishing_takes(own_url, admin, monkeypatch):
    monkeypatch.setattr(publishing_lock, "LOCK_SECONDS", 0.3)
    begun, refused = Event(), Event()

    def slow_rows():
        begun.set()
        refused.wait(30.0)
        yield from rows(1)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(publish_build, own_url, 1, rows=slow_rows())
        begun.wait(30.0)
        for _ in range(8):
            time.sleep(0.1)
            with pytest.raises(UserError, match="Another process is publishing"):
                publish_build(own_url, 2)
        refused.set()
        assert slow.result().version == "s1"
    assert not admin.exists(KEYS.lock)


@pytest.mark.parametrize("step", ["write", "flip"])
def test_a_publisher_that_was_taken_for_dead_switches_nothing(own_url, admin, monkeypatch, step):
    """Another may have dropped what it had written."""
    publish_build(own_url, 1)
    shelf, real = RedisShelf(admin, "shop"), getattr(RedisShelf, step)

    def late(self, *args):
        admin.set(KEYS.lock, "another's")
        return real(self, *args)

    monkeypatch.setattr(RedisShelf, step, late)
    with pytest.raises(UserError, match="took it for dead"):
        publish_build(shelf, 2)
    assert (admin.get(KEYS.lock), read(own_url)) == (b"another's", 1.0)


@pytest.mark.parametrize("step", ["begin", "sweep"])
def test_a_publisher_that_was_taken_for_dead_removes_nothing_of_the_one_that_took_over(
    own_url, admin, monkeypatch, step
):
    """What it held to be on its way out, or to be nobody's, may be in use by now."""
    publish_build(own_url, 1)
    real, overtaken = getattr(RedisShelf, step), []

    def late(self, *args):
        if not overtaken:
            overtaken.append(True)
            admin.delete(KEYS.lock)  # its time is over
            publish_build(own_url, 3)
        return real(self, *args)

    monkeypatch.setattr(RedisShelf, step, late)
    with pytest.raises(UserError, match="took it for dead"):
        publish_build(own_url, 2)
    keys = list(admin.scan_iter("shop:fs:s3:*", count=1000))
    assert (len(keys), {admin.ttl(key) for key in keys}) == (93, {-1})
    assert [read(own_url, user) for user in USERS[::500]] == [3.0] * 6
    assert publish_build(own_url, 4).changed


def test_a_version_that_was_rolled_back_expires_as_others_do(own_url, admin):
    """Whoever has not looked since still finds all of it, also when the next snapshot comes at once."""
    publish_build(own_url, 1)
    publish_build(own_url, 2)
    rollback(own_url, namespace="shop")
    publish_build(own_url, 3)
    keys = list(admin.scan_iter("shop:fs:s2:*", count=1000))
    assert len(keys) == 93
    assert all(600 - 5 <= admin.ttl(key) <= 900 for key in keys)
    assert set(admin.hkeys(KEYS.versions)) == {b"s1", b"s3"}


def test_a_damaged_bucket_is_found_and_written_anew(own_url, admin):
    publish_build(own_url, 1)
    for again in (False, True):
        admin.set(KEYS.bucket(Version("s1", 93, 0.0, "", 0), 7), "somebody's")
        assert publish_build(own_url, 1, again=again).changed
        assert [read(own_url, user) for user in USERS[::50]] == [1.0] * 60


def test_a_damaged_bucket_of_the_earlier_features_keeps_from_returning_to_them_until_they_are_published(own_url, admin):
    publish_build(own_url, 1)
    publish_build(own_url, 2)
    admin.set(KEYS.bucket(Version("s1", 93, 0.0, "", 0), 7), "somebody's")
    with pytest.raises(UserError, match=r"no longer whole: the store has 2,9\d\d of 3,000"):
        rollback(own_url, namespace="shop")
    assert read(own_url) == 2.0
    assert publish_build(own_url, 1).changed
    assert [read(own_url, user) for user in USERS[::50]] == [1.0] * 60


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1", "unix:///nowhere/to.be"])
def test_a_store_that_is_not_there_is_told_in_one_message(url):
    with pytest.raises(UserError, match=r"feature store failed.*Check that the server is up"):
        publish_build(url, 1)
    with pytest.raises(UserError, match="feature store failed"):
        rollback(url)


def test_a_server_that_ends_meanwhile_is_told_and_the_next_attempt_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing_port, "BLOCK_ROWS", 500)
    with running(tmp_path) as url:

        def rows_and_the_end():
            yield from rows(1, USERS[:1500])
            with connect(url, 5.0) as client:
                client.shutdown(save=True)
            yield from rows(1, USERS[1500:])

        with pytest.raises(UserError, match="goes on where it was"):
            publish_build(url, 1, rows=rows_and_the_end())
        with pytest.raises(UserError, match="feature store failed"):
            publish_build(url, 1)
    with running(tmp_path) as url:
        with connect(url, 5.0) as client:
            client.delete(KEYS.lock)  # as after a quarter of a minute
        assert publish_build(url, 1).resumed_at in (500, 1000, 1500)
        assert read(url) == 1.0


def test_a_node_of_a_cluster_says_which_address_to_use(three_nodes):
    with pytest.raises(UserError, match=r"redis\+cluster://"):
        publish_build(three_nodes.nodes[0].url, 1, namespace=token_hex(6))


def test_commands_to_a_cluster_follow_slots_that_move_meanwhile(three_nodes):
    with namespace(three_nodes.url) as name, connect(three_nodes.url, 5.0) as client:
        wire, keys = Wire(client), [f"{name}:{number}".encode() for number in range(300)]
        wire.run(command(b"SET", key, b"%d" % number) for number, key in enumerate(keys))
        moved = [key for key in keys if three_nodes.owner(key.decode()) is three_nodes.nodes[0]][:2]
        assert len(moved) == 2
        try:
            for key in moved:
                three_nodes.move(key.decode(), three_nodes.nodes[1])
            assert list(wire.ask(command(b"GET", key) for key in keys)) == [b"%d" % number for number in range(300)]
        finally:
            for key in moved:
                three_nodes.move(key.decode(), three_nodes.nodes[0])

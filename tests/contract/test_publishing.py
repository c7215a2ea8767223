"""What publishing must do on every shelf: all of a snapshot or nothing, without a moment in between."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import Schema
from stores import publishing_port
from stores.layout import Pointer
from stores.online import OnlineStore
from stores.publishing import publish, rollback

pytestmark = pytest.mark.anyio

SCHEMA = Schema((FeatureSpec("build", FeatureType.INT),))
USERS = [f"user{number}" for number in range(300)]


def rows(build: int):
    return ((user, SCHEMA.pack({"build": build})) for user in USERS)


def publish_build(shelf, build: int, count: int = len(USERS), **options):
    return publish(
        shelf, options.pop("rows", rows(build)), schema=SCHEMA, as_of=float(build), snapshot_id=f"s{build}",
        count=count, **options,
    )  # fmt: skip


@pytest.fixture
async def store(twin) -> AsyncIterator[OnlineStore]:
    store = twin.store()
    yield store
    await store.close()


async def build_of(twin) -> int | None:
    """What a server that starts now reads."""
    store = twin.store()
    try:
        return (await store.read("user7", SCHEMA)).features.get("build")
    finally:
        await store.close()


async def test_every_user_of_a_snapshot_is_published(twin, store):
    written = []
    result = publish_build(twin.shelf, 1, progress=written.append)
    assert (result.version, result.users, result.changed, sum(written)) == ("s1", 300, True, 300)
    for user in USERS:
        assert (await store.read(user, SCHEMA)).features == {"build": 1}


@pytest.mark.parametrize("refresh", [0.0, 0.01, 0.5])
async def test_a_reader_sees_no_miss_and_no_step_back_while_snapshots_follow_one_another(twin, refresh):
    store = twin.store(refresh_seconds=refresh)
    publish_build(twin.shelf, 1)

    def publish_more():
        for build in range(2, 12):
            publish_build(twin.shelf, build)
            time.sleep(0.005)

    publisher = threading.Thread(target=publish_more)
    publisher.start()
    seen = []
    while publisher.is_alive():
        seen.append((await store.read(USERS[len(seen) % 300], SCHEMA)).features.get("build"))
        await asyncio.sleep(0)
    publisher.join()
    await store.close()
    assert None not in seen
    assert seen == sorted(seen)
    assert refresh > 0 or len(set(seen)) > 2


async def test_the_same_snapshot_again_changes_nothing_and_reads_no_rows(twin):
    publish_build(twin.shelf, 1)
    before = twin.shelf.pointer()

    def never():
        raise AssertionError("rows were read")
        yield

    assert not publish_build(twin.shelf, 1, rows=never()).changed
    assert twin.shelf.pointer() == before


async def test_an_interrupted_publication_leaves_the_current_version_and_can_be_tried_again(twin, monkeypatch):
    monkeypatch.setattr(publishing_port, "BLOCK_ROWS", 1)
    publish_build(twin.shelf, 1)

    def torn():
        yield from [("user7", SCHEMA.pack({"build": 99})), ("stranger", SCHEMA.pack({"build": 99}))]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_build(twin.shelf, 2, rows=torn())
    assert await build_of(twin) == 1
    publish_build(twin.shelf, 2)
    assert await build_of(twin) == 2
    assert twin.shelf.users(twin.shelf.pointer().current) == 300


@pytest.mark.parametrize("count", [299, 301])
async def test_a_snapshot_that_does_not_hold_what_it_says_is_refused(twin, count):
    publish_build(twin.shelf, 1)
    with pytest.raises(UserError, match=f"says it has {count} users, but 300 arrived"):
        publish_build(twin.shelf, 2, count=count)
    assert await build_of(twin) == 1


async def test_a_user_that_reads_back_differently_is_found(twin, monkeypatch):
    publish_build(twin.shelf, 1)
    lookup = twin.shelf.lookup
    monkeypatch.setattr(twin.shelf, "lookup", lambda version, users: [None, *lookup(version, users)[1:]])
    with pytest.raises(UserError, match="1 of 300 users of snapshot s2 read back differently"):
        publish_build(twin.shelf, 2)
    assert await build_of(twin) == 1


async def test_a_snapshot_with_the_name_of_another_is_refused(twin):
    publish_build(twin.shelf, 1)
    with pytest.raises(UserError, match="other contents"):
        publish_build(twin.shelf, 1, count=200)


async def test_rolling_back_returns_to_the_previous_snapshot_once(twin):
    publish_build(twin.shelf, 1)
    publish_build(twin.shelf, 2)
    assert rollback(twin.shelf).version == "s1"
    assert await build_of(twin) == 1
    with pytest.raises(UserError, match="no earlier features"):
        rollback(twin.shelf)


async def test_publishing_the_previous_snapshot_reads_no_rows(twin):
    publish_build(twin.shelf, 1)
    publish_build(twin.shelf, 2)
    assert publish_build(twin.shelf, 1, rows=iter(())).changed
    assert await build_of(twin) == 1


async def test_a_snapshot_that_had_gone_can_be_published_again(twin):
    for build in (1, 2, 3, 1):
        publish_build(twin.shelf, build)
    assert await build_of(twin) == 1


async def test_two_publishers_at_once_are_refused(twin):
    def busy():
        publish_build(twin.shelf, 3)
        yield

    with pytest.raises(UserError, match="Another process is publishing"):
        publish_build(twin.shelf, 2, rows=busy())
    publish_build(twin.shelf, 2)


async def test_a_pointer_that_moved_meanwhile_is_not_overwritten(twin):
    publish_build(twin.shelf, 1)
    publish_build(twin.shelf, 2)

    def moving():
        before = twin.shelf.pointer()
        assert twin.shelf.flip(before, Pointer(before.previous))
        yield from rows(3)

    with pytest.raises(UserError, match="Somebody else changed"):
        publish_build(twin.shelf, 3, rows=moving())
    assert await build_of(twin) == 1

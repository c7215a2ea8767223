"""What publishing must do on every shelf: all of a snapshot or nothing, without a moment in between."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import Schema
from stores.online.layout import Pointer, Version, buckets_for
from stores.online.port import OnlineStore
from stores.publishing import port as publishing_port
from stores.publishing.memory_store import MemoryShelf
from stores.publishing.port import Rows
from stores.publishing.publish import publish, rollback

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


class Counted:
    """The rows of a build in blocks of fifty, which notes where it was asked to begin, and may end early."""

    def __init__(self, build: int, until: int | None = None):
        self.begun: list[int] = []
        self._build, self._until = build, until

    def blocks(self, start=0, stop=None):
        self.begun.append(start)
        for at in range(start, len(USERS) if stop is None else stop, 50):
            if self._until is not None and at >= self._until:
                raise KeyboardInterrupt
            yield from Rows([*rows(self._build)][at : at + 50 if stop is None else min(stop, at + 50)]).blocks()


async def test_an_attempt_that_was_interrupted_goes_on_where_it_was(twin, store):
    publish_build(twin.shelf, 1)
    with pytest.raises(KeyboardInterrupt):
        publish_build(twin.shelf, 2, rows=Counted(2, until=150))
    again, written = Counted(2), []
    result = publish_build(twin.shelf, 2, rows=again, progress=written.append)
    assert (result.resumed_at, again.begun[-1]) == (150, 150)
    assert written == [150, 50, 50, 50]
    for user in USERS:
        assert (await store.read(user, SCHEMA)).features == {"build": 2}


async def test_what_another_snapshots_attempt_left_is_dropped(twin):
    with pytest.raises(KeyboardInterrupt):
        publish_build(twin.shelf, 2, rows=Counted(2, until=150))
    left = Version("s2", buckets_for(len(USERS)), 2.0, SCHEMA.hash, len(USERS))
    assert twin.shelf.users(left) == 150
    publish_build(twin.shelf, 3)
    with twin.shelf.lock():
        assert twin.shelf.begin(left, [twin.shelf.pointer().current]) == 0
    assert twin.shelf.users(left) == 0
    assert await build_of(twin) == 3


class Interrupting:
    """A shelf at which the process ends with its n-th call: before or after it is done."""

    def __init__(self, shelf, call: int, after: bool):
        self._shelf, self._left, self._after = shelf, call, after

    def __getattr__(self, name):
        made = getattr(self._shelf, name)

        def call(*args, **options):
            self._left -= 1
            if self._left < 0 and not self._after:
                raise KeyboardInterrupt
            answer = made(*args, **options)
            if self._left < 0:
                raise KeyboardInterrupt
            return answer

        return made if name == "lock" else call


@pytest.mark.parametrize("after", [False, True])
async def test_at_whatever_step_it_is_interrupted_the_old_version_or_the_whole_new_one_is_read(twin, after):
    store = twin.store(refresh_seconds=0.0)
    publish_build(twin.shelf, 1)
    build = 1
    for call in range(50):
        interrupted = False
        try:
            publish_build(Interrupting(twin.shelf, call, after), build + 1, rows=Counted(build + 1))
        except KeyboardInterrupt:
            interrupted = True
        found = {(await store.read(user, SCHEMA)).features.get("build") for user in USERS[::20]}
        assert len(found) == 1
        assert found <= {build, build + 1}
        publish_build(twin.shelf, build + 1, rows=Counted(build + 1))
        assert await build_of(twin) == build + 1
        if not interrupted:
            break
        build += 1
    await store.close()
    assert build > 12
    assert not interrupted


def lose_some(twin, build: int) -> int:
    """Makes the store lose one bucket of a version; how many users were in it."""
    pointer = twin.shelf.pointer()
    version = next(one for one in (pointer.current, pointer.previous) if one.name == f"s{build}")
    before = twin.shelf.users(version)
    if isinstance(twin.shelf, MemoryShelf):
        twin.shelf._vectors[version].popitem()
    else:
        twin.shelf._client.delete(twin.shelf._keys.bucket(version, 0))
    return before - twin.shelf.users(version)


async def test_publishing_the_version_in_use_again_mends_what_the_store_has_lost(twin, store):
    publish_build(twin.shelf, 1)
    publish_build(twin.shelf, 2)
    assert lose_some(twin, 2) > 0
    result = publish_build(twin.shelf, 2)
    assert (result.changed, result.resumed_at) == (True, 0)
    for user in USERS:
        assert (await store.read(user, SCHEMA)).features == {"build": 2}
    assert rollback(twin.shelf).version == "s1"


async def test_a_version_that_is_mended_with_the_wrong_rows_is_still_there(twin):
    publish_build(twin.shelf, 1)
    lose_some(twin, 1)
    with pytest.raises(UserError, match="says it has 300 users"):
        publish_build(twin.shelf, 1, rows=[*rows(1)][:10])
    assert twin.shelf.users(twin.shelf.pointer().current) >= 200


async def test_the_version_in_use_is_written_anew_where_that_is_asked_for(twin, store):
    publish_build(twin.shelf, 1)
    assert publish_build(twin.shelf, 1, rows=rows(99), again=True).changed
    assert (await store.read("user7", SCHEMA)).features == {"build": 99}


async def test_rolling_back_to_a_version_that_is_no_longer_whole_is_refused(twin):
    publish_build(twin.shelf, 1)
    publish_build(twin.shelf, 2)
    lost = lose_some(twin, 1)
    with pytest.raises(UserError, match=f"no longer whole: the store has {300 - lost} of 300"):
        rollback(twin.shelf)
    assert await build_of(twin) == 2
    publish_build(twin.shelf, 1)
    assert await build_of(twin) == 1

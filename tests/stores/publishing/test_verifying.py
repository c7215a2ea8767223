"""Whether skew is found where it is, and nowhere else."""

from dataclasses import replace

import pytest
from small_snapshots import SECRET, write

from decisioning.domain import Decision, Facts, Request, Source
from decisioning.errors import UserError
from decisioning.identity import user_key
from features.snapshots import snapshot_rows
from stores.log.decision_log import DecisionRecord
from stores.online.layout import field_of
from stores.online.memory_store import MemoryStore
from stores.publishing.snapshot import publish_snapshot
from stores.publishing.verifying import ABSENT, SCHEMA, verify_log, verify_store

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return write(tmp_path_factory.mktemp("snapshots") / "one", 300)


@pytest.fixture
def store(snapshot) -> MemoryStore:
    store = MemoryStore()
    publish_snapshot(store, snapshot, SECRET)
    return store


def key(number: int) -> str:
    return user_key(SECRET, f"user{number:05d}")


def vectors(store: MemoryStore) -> dict[bytes, bytes]:
    return store._vectors[store.pointer().current]


def test_a_store_that_holds_the_snapshot_has_no_skew(store, snapshot):
    for users in (None, 1, 7, 50, 299, 300, 10_000):
        skew = verify_store(store, snapshot, SECRET, users)
        assert (skew.ok, skew.differing) == (True, 0)
        assert users is None or min(users, 300) <= skew.compared <= min(users + 10, 300)


def test_a_sample_comes_from_the_whole_snapshot(store, snapshot):
    """So that a stretch of the rows that went wrong is found."""
    for number in range(100, 200):
        vectors(store)[field_of(key(number))] = b"...."
    assert verify_store(store, snapshot, SECRET, 30).differing > 5


def test_the_features_that_differ_are_named_for_whom_they_differ(store, snapshot):
    """One bit of one feature, of one user."""
    packed = bytearray(vectors(store)[field_of(key(42))])
    packed[4 + 4 * snapshot.schema.names.index("sessions")] ^= 1
    vectors(store)[field_of(key(42))] = bytes(packed)
    del vectors(store)[field_of(key(43))]
    vectors(store)[field_of(key(44))] = b"tag!" + bytes(packed)[4:]
    skew = verify_store(store, snapshot, SECRET, None)
    assert (skew.ok, skew.compared, skew.differing, skew.lost) == (False, 300, 3, 1)
    assert skew.by_feature == {"sessions": 1, ABSENT: 1, SCHEMA: 1}
    named = {one.user: one.features for one in skew.named}
    assert named == {key(42): ("sessions",), key(43): (ABSENT,), key(44): (SCHEMA,)}


def test_users_that_the_store_has_lost_are_skew_though_no_sample_has_them(store, snapshot):
    vectors(store).popitem()
    skew = verify_store(store, snapshot, SECRET, 1)
    assert (skew.lost, skew.ok) == (1, False)


def test_another_snapshot_or_secret_than_the_published_one_is_refused(store, snapshot, tmp_path):
    with pytest.raises(UserError, match="doesn't have the features of snapshot two"):
        verify_store(store, write(tmp_path / "two", 300, id="two"), SECRET)
    with pytest.raises(UserError, match="doesn't have the features of snapshot one"):
        verify_store(store, snapshot, b"another secret 16")
    with pytest.raises(UserError, match="it has none at all"):
        verify_store(MemoryStore(), snapshot, SECRET)


async def logged(store: MemoryStore, snapshot, number: int, user: str | None = None) -> DecisionRecord:
    user = user or key(number)
    facts = await store.read(user, snapshot.schema)
    decision = Decision(f"d{number}", "home", "r", (), Source.NONE, None, (), (), (), (), "", None)
    return DecisionRecord(Request(f"d{number}", user, "home", 1.8e9), facts, decision)


async def test_decisions_as_they_were_logged_have_no_skew(store, snapshot):
    records = [await logged(store, snapshot, number) for number in range(0, 300, 3)]
    skew = verify_log(records, [snapshot], SECRET)
    assert (skew.compared, skew.differing, skew.uncompared, skew.ok) == (100, 0, 0, True)


async def test_a_logged_value_that_is_not_the_snapshots_is_skew(store, snapshot):
    record = await logged(store, snapshot, 8)
    for features, names in (
        ({**record.facts.features, "sessions": 9}, ("sessions",)),
        ({name: value for name, value in record.facts.features.items() if name != "tier"}, ("tier",)),
        ({**record.facts.features, "minutes": record.facts.features["minutes"] * (1 + 2**-23)}, ("minutes",)),
    ):
        changed = replace(record, facts=replace(record.facts, features=features))
        skew = verify_log([record, changed], [snapshot], SECRET)
        assert (skew.compared, skew.differing, skew.ok) == (2, 1, False)
        assert [(one.user, one.features) for one in skew.named] == [(key(8), names)]


async def test_values_fresher_than_the_snapshot_are_left_out_and_counted(store, snapshot):
    await store.refresh(key(8), {"sessions": 77}, snapshot.as_of + 60.0)
    record = await logged(store, snapshot, 8)
    assert record.facts.features["sessions"] == 77
    skew = verify_log([record], [snapshot], SECRET)
    assert (skew.compared, skew.differing, skew.fresh) == (1, 0, 1)


async def test_decisions_without_features_or_snapshot_are_counted_and_not_compared(store, snapshot):
    nobody = await logged(store, snapshot, 1, user_key(SECRET, "a stranger"))
    old = await logged(store, snapshot, 2)
    old = replace(old, facts=replace(old.facts, as_of=snapshot.as_of - 86_400.0))
    gone = replace(nobody, facts=Facts({"sessions": 1}, snapshot.as_of))
    skew = verify_log([nobody, old, gone], [snapshot], SECRET)
    assert (skew.compared, skew.uncompared, skew.ok) == (0, 3, True)


async def test_of_two_snapshots_of_one_moment_a_decision_is_held_against_its_own(store, snapshot, tmp_path):
    rebuilt = write(tmp_path / "rebuilt", 300, id="rebuilt", shift=1)
    assert dict(snapshot_rows(rebuilt, SECRET)) != dict(snapshot_rows(snapshot, SECRET))
    record = await logged(store, snapshot, 8)
    for snapshots in ([snapshot, rebuilt], [rebuilt, snapshot]):
        assert verify_log([record], snapshots, SECRET).ok
    assert verify_log([record], [rebuilt], SECRET).by_feature == {"sessions": 1}

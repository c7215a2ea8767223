"""Values fresher than the snapshot: what streams report, and what users' own events add, on every twin of the store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event, Facts
from features.schema import Schema
from stores.online.port import OnlineStore
from stores.publishing.publish import publish

pytestmark = pytest.mark.anyio

SCHEMA = Schema(
    (
        FeatureSpec("tier", FeatureType.ENUM, values=("free", "premium")),
        FeatureSpec("minutes", FeatureType.FLOAT),
        FeatureSpec("owned", FeatureType.SET, values=("audiobooks", "hifi")),
        FeatureSpec("seen", FeatureType.INT, default=0, counts="impression"),
        FeatureSpec("dismissed", FeatureType.INT, counts="dismiss"),
    )
)
AS_OF = 1000.0
VALUES = {"tier": "free", "minutes": 2.5, "owned": frozenset({"hifi"}), "seen": 4}
SEEN = Event("e1", "impression", "d1", "annual", "ann", "home", at=AS_OF + 10.0)


@pytest.fixture
async def store(twin) -> AsyncIterator[OnlineStore]:
    publish_as_of(twin, AS_OF, VALUES)
    store = twin.store(refresh_seconds=0.0)
    yield store
    await store.close()


def publish_as_of(twin, as_of: float, values) -> None:
    rows = [("ann", SCHEMA.pack(values))]
    publish(twin.shelf, rows, schema=SCHEMA, as_of=as_of, snapshot_id=token_hex(4), count=1)


async def read(store: OnlineStore, user: str = "ann") -> Facts:
    return await store.read(user, SCHEMA)


async def test_a_later_value_wins_over_the_snapshot_and_is_named_with_its_moment(store):
    assert await store.refresh("ann", {"tier": "premium", "owned": frozenset({"audiobooks"})}, AS_OF + 5.0) == 2
    facts = await read(store)
    assert facts.features == {**VALUES, "tier": "premium", "owned": frozenset({"audiobooks"})}
    assert facts.fresh == {"tier": AS_OF + 5.0, "owned": AS_OF + 5.0}
    assert facts.as_of == AS_OF
    assert (await read(store, "bob")).features == {}


@pytest.mark.parametrize("at", [AS_OF - 5.0, AS_OF])
async def test_a_value_that_is_no_later_than_the_snapshot_loses(store, at):
    assert await store.refresh("ann", {"tier": "premium"}, at) == 1
    facts = await read(store)
    assert (facts.features, facts.fresh) == (VALUES, {})


async def test_the_next_snapshot_takes_over(twin, store):
    await store.refresh("ann", {"tier": "premium"}, AS_OF + 5.0)
    await store.apply(SEEN)
    assert (await read(store)).features["seen"] == 5
    publish_as_of(twin, AS_OF + 100.0, {**VALUES, "seen": 7})
    facts = await read(store)
    assert (facts.features, facts.fresh) == ({**VALUES, "seen": 7}, {})


async def test_in_whatever_order_values_come_the_latest_stays(store):
    for at, tier in ((AS_OF + 5.0, "free"), (AS_OF + 9.0, "premium"), (AS_OF + 7.0, "free"), (AS_OF + 9.0, "free")):
        await store.refresh("ann", {"tier": tier}, at)
    facts = await read(store)
    assert (facts.features["tier"], facts.fresh) == ("premium", {"tier": AS_OF + 9.0})


async def test_each_feature_has_a_moment_of_its_own(store):
    await store.refresh("ann", {"tier": "premium", "minutes": 3.5}, AS_OF + 9.0)
    assert await store.refresh("ann", {"tier": "free", "seen": 9}, AS_OF + 7.0) == 1
    facts = await read(store)
    assert facts.features == {**VALUES, "tier": "premium", "minutes": 3.5, "seen": 9}
    assert facts.fresh == {"tier": AS_OF + 9.0, "minutes": AS_OF + 9.0, "seen": AS_OF + 7.0}


async def test_a_user_whom_no_snapshot_knows_has_what_is_fresh(store):
    await store.refresh("bob", {"tier": "premium"}, 5.0)
    facts = await read(store, "bob")
    assert facts.features == {}, "older than the snapshot in which bob is not"
    await store.refresh("bob", {"tier": "premium"}, AS_OF + 5.0)
    facts = await read(store, "bob")
    assert (facts.features, facts.as_of, facts.degraded) == ({"tier": "premium"}, None, ("features:unknown_user",))


async def test_values_are_rounded_as_a_snapshot_would_and_unknown_features_ignored(store):
    await store.refresh("ann", {"minutes": 0.1, "unheard_of": 1}, AS_OF + 5.0)
    facts = await read(store)
    assert facts.features["minutes"] == SCHEMA.unpack(SCHEMA.pack({"minutes": 0.1}))["minutes"] != 0.1
    assert facts.degraded == ()


@pytest.mark.parametrize(
    "values",
    [{"tier": "gold"}, {"tier": 1}, {"minutes": "many"}, {"minutes": float("inf")}, {"owned": frozenset({"car"})},
     {"seen": 2.5}, {"seen": True}, {"minutes": 1e300}],
)  # fmt: skip
async def test_a_value_that_its_feature_can_not_have_is_ignored_and_counted(store, values):
    await store.refresh("ann", {**values, "dismissed": 3}, AS_OF + 5.0)
    facts = await read(store)
    assert facts.features == {**VALUES, "dismissed": 3}
    assert facts.degraded == ("fresh:corrupt:1",)
    assert facts.fresh == {"dismissed": AS_OF + 5.0}


# --- Counting on


async def test_an_event_since_the_snapshot_adds_one_to_the_features_that_count_it(store):
    await store.apply(SEEN)
    await store.apply(replace(SEEN, event_id="e2", type="click"))
    facts = await read(store)
    assert facts.features == {**VALUES, "seen": 5}
    assert facts.fresh == {"seen": AS_OF}, "it counts on from the snapshot, and is as old as that"


async def test_an_event_before_the_snapshot_is_in_the_snapshot_already(store):
    await store.apply(replace(SEEN, at=AS_OF - 0.001))
    assert (await read(store)).features == VALUES
    await store.apply(replace(SEEN, event_id="e2", at=AS_OF))
    assert (await read(store)).features["seen"] == 5, "a snapshot knows of what was before its moment"


async def test_an_event_that_is_reported_again_adds_nothing(store):
    for _ in range(3):
        await store.apply(SEEN)
    assert (await read(store)).features["seen"] == 5


async def test_a_count_goes_on_from_a_streams_value_too(store):
    await store.apply(SEEN)
    await store.apply(replace(SEEN, event_id="e2", at=AS_OF + 30.0))
    await store.refresh("ann", {"seen": 11}, AS_OF + 20.0)
    facts = await read(store)
    assert (facts.features["seen"], facts.fresh) == (12, {"seen": AS_OF + 20.0})


async def test_a_count_without_a_value_begins_at_its_default_and_without_one_not_at_all(store):
    for number, kind in enumerate(["impression", "impression", "dismiss"]):
        await store.apply(replace(SEEN, event_id=f"e{number}", type=kind, user="bob"))
    assert (await read(store, "bob")).features == {"seen": 2}


async def test_what_a_decision_showed_itself_is_not_counted_where_it_is_asked_for_again(store):
    await store.apply(SEEN)
    assert (await store.read("ann", SCHEMA, own="d1")).features["seen"] == 4
    assert (await store.read("ann", SCHEMA, own="d2")).features["seen"] == 5


CAME = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(0, 4), st.integers(-2, 6)),
        st.tuples(st.just("value"), st.integers(0, 9), st.integers(-2, 6)),
    ),
    max_size=8,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CAME, st.randoms(use_true_random=True))
async def test_repeated_and_reordered_they_come_to_the_same(twin, store, came, shuffle):
    """Of two values for one moment the first stays: so each moment has one value here."""
    came = list({(what, at if what == "value" else one): (what, one, at) for what, one, at in came}.values())
    user = token_hex(8)
    publish(
        twin.shelf, [(user, SCHEMA.pack({"seen": 100}))], schema=SCHEMA, as_of=AS_OF, snapshot_id=token_hex(4), count=1
    )
    arrivals = came + [one for one in came if shuffle.random() < 0.5]
    shuffle.shuffle(arrivals)
    for what, one, at in arrivals:
        if what == "value":
            await store.refresh(user, {"seen": one}, AS_OF + at)
        else:
            await store.apply(replace(SEEN, event_id=f"e{one}", user=user, at=AS_OF + at))
    base, since = max(
        ((100, 0), *((one, at) for what, one, at in came if what == "value" and at > 0)), key=lambda b: b[1]
    )
    more = sum(what == "event" and at >= since for what, _, at in came)
    assert (await store.read(user, SCHEMA)).features["seen"] == base + more

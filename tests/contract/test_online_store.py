"""What every online store must do, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event, Facts, HistoryEvent
from features.schema import Schema
from stores.online.port import HISTORY_SECONDS, OnlineStore
from stores.publishing.publish import publish

pytestmark = pytest.mark.anyio

SCHEMA = Schema(
    (
        FeatureSpec("tier", FeatureType.ENUM, values=("free", "premium")),
        FeatureSpec("sessions_7d", FeatureType.INT),
        FeatureSpec("owned", FeatureType.SET, values=("audiobooks", "hifi")),
    )
)
OTHER = Schema((FeatureSpec("tier", FeatureType.ENUM, values=("free", "basic", "premium")),))
VALUES = {"tier": "premium", "sessions_7d": 3, "owned": frozenset({"hifi"})}
IMPRESSION = Event("e1", "impression", "d1", "annual", "ann", "home", at=1000.0)


@pytest.fixture
async def store(twin) -> AsyncIterator[OnlineStore]:
    store = twin.store()
    yield store
    await store.close()


def publish_one(twin, packed: bytes) -> None:
    publish(twin.shelf, [("ann", packed)], schema=SCHEMA, as_of=900.0, snapshot_id=token_hex(4), count=1)


async def test_an_empty_store_says_that_no_features_are_published(store):
    assert await store.read("ann", SCHEMA) == Facts(degraded=("features:unpublished",))


async def test_a_published_user_is_read_back_with_the_moment_that_the_values_describe(twin, store):
    publish_one(twin, SCHEMA.pack(VALUES))
    assert await store.read("ann", SCHEMA) == Facts(features=VALUES, as_of=900.0)


async def test_an_unknown_user_has_no_features_and_says_so(twin, store):
    publish_one(twin, SCHEMA.pack(VALUES))
    assert await store.read("bob", SCHEMA) == Facts(degraded=("features:unknown_user",))


async def test_a_vector_of_another_schema_counts_as_missing(twin, store):
    publish_one(twin, SCHEMA.pack(VALUES))
    assert await store.read("ann", OTHER) == Facts(degraded=("features:schema",))


@pytest.mark.parametrize("packed", [b"", b"short", SCHEMA.pack(VALUES)[:-1], SCHEMA.pack(VALUES) + b"\0" * 4])
async def test_a_damaged_vector_counts_as_missing(twin, store, packed):
    publish_one(twin, packed)
    assert await store.read("ann", SCHEMA) == Facts(degraded=("features:corrupt",))


async def test_an_event_enters_the_history_of_its_user_and_of_nobody_else(store):
    assert await store.apply(IMPRESSION)
    assert (await store.read("ann", SCHEMA)).history == (HistoryEvent("impression", "annual", "home", 1000.0),)
    assert (await store.read("bob", SCHEMA)).history == ()


async def test_an_event_applied_again_changes_nothing(store):
    assert await store.apply(IMPRESSION, ["push"])
    before = await store.read("ann", SCHEMA, ["push"])
    assert not await store.apply(replace(IMPRESSION, at=2000.0), ["push"])
    assert await store.read("ann", SCHEMA, ["push"]) == before
    assert before.budgets == {"push": 1}


async def test_an_event_sent_many_times_at_once_counts_once(store):
    applied = await asyncio.gather(*(store.apply(IMPRESSION, ["push"]) for _ in range(20)))
    assert sorted(applied) == [False] * 19 + [True]
    assert (await store.read("ann", SCHEMA, ["push"])).budgets == {"push": 1}


async def test_only_the_budgets_asked_for_are_read_and_an_unspent_one_is_zero(store):
    await store.apply(IMPRESSION, ["push", "winter"])
    assert (await store.read("ann", SCHEMA, ["winter", "spring"])).budgets == {"winter": 1, "spring": 0}
    assert (await store.read("ann", SCHEMA)).budgets == {}


async def test_a_full_history_keeps_the_newest_events(store):
    for number in (3, 1, 7, 5, 2, 6, 4):
        await store.apply(replace(IMPRESSION, event_id=f"e{number}", at=float(number)))
    assert [event.at for event in (await store.read("ann", SCHEMA)).history] == [3.0, 4.0, 5.0, 6.0, 7.0]


async def test_an_event_that_no_longer_fits_the_history_is_still_counted_once(store):
    for number in range(7):
        await store.apply(replace(IMPRESSION, event_id=f"e{number}", at=float(number)), ["push"])
    assert not await store.apply(replace(IMPRESSION, event_id="e0", at=0.0), ["push"])
    assert (await store.read("ann", SCHEMA, ["push"])).budgets == {"push": 7}


async def test_an_event_older_than_a_full_history_remembers_is_not_applied(store):
    for number in range(5):
        await store.apply(replace(IMPRESSION, event_id=f"e{number}", at=HISTORY_SECONDS + 10.0 + number), ["push"])
    assert not await store.apply(replace(IMPRESSION, event_id="late", at=1.0), ["push"])
    assert not await store.apply(replace(IMPRESSION, event_id="late", at=1.0), ["push"])
    assert (await store.read("ann", SCHEMA, ["push"])).budgets == {"push": 5}


async def test_a_dismissal_outlasts_any_number_of_impressions(store):
    await store.apply(replace(IMPRESSION, event_id="d", type="dismiss", at=1.0))
    await store.apply(replace(IMPRESSION, event_id="c", type="convert", at=2.0))
    for number in range(20):
        await store.apply(replace(IMPRESSION, event_id=f"e{number}", at=10.0 + number))
    history = (await store.read("ann", SCHEMA)).history
    assert [(event.type, event.at) for event in history] == [
        *[("dismiss", 1.0), ("convert", 2.0)],
        *[("impression", at) for at in (27.0, 28.0, 29.0)],
    ]


async def test_where_a_user_did_much_impressions_still_have_half_of_the_history(store):
    for number in range(20):
        await store.apply(replace(IMPRESSION, event_id=f"d{number}", type="dismiss", at=100.0 + number))
    for number in range(20):
        await store.apply(replace(IMPRESSION, event_id=f"e{number}", at=float(number)))
    history = (await store.read("ann", SCHEMA)).history
    assert [event.at for event in history] == [17.0, 18.0, 19.0, 118.0, 119.0]


TIMES = st.one_of(st.integers(0, 5).map(float), st.floats(0, 1e6))
LIMIT = 5
"""How many events the twins keep."""


def kept(moments: list[tuple[int, str, float]]) -> set[int]:
    """The numbers of the events that a history holds, told from all that ever came."""
    newest = sorted(moments, key=lambda one: (one[2], f"e{one[0]}"), reverse=True)
    passing = [number for number, kind, _ in newest if kind != "dismiss"]
    lasting = [number for number, kind, _ in newest if kind == "dismiss"]
    room = min(len(lasting), max(LIMIT // 2, LIMIT - len(passing)))
    return {*lasting[:room], *passing[: LIMIT - room]}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["click", "decision", "dismiss"]), TIMES), max_size=14),
    st.randoms(use_true_random=True),
)
async def test_repeated_and_reordered_events_end_in_the_same_state(twin, moments, shuffle):
    moments = list({number: (number, kind, at) for number, kind, at in moments}.values())
    store = twin.store()
    try:
        states = []
        for _ in range(2):
            user, budget = token_hex(8), token_hex(4)
            events = [Event(f"e{n}", kind, "d", f"o{n}", user, "home", at) for n, kind, at in moments]
            arrivals = events + [event for event in events if shuffle.random() < 0.5]
            shuffle.shuffle(arrivals)
            for event in arrivals:
                await store.apply(event, [budget])
            facts = await store.read(user, SCHEMA, [budget])
            states.append((facts.history, facts.budgets[budget]))
        assert states[0] == states[1]
        assert {event.offer for event in states[0][0]} == {f"o{number}" for number in kept(moments)}
        assert states[0][1] == len(moments)
    finally:
        await store.close()


async def test_a_killed_offer_is_seen_at_once_and_can_be_revived(twin, store):
    other = twin.store()
    await store.kill("annual")
    assert (await other.read("ann", SCHEMA)).killed == {"annual"}
    await store.revive("annual")
    assert (await other.read("ann", SCHEMA)).killed == frozenset()
    await other.close()


async def test_what_a_decision_showed_is_left_out_where_that_decision_is_asked_for_again(store):
    await store.apply(IMPRESSION)
    await store.apply(replace(IMPRESSION, event_id="e2", type="decision"))
    await store.apply(replace(IMPRESSION, event_id="e3", type="dismiss"))
    await store.apply(replace(IMPRESSION, event_id="e4", decision_id="d2"))
    history = (await store.read("ann", SCHEMA, own="d1")).history
    assert sorted(event.type for event in history) == ["dismiss", "impression"]
    assert len((await store.read("ann", SCHEMA)).history) == 4


async def test_an_answer_is_remembered_for_its_user_and_decision_alone(store):
    assert await store.recall("ann", "d1") is None
    assert await store.remember("ann", "d1", b"\x00first", 60.0) is None
    assert await store.recall("ann", "d1") == b"\x00first"
    assert await store.recall("bob", "d1") is None
    assert await store.recall("ann", "d2") is None


async def test_of_two_answers_to_one_decision_the_first_stays_and_the_other_learns_of_it(twin, store):
    other = twin.store()
    assert await store.remember("ann", "d1", b"first", 60.0) is None
    assert await other.remember("ann", "d1", b"second", 60.0) == b"first"
    assert await store.recall("ann", "d1") == b"first"
    assert await other.remember("ann", "d1", b"second", 60.0, instead_of=b"first") is None
    assert await store.remember("ann", "d1", b"third", 60.0, instead_of=b"first") == b"second"
    await other.close()


async def test_an_answer_is_forgotten_when_its_time_has_passed(twin, store):
    await store.remember("ann", "d1", b"first", 0.05)
    twin.clock.now += 0.1
    await asyncio.sleep(0.1)
    assert await store.recall("ann", "d1") is None
    assert await store.remember("ann", "d1", b"second", 60.0, instead_of=b"first") is None


async def test_facts_and_the_answer_remembered_are_read_at_once(store):
    """Of the decision itself what it showed is left out, as when it is read with `own`."""
    own, other = (
        Event(f"e-{decision}", "impression", decision, "annual", "ann", "home", at=1000.0) for decision in ("d1", "d2")
    )
    for event in (own, other):
        assert await store.apply(event, ["push"])
    assert await store.read_again("ann", SCHEMA, ["push"], "d1") == (
        await store.read("ann", SCHEMA, ["push"], "d1"),
        None,
    )
    assert await store.remember("ann", "d1", b"\x00first", 60.0) is None
    facts, answer = await store.read_again("ann", SCHEMA, ["push"], "d1")
    assert (len(facts.history), facts.budgets, answer) == (1, {"push": 2}, b"\x00first")
    assert (await store.read_again("ann", SCHEMA, (), "d2"))[1] is None

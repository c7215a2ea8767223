"""Fresh values from a file: all of it is checked first, and what is wrong is said with its line."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from namespaces import namespace

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.identity import user_key
from features.schema import Schema
from stores.online.redis_store import RedisStore
from stores.publishing.refreshing import Refreshed, refresh_from

SCHEMA = Schema(
    (
        FeatureSpec("tier", FeatureType.ENUM, values=("free", "premium")),
        FeatureSpec("sessions_7d", FeatureType.INT),
        FeatureSpec("owned", FeatureType.SET, values=("audiobooks", "hifi")),
        FeatureSpec("last_paid_at", FeatureType.TIME),
    )
)
SECRET = bytes(32)
NOW = 1_800_000_000.0


@pytest.fixture
def own(valkey_url) -> Iterator[str]:
    with namespace(valkey_url) as name:
        yield name


@pytest.fixture
def refresh(valkey_url, own, tmp_path):
    """Writes lines to a file, and stores what it holds."""

    def from_lines(*lines: object) -> Refreshed:
        file = tmp_path / "values.jsonl"
        file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return refresh_from(file, valkey_url, own, SCHEMA, SECRET, NOW)

    return from_lines


@pytest.fixture
def read(valkey_url, own):
    async def ask(user: str):
        store = RedisStore(valkey_url, timeout=5.0, namespace=own)
        try:
            return await store.read(user_key(SECRET, user), SCHEMA)
        finally:
            await store.close()

    return lambda user: asyncio.run(ask(user))


def line(user: str = "ann", at: object = NOW - 60.0, **values: object) -> dict:
    return {"user_id": user, "at": at, "values": values}


def test_values_of_many_users_are_stored_and_read(refresh, read):
    lines = [line(f"user{number}", sessions_7d=number) for number in range(100)]
    assert refresh(*lines, "", line("ann", tier="premium", owned=["hifi"])) == Refreshed(101, 102, 102)
    assert read("user42").features == {"sessions_7d": 42}
    assert read("ann").features == {"tier": "premium", "owned": frozenset({"hifi"})}
    assert read("ann").fresh == {"tier": NOW - 60.0, "owned": NOW - 60.0}


def test_the_same_file_again_changes_nothing(refresh):
    assert refresh(line(sessions_7d=3)).taken == 1
    assert refresh(line(sessions_7d=3)) == Refreshed(1, 1, 0)


def test_moments_may_be_written_with_their_zone_or_as_seconds(refresh, read):
    refresh(line("ann", "2026-11-20T12:00:00+01:00", last_paid_at="2026-11-20T11:00:30Z"))
    facts = read("ann")
    assert facts.fresh == {"last_paid_at": 1_795_172_400.0}
    assert facts.features == {"last_paid_at": 1_795_172_400.0}, "whole minutes, as in a snapshot"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("not json", "line 2: JSON is malformed"),
        ('{"user_id": "ann", "at": 1}', "line 2: .*missing required field `values`"),
        ('{"user_id": "ann", "at": 1, "values": {}, "extra": 1}', "line 2: .*unknown field `extra`"),
        (line(user=""), "line 2: user_id is empty"),
        (line(at="2026-11-20T12:00:00"), "line 2: the time needs its zone"),
        (line(at="yesterday"), "line 2: Invalid RFC3339"),
        (line(at=NOW * 1000), r"line 2: the time is in the future: .*\(not milliseconds\)"),
        (line(at=NOW + 3600.0), "line 2: the time is in the future"),
        (line(sessions_9d=1), 'line 2: the snapshot has no feature "sessions_9d". Did you mean "sessions_7d"'),
        (line(sessions_7d="many"), "line 2: sessions_7d is declared int, and can't be 'many'"),
        (line(sessions_7d=2.5), "line 2: sessions_7d is declared int, and can't be 2.5"),
        (line(sessions_7d=True), "line 2: sessions_7d is declared int, and can't be True"),
        (line(sessions_7d=None), "line 2: sessions_7d is declared int, and can't be None"),
        (line(sessions_7d=[1]), "line 2: sessions_7d is declared int"),
        (line(tier="gold"), "line 2: tier is declared enum, and can't be 'gold'"),
        (line(owned=["car"]), "line 2: owned has no car"),
        (line(owned=[1]), "line 2: owned is declared set, and can't be"),
        (line(last_paid_at="soon"), "line 2: Invalid RFC3339"),
    ],
)
def test_one_wrong_line_is_said_and_nothing_at_all_is_stored(refresh, read, wrong, why):
    with pytest.raises(UserError, match=why):
        refresh(line("bob", sessions_7d=1), wrong)
    assert read("bob").features == {}


def test_a_file_that_is_not_there_or_holds_nothing_is_said(refresh, valkey_url, own, tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        refresh_from(tmp_path / "none.jsonl", valkey_url, own, SCHEMA, SECRET, NOW)
    with pytest.raises(UserError, match="holds no values"):
        refresh("", "")


def test_a_store_that_is_down_is_said(tmp_path):
    file = tmp_path / "values.jsonl"
    file.write_text(json.dumps(line(sessions_7d=1)))
    with pytest.raises(UserError, match="refresh again when it is up"):
        refresh_from(file, f"unix://{tmp_path}/nobody.sock", "n", SCHEMA, SECRET, NOW)

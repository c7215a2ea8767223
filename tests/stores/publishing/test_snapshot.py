"""Snapshots on disk as they are published: every row once, from wherever, and damaged ones told."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_snapshots import SCHEMA, SECRET, write

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from decisioning.identity import user_key
from features import packing
from features.schema import Schema
from features.snapshot_files import Snapshot, write_manifest
from features.snapshots import snapshot_rows
from stores.home import Home
from stores.online.layout import field_of
from stores.online.memory_store import MemoryStore
from stores.publishing.home import publish_features, roll_features_back
from stores.publishing.publish import published
from stores.publishing.snapshot import SnapshotRows, publication, publish_snapshot
from stores.releases import ReleaseStore


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> Snapshot:
    """Of three parts, each with several row groups."""
    folder = tmp_path_factory.mktemp("snapshots") / "one"
    whole = write(folder, 500)
    table = pq.read_table(folder / "part-00000.parquet")
    for number, (start, rows) in enumerate([(0, 200), (200, 190), (390, 110)]):
        pq.write_table(table.slice(start, rows), folder / f"part-{number:05d}.parquet", row_group_size=60)
    told = {**whole.manifest, "parts": [f"part-{number:05d}.parquet" for number in range(3)]}
    write_manifest(folder, told)
    return Snapshot(folder, told)


def rows_of(snapshot: Snapshot, *span: int | None) -> list[tuple[bytes, bytes]]:
    blocks = SnapshotRows(snapshot, SECRET).blocks(*span)
    return [(one, bytes(row)) for block in blocks for one, row in zip(block.fields, block.vectors, strict=True)]


def test_the_rows_of_a_snapshot_are_those_of_its_frame(snapshot):
    assert rows_of(snapshot) == [(field_of(user), packed) for user, packed in snapshot_rows(snapshot, SECRET)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 520), st.none() | st.integers(0, 520), st.integers(5, 300))
def test_any_stretch_of_rows_is_that_stretch_of_all(snapshot, start, stop, block):
    everything = rows_of(snapshot)
    before = packing.BLOCK_ROWS
    packing.BLOCK_ROWS = block
    try:
        assert rows_of(snapshot, start, stop) == everything[start:stop]
    finally:
        packing.BLOCK_ROWS = before


def spoil(part: Path, how: str) -> None:
    content = bytearray(part.read_bytes())
    match how:
        case "cut":
            part.write_bytes(content[: len(content) // 2])
        case "gone":
            part.unlink()
        case "a byte":
            content[len(content) // 3] ^= 0xFF
            part.write_bytes(content)
        case "another type":
            table = pq.read_table(part)
            sessions = pa.array([f"{number} times" for number in range(len(table))])
            pq.write_table(table.set_column(table.schema.get_field_index("sessions"), "sessions", sessions), part)
        case "a column less":
            pq.write_table(pq.read_table(part).drop_columns(["tier"]), part)


@pytest.mark.parametrize("how", ["cut", "gone", "a byte", "another type", "a column less"])
def test_a_part_that_is_damaged_is_named_and_the_features_in_use_stay(tmp_path, how):
    shelf = MemoryStore()
    publish_snapshot(shelf, write(tmp_path / "one", 300), SECRET)
    two = write(tmp_path / "two", 300, id="two")
    spoil(two.path / "part-00000.parquet", how)
    with pytest.raises(UserError, match=r"part-00000\.parquet can't be read .*build the snapshot again"):
        publish_snapshot(shelf, two, SECRET)
    assert published(shelf).name == publication(write(tmp_path / "again", 300), SECRET)


def test_a_damage_that_leaves_the_number_of_rows_wrong_is_refused(tmp_path):
    snapshot = write(tmp_path / "one", 300)
    part = snapshot.path / "part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 299), part)
    with pytest.raises(UserError, match="says it has 300 users, but 299 arrived"):
        publish_snapshot(MemoryStore(), snapshot, SECRET)


def test_the_same_snapshot_under_another_secret_is_another_publication(tmp_path):
    shelf, snapshot = MemoryStore(), write(tmp_path / "one", 50)
    assert publish_snapshot(shelf, snapshot, SECRET).changed
    assert publish_snapshot(shelf, snapshot, b"another secret 16").changed
    assert shelf.vector(user_key(b"another secret 16", "user00007"))[1] is not None


def test_progress_is_told_in_users_written_and_all_there_are(tmp_path):
    told = []
    publish_snapshot(MemoryStore(), write(tmp_path / "one", 50), SECRET, progress=lambda *now: told.append(now))
    assert (told[0], told[-1]) == ((0, 50), (50, 50))


OTHER = Schema(
    (
        FeatureSpec("minutes", FeatureType.INT),
        FeatureSpec("sessions", FeatureType.INT),
        FeatureSpec("visits", FeatureType.INT),
    )
)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def use(home: Home, schema: Schema) -> None:
    """A release that reads these features is in use from now on."""
    releases, by = ReleaseStore(home.releases), {"who": "ann", "why": "a test", "now": 1000.0}
    release = releases.publish({"schema.json": json.dumps(schema.to_json()).encode()}, **by)
    releases.activate(release, expected=releases.current(), **by)


def make_current(home: Home, name: str, schema: Schema) -> None:
    write(home.snapshots / name, 60, schema, id=name)
    (home.snapshots / "current").write_text(name)


def test_features_that_the_release_in_use_does_not_read_are_refused_unless_that_is_meant(home, valkey_url, monkeypatch):
    monkeypatch.setenv("SEGUE_NAMESPACE", f"test-{home.path.parent.name}")
    make_current(home, "one", OTHER)
    use(home, SCHEMA)
    with pytest.raises(UserError) as error:
        publish_features(home, valkey_url, lambda *_: None)
    for words in ("lacks tier", "adds visits", "changes the type or values of minutes", "--other-schema"):
        assert words in str(error.value)
    assert published(valkey_url, namespace=home.namespace) is None
    assert publish_features(home, valkey_url, lambda *_: None, other_schema=True)["changed"]


def test_a_release_that_reads_these_features_or_none_at_all_lets_them_pass(home, valkey_url, monkeypatch):
    monkeypatch.setenv("SEGUE_NAMESPACE", f"test-{home.path.parent.name}")
    make_current(home, "one", SCHEMA)
    assert publish_features(home, valkey_url, lambda *_: None)["users"] == 60
    use(home, SCHEMA)
    assert not publish_features(home, valkey_url, lambda *_: None)["changed"]


def test_rolling_back_to_features_that_the_release_does_not_read_is_refused_unless_that_is_meant(
    home, valkey_url, monkeypatch
):
    monkeypatch.setenv("SEGUE_NAMESPACE", f"test-{home.path.parent.name}")
    for name, schema in (("one", OTHER), ("two", SCHEMA)):
        make_current(home, name, schema)
        publish_features(home, valkey_url, lambda *_: None)
    use(home, SCHEMA)
    with pytest.raises(UserError, match="can't read the earlier features"):
        roll_features_back(home, valkey_url)
    assert roll_features_back(home, valkey_url, other_schema=True)["snapshot"].startswith("one-")

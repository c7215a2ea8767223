"""Releases never change, are used only when whole, and move by compare-and-set with a history."""

import json
import threading
from pathlib import Path

import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Facts, Request
from decisioning.engine import decide
from decisioning.errors import UserError
from features.schema import Schema
from models.artifact import Means, Model, save
from models.crossing import Traits
from models.encoding import Encoding
from models.predictors import Constant
from stores.releases import ReleaseStore

CATALOG = b"""
features:
  sessions_7d: {type: int}
surfaces:
  banner: {slots: 1, fallback: poster}
offers:
  annual: {owner: growth, group: upgrade, surfaces: [banner], score: {model: upsell, value: 40.0}}
  poster: {owner: merch, group: fallback, surfaces: [banner], score: {value: 1.0}}
exploration: {uniform: 0.0}
"""
SCHEMA = Schema((FeatureSpec("sessions_7d", FeatureType.INT),))
BY = {"who": "ann", "why": "a test", "now": 1000.0}


@pytest.fixture
def store(tmp_path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases")


def contents(text: bytes = b"") -> dict[str, bytes]:
    model = Model(
        name="upsell",
        version=3,
        learner="constant",
        outcome="convert",
        encoding=Encoding((), ("banner",), (Traits("annual", "upgrade", {}),)),
        means=Means({"banner": {"annual": 0.25}}, {"annual": 0.25}, {"upgrade": 0.25}, 0.25),
        uplift=False,
        shrinkage=0.0,
        predictor=Constant(),
    )
    return {
        "catalog/all.yaml": CATALOG,
        "catalog/offers/more.yaml": b"# " + text + b"\n",
        "schema.json": json.dumps(SCHEMA.to_json()).encode(),
        **{f"models/upsell/{name}": content for name, content in save(model).items()},
    }


def publish(store: ReleaseStore, text: bytes = b"") -> str:
    return store.publish(contents(text), **BY)


def activate(store: ReleaseStore, *texts: bytes) -> list[str]:
    """Publish and activate releases one after another."""
    releases = [publish(store, text) for text in texts]
    for release in releases:
        store.activate(release, expected=store.current(), **BY)
    return releases


def test_a_published_release_loads_and_decides(store):
    release = store.load(publish(store))
    decision = decide(release, Request("d1", "ann", "banner", now=1000.0), Facts())
    assert (decision.first, decision.release) == ("annual", release.id)
    assert release.scorers["upsell"].label == "upsell/3"
    assert (dict(release.challengers), release.salt) == ({}, "segue")
    assert store.schema(release.id) == SCHEMA


def test_a_challenger_is_loaded_beside_the_champion(store):
    files = contents()
    files |= {name.replace("models/", "challengers/"): files[name] for name in files if name.startswith("models/")}
    assert store.load(store.publish(files, **BY)).challengers["upsell"].label == "upsell/3"


def test_a_release_without_models_decides_by_rules(store):
    files = {name: content for name, content in contents().items() if not name.startswith("models/")}
    assert store.load(store.publish(files, **BY)).scorers == {}


def test_the_same_content_is_the_same_release_and_is_not_written_again(store, tmp_path):
    release = publish(store)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert store.publish(contents(), who="bob", why="again", now=2000.0) == release
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert publish(store, b"other") != release
    assert store.publish(contents(), salt="other", **BY) != release


def test_a_published_release_is_not_in_use_before_it_is_activated(store):
    release = publish(store)
    assert store.current() is None
    store.activate(release, expected=None, **BY)
    assert store.current() == release


def test_the_pointer_does_not_move_when_somebody_else_moved_it(store):
    first, second = activate(store, b"1", b"2")
    with pytest.raises(UserError, match=f"in use is {second}, not {first}"):
        store.activate(publish(store, b"3"), expected=first, **BY)
    with pytest.raises(UserError, match="not none"):
        store.activate(first, expected=None, **BY)
    assert store.current() == second


def test_of_many_that_activate_at_once_one_wins(store):
    (first,) = activate(store, b"0")
    releases = [publish(store, b"%d" % number) for number in range(1, 9)]
    won = []

    def try_one(release: str) -> None:
        try:
            store.activate(release, expected=first, **BY)
            won.append(release)
        except UserError:
            pass

    threads = [threading.Thread(target=try_one, args=(release,)) for release in releases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.current()]
    assert len(store.history()) == 2


def test_the_history_says_who_moved_the_pointer_when_and_why(store):
    first, second = activate(store, b"1", b"2")
    store.rollback("bob", "conversions fell", 3000.0)
    assert [(move.action, move.release, move.before, move.who, move.why, move.at) for move in store.history()] == [
        ("activate", first, None, "ann", "a test", 1000.0),
        ("activate", second, first, "ann", "a test", 1000.0),
        ("rollback", first, second, "bob", "conversions fell", 3000.0),
    ]


def test_rolling_back_twice_goes_back_twice_and_no_further_than_the_first(store):
    first, second, _ = activate(store, b"1", b"2", b"3")
    assert store.rollback(**BY) == second
    assert store.rollback(**BY) == first == store.current()
    with pytest.raises(UserError, match="no earlier release"):
        store.rollback(**BY)


def test_activating_the_release_in_use_again_changes_nothing(store):
    first, second = activate(store, b"1", b"2")
    store.activate(second, expected=second, **BY)
    assert len(store.history()) == 2
    assert store.rollback(**BY) == first


def test_a_release_activated_again_after_a_rollback_rolls_back_to_the_same_one(store):
    first, second = activate(store, b"1", b"2")
    store.rollback(**BY)
    store.activate(second, expected=first, **BY)
    assert store.rollback(**BY) == first


FILES = ["manifest.json", *contents()]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_file_is_refused_by_name_and_the_pointer_stays(store, tmp_path, name, damage):
    (good,) = activate(store, b"good")
    release = publish(store, b"to be damaged")
    file: Path = tmp_path / "releases" / release / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else file.read_bytes()[:-1])
    for use in (store.files, store.load, store.schema):
        with pytest.raises(UserError, match=name.rsplit("/", 1)[-1]):
            use(release)
    with pytest.raises(UserError):
        store.activate(release, expected=good, **BY)
    assert store.current() == good


def test_a_rollback_to_a_damaged_release_is_refused(store, tmp_path):
    first, second = activate(store, b"1", b"2")
    (tmp_path / "releases" / first / "schema.json").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"schema\.json is damaged"):
        store.rollback(**BY)
    assert store.current() == second


@pytest.mark.parametrize("release", ["", ".", "..", "0" * 15, "../" + "0" * 16, "0123456789ABCDEF"])
def test_what_is_no_id_is_refused(store, release):
    publish(store)
    with pytest.raises(UserError, match="is no release"):
        store.load(release)


def test_a_release_that_is_not_there_is_refused(store):
    with pytest.raises(UserError, match="can't be read"):
        store.activate("0123456789abcdef", expected=None, **BY)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "catalog/../../outside", "manifest.json", ""])
def test_a_file_that_would_leave_the_release_is_refused(store, tmp_path, name):
    with pytest.raises(UserError, match="can't hold a file named"):
        store.publish({name: b""}, **BY)
    assert not list(tmp_path.rglob("*"))


def test_a_failed_publication_leaves_nothing(store, tmp_path):
    with pytest.raises(UserError, match="can't be written"):
        store.publish({"a": b"", "a name too long for a file" * 20: b""}, **BY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]

"""The runtime: it follows the current release, and a bad one changes nothing."""

import asyncio
import gc
import resource
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import phones
import pytest
import structlog
from bad_catalogs import BAD, GOOD

from decisioning.engine import Release
from decisioning.errors import UserError
from serving import runtime as module
from serving.runtime import NOTHING_LOADED, prepared
from stores.releases import ReleaseStore


class Shelf:
    """A release store whose pointer and content are set by hand."""

    def __init__(self) -> None:
        self.pointer: str | None = None
        self.holds: dict[str, Release | Exception] = {}
        self.loads: list[str] = []
        self.threads: set[int] = set()

    def current(self) -> str | None:
        return self.pointer

    def load(self, release_id: str) -> Release:
        self.loads.append(release_id)
        self.threads.add(threading.get_ident())
        found = self.holds[release_id]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def shelf(release) -> Shelf:
    shelf = Shelf()
    shelf.holds = {"r1": release, "r2": replace(release, id="r2"), "bad": UserError("Release bad is damaged.")}
    return shelf


@pytest.fixture
def following(runtime, shelf):
    runtime.releases, runtime.current = shelf, NOTHING_LOADED
    return runtime


def test_it_starts_with_the_current_release_and_follows_the_pointer(following, shelf):
    async def story():
        shelf.pointer = "r1"
        await following.start()
        assert following.current.release.id == "r1"
        shelf.pointer = "r2"
        for _ in range(200):
            await asyncio.sleep(0.01)
            if following.current.release.id == "r2":
                break
        assert following.current.release.id == "r2"
        await following.stop()

    asyncio.run(story())
    assert shelf.loads == ["r1", "r2"]
    assert threading.get_ident() not in shelf.threads, "releases are loaded off the event loop"


def test_a_release_that_does_not_load_changes_nothing_and_is_reported_once(following, shelf):
    async def story():
        shelf.pointer = "r1"
        await following.refresh()
        shelf.pointer = "bad"
        for _ in range(3):
            await following.refresh()
        assert following.current.release.id == "r1"
        assert shelf.loads == ["r1", "bad"], "it isn't tried again at each poll"
        shelf.pointer = "r2"
        await following.refresh()
        assert following.current.release.id == "r2"

    with structlog.testing.capture_logs() as lines:
        asyncio.run(story())
    (refused,) = [line for line in lines if line["event"] == "release_refused"]
    assert refused["release"] == "bad"
    assert refused["why"] == "Release bad is damaged."
    assert refused["kept"] == "r1"


def test_a_refused_release_is_tried_again_later(following, shelf, release, monkeypatch):
    monkeypatch.setattr(module, "RETRY_AFTER", 0.0)

    async def story():
        shelf.pointer = "bad"
        await following.refresh()
        assert not following.is_ready
        shelf.holds["bad"] = replace(release, id="bad")
        await following.refresh()
        assert following.current.release.id == "bad"

    asyncio.run(story())


def test_a_pointer_that_cannot_be_read_changes_nothing(following, shelf):
    async def story():
        shelf.pointer = "r1"
        await following.refresh()
        shelf.current = lambda: (_ for _ in ()).throw(PermissionError("no"))
        await following.refresh()
        assert following.current.release.id == "r1"

    asyncio.run(story())


def test_a_catalog_that_cannot_be_read_leaves_the_server_alive_and_not_ready(following, tmp_path):
    async def story():
        following.catalog = tmp_path / "nowhere"
        await following.start()
        assert not following.is_ready
        await following.stop()

    asyncio.run(story())


def test_a_release_that_cannot_decide_is_refused(following, shelf, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    async def story():
        shelf.pointer = "r1"
        await following.refresh()
        monkeypatch.setattr(module, "decide", broken)
        shelf.pointer = "r2"
        await following.refresh()
        assert following.current.release.id == "r1"

    asyncio.run(story())


@pytest.mark.parametrize("wrong", BAD)
def test_no_bad_catalog_takes_the_place_of_the_release_in_use(runtime, tmp_path, wrong):
    releases = ReleaseStore(tmp_path / "releases")

    def put(name: str, content: bytes, before: str | None) -> str:
        made = releases.publish({f"catalog/{name}": content, "catalog/all.yaml": GOOD}, who="t", why="t", now=1.0)
        releases.activate(made, expected=before, who="t", why="t", now=1.0)
        return made

    runtime.releases, runtime.current = releases, NOTHING_LOADED
    good = put("note.yaml", b"caps: {}", None)
    asyncio.run(runtime.refresh())
    assert runtime.current.release.id == good
    in_use = runtime.current

    content, words = BAD[wrong]
    bad = put("bad.yaml", content, good)
    with structlog.testing.capture_logs() as lines:
        asyncio.run(runtime.refresh())
    assert runtime.current is in_use
    (refused,) = lines
    assert (refused["event"], refused["release"], refused["kept"]) == ("release_refused", bad, good)
    assert words in refused["why"]

    mended = put("note.yaml", b"levers: {}", bad)
    asyncio.run(runtime.refresh())
    assert runtime.current.release.id == mended


@pytest.mark.parametrize("way", ["", "numpy"])
def test_a_release_that_is_let_go_is_freed_at_once_and_fifty_swaps_take_no_memory(tmp_path, monkeypatch, way):
    monkeypatch.setenv("SEGUE_SCORER", way)
    store = ReleaseStore(tmp_path)
    ids = []
    for number in range(2):
        catalog = phones.CATALOG.replace(b"annual", b"annual%d" % number)
        ids.append(store.publish(phones.release_files(phones.saved(), catalog), who="t", why="t", now=0.0))
    held, freed = None, []
    for number in range(50):
        loaded = store.load(ids[number % 2])
        held = prepared(loaded)
        freed += [weakref.ref(one) for one in (held.release, loaded.scorers["upsell"])]
        del loaded
        freed += [weakref.ref(plan) for plan in held.release.plans.values()]
        if number == 9:
            before = resident()
    assert held is not None
    living = [one for one in freed if one() is not None]
    assert len(living) <= 3, "the collector, which never looks at what was frozen, is not needed"
    assert resident() - before < 8 * 2**20
    gc.unfreeze()


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

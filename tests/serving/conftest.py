"""A small catalog built by hand, a runtime over the store in memory, and a client of the application."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from namespaces import namespace

from decisioning.catalog import Catalog, Creative, FeatureSpec, FeatureType, Offer, Score, Surface
from decisioning.conditions import Op, Test
from decisioning.domain import Scores
from decisioning.engine import Release
from decisioning.identity import user_key
from decisioning.rules import Budget, Cap, CapBy, Guard, Scope
from features.schema import Schema
from serving.app import create_app
from serving.guarded.breaker import GuardedStore
from serving.runtime import Current, Runtime
from stores.log.event_log import EventLog
from stores.online.memory_store import MemoryStore
from stores.publishing.publish import publish

SECRET = b"a secret for tests, 32 bytes lon"
NOW = 1_800_000_000.0


class Flat:
    """A scorer with one probability for everything."""

    label = "flat/1"

    def __init__(self, p_convert: float) -> None:
        self._p = p_convert

    def score(self, features, surface, offers) -> Scores:
        return Scores([self._p] * len(offers), [self._p] * len(offers))

    def prior(self, surface, offers) -> Scores:
        return self.score({}, surface, offers)


def feature(name: str, kind: FeatureType, **more) -> FeatureSpec:
    return FeatureSpec(name, kind, from_context=True, **more)


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    features = [
        feature("device", FeatureType.ENUM, values=("phone", "tv")),
        feature("genres", FeatureType.SET, values=("jazz", "folk")),
        feature("is_roaming", FeatureType.BOOL),
        feature("battery", FeatureType.FLOAT),
        feature("queue", FeatureType.INT),
        feature("started", FeatureType.TIME),
        feature("timezone", FeatureType.TEXT),
        feature("locale", FeatureType.TEXT),
        FeatureSpec("sessions", FeatureType.INT, default=0),
        FeatureSpec("consent", FeatureType.BOOL, blocks_if_missing=True),
    ]
    surfaces = [
        Surface("banner", slots=1, fallback="generic", deadline=0.03),
        Surface("shelf", slots=3, deadline=0.03),
        Surface("sticky", slots=1, fallback="generic", sticky=3600.0),
    ]
    everywhere = tuple(one.name for one in surfaces)
    creative = Creative("annual-winter", locales=("en", "sv"))
    offers = [
        Offer("annual", "growth", "upgrade", everywhere, Score("flat", 40.0, prior=0.02), creative=creative),
        Offer("student", "growth", "upgrade", everywhere, Score("flat", 20.0, prior=0.02)),
        Offer("vinyl", "merch", "merch", ("shelf",), Score(None, 5.0), eligible=Test("device", Op.IS, ("phone",))),
        Offer("generic", "growth", "fallback", everywhere, Score(None, 1.0)),
    ]
    consent = Guard(
        "needs_consent", Scope(except_groups=frozenset({"fallback"})), allows=Test("consent", Op.IS, (True,))
    )
    return Catalog(
        hash="c" * 16,
        features={one.name: one for one in features},
        surfaces={one.name: one for one in surfaces},
        offers={one.name: one for one in offers},
        guards=(consent,),
        caps=(Cap("per_offer", 2, 86_400.0, CapBy.OFFER, scope=Scope(except_groups=frozenset({"fallback"}))),),
        budgets=(Budget("winter", frozenset({"annual"}), 1000),),
    )


@pytest.fixture
def release(catalog: Catalog) -> Release:
    return Release("r1", catalog, {"flat": Flat(0.1)}, salt="s")


@pytest.fixture
def store(catalog: Catalog) -> MemoryStore:
    """Knows one user, `ann`, who consented."""
    schema = Schema.of(catalog.features)
    store = MemoryStore()
    rows = [(user_key(SECRET, "ann"), schema.pack({"consent": True, "sessions": 4}))]
    publish(store, rows, schema=schema, as_of=NOW - 3600, snapshot_id="snap-1", count=1)
    return store


@pytest.fixture
def runtime(tmp_path: Path, release: Release, store: MemoryStore) -> Runtime:
    return Runtime(
        secret=SECRET,
        store=GuardedStore(store),
        decisions=EventLog(tmp_path / "decisions"),
        events=EventLog(tmp_path / "events"),
        clock=lambda: NOW,
        current=Current.of(release),
    )


@pytest.fixture
def own_namespace(redis_url: str) -> Iterator[str]:
    with namespace(redis_url) as name:
        yield name


class Client:
    """httpx, without a network and without a thread. The event loop runs only while a request does."""

    def __init__(self, runner: asyncio.Runner, app: FastAPI) -> None:
        # The transport raises what the application fails to handle, so that no 500 can pass for an answer.
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://segue")
        self.run = runner.run

    def request(self, method: str, path: str, **more) -> httpx.Response:
        return self.run(self._http.request(method, path, **more))

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **more) -> httpx.Response:
        return self.request("POST", path, **more)


@pytest.fixture
def client(runtime: Runtime) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        runner.run(runtime.start())
        yield Client(runner, create_app(runtime))
        runner.run(runtime.stop())


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[str], list[dict]]:
    """The lines of one of the logs, `decisions` or `events`."""

    def lines(kind: str) -> list[dict]:
        files = sorted((tmp_path / kind).glob("*"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    return lines


@pytest.fixture
def ask() -> dict:
    return {"user_id": "ann", "surface": "banner", "context": {}}


@pytest.fixture
def event() -> dict:
    return {
        "event_id": "e1",
        "type": "impression",
        "decision_id": "d1",
        "offer": "annual",
        "user_id": "ann",
        "at": NOW,
    }

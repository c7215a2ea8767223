"""The short ways to a decision: they answer what the ordinary route answers, byte for byte, and write down the same."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter

import pytest
from asgi import Answered, Asked, ask, ask_directly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning.identity import user_key
from features.schema import Schema
from serving.access import Access
from serving.app import create_app
from serving.deciding import path
from serving.guarded.breaker import GuardedStore
from serving.runtime import Current, Runtime
from stores.api_keys import DECIDE, EVENTS, EXPLAIN, Limit
from stores.key_file import KeyFile
from stores.log.decision_log import decode
from stores.log.event_log import MemoryLog
from stores.online.memory_store import MemoryStore
from stores.publishing.publish import publish

SECRET = b"a secret for tests, 32 bytes lon"
NOW = 1_800_000_000.0
WAYS = [(False, ask), (True, ask), (True, ask_directly)]
"""The ordinary route; the short way through ASGI; the one past it. Whether the application is the fast one, and how it
is asked."""
BODY = {"user_id": "ann", "surface": "banner", "context": {"device": "phone"}}


class Way:
    """A server of its own: all of them start from the same, and are asked the same."""

    def __init__(self, release, *, fast: bool, asking=ask, keys: Path | None = None) -> None:
        self.log = MemoryLog()
        numbers = count(1)
        self.runtime = Runtime(
            secret=SECRET,
            store=GuardedStore(stocked(release.catalog)),
            decisions=self.log,
            events=MemoryLog(),
            clock=lambda: NOW,
            fresh=lambda: f"{next(numbers):032x}",
            access=Access(keys, clock=lambda: 1.0, now=lambda: NOW),
            current=Current.of(release),
        )
        self.runtime.access.refresh()
        self._app = create_app(self.runtime, fast=fast)
        self._asking = asking

    async def ask(self, asked: Asked) -> Answered:
        return await self._asking(self._app, asked)

    def written(self) -> list:
        """What is in the log, but for how long it took."""
        return [replace(decode(line), durations={}) for line in self.log.lines]

    def figures(self) -> tuple:
        metrics = self.runtime.metrics
        metrics.sort_out()
        # A request for another path is no matter of this route.
        mine = {key: times for key, times in metrics.requests.items() if key[0] == path.ROUTE}
        return mine, dict(metrics.repeated), dict(metrics.decisions), dict(metrics.degraded), dict(metrics.draws)


def stocked(catalog) -> MemoryStore:
    schema = Schema.of(catalog.features)
    store = MemoryStore(clock=lambda: NOW)
    rows = [(user_key(SECRET, "ann"), schema.pack({"consent": True, "sessions": 4}))]
    publish(store, rows, schema=schema, as_of=NOW - 3600, snapshot_id="snap-1", count=1)
    return store


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> KeyFile:
    """The file of keys of a server that is not open to everybody."""
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def authorizations(keys) -> dict[str, bytes]:
    """Of clients that may do everything, decide only, report only, and ask four times in an hour."""
    told = {"who": "test", "now": NOW}
    issued = {
        "all": keys.add("all", (DECIDE, EXPLAIN, EVENTS), **told),
        "decide": keys.add("decide", (DECIDE,), **told),
        "events": keys.add("events", (EVENTS,), **told),
        "limited": keys.add("limited", (DECIDE,), limit=Limit(4, 3600), **told),
    }
    return {name: b"Bearer " + one.text.encode() for name, one in issued.items()}


@pytest.fixture
def ways(release, runner) -> tuple[Way, Way, Way]:
    """Each in the order of WAYS."""

    async def made() -> tuple[Way, Way, Way]:
        ways = [Way(release, fast=fast, asking=asking) for fast, asking in WAYS]
        return ways[0], ways[1], ways[2]

    return runner.run(made())


def same(runner: asyncio.Runner, ways: tuple[Way, ...], asked: Asked) -> Answered:
    """What all of them answer."""
    answers = [runner.run(way.ask(asked)) for way in ways]
    assert answers[1] == answers[0]
    assert answers[2] == answers[0]
    return answers[0]


@pytest.fixture
def guarded_ways(release, runner, keys, authorizations) -> tuple[Way, Way, Way]:
    """The same, of servers that ask for a key."""

    async def made() -> tuple[Way, Way, Way]:
        ways = [Way(release, fast=fast, asking=asking, keys=keys.path) for fast, asking in WAYS]
        return ways[0], ways[1], ways[2]

    return runner.run(made())


# --- What is sent ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["device", "genres", "is_roaming", "battery", "queue", "started", "locale", "nobody's"])
CONTEXT = st.dictionaries(NAMES, JSON | st.sampled_from(["phone", "tv", "jazz", "sv-SE", 1, 0.5]), max_size=3)
VALID = st.fixed_dictionaries(
    {"user_id": st.sampled_from(["ann", "bob", "ünknøwn"]), "surface": st.sampled_from(["banner", "shelf", "sticky"])},
    optional={
        "context": st.just({"device": "phone", "locale": "sv"}) | CONTEXT,
        "slots": st.integers(-1, 4),
        "exclude": st.lists(st.sampled_from(["annual", "student", "none such"]), max_size=3),
        "dry_run": st.booleans(),
        "explain": st.booleans(),
    },
)
FIELDS = st.sampled_from(["user_id", "surface", "context", "slots", "exclude", "dry_run", "explain", "typo"])
HOSTILE = st.builds(lambda valid, more: {**valid, **more}, VALID, st.dictionaries(FIELDS, JSON, min_size=1, max_size=2))
TEXT = (VALID | VALID | HOSTILE | JSON).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
BODIES = TEXT | st.builds(lambda body, junk: body + junk, TEXT, st.binary(max_size=3)) | st.binary(max_size=60)
LARGE = st.sampled_from([16_383, 16_384, 16_385, 17_000]).map(lambda size: json.dumps(BODY).encode().ljust(size))
DEADLINES = st.sampled_from([b"25ms", b"1.5ms", b" 7ms\t", b"0ms", b"-1ms", b"25", b"1e3ms", b"9" * 50, b"\xe9", b""])
LENGTHS = st.sampled_from([b"0", b"17000", b"16384", b"9" * 10, b"-1", b"x", b"\xb2", b"", b"+5"])
HEADERS = st.lists(
    st.tuples(st.just(b"segue-deadline"), DEADLINES | st.binary(max_size=6))
    | st.tuples(st.just(b"content-length"), LENGTHS)
    | st.tuples(st.sampled_from([b"authorization", b"content-type", b"accept"]), st.binary(max_size=12)),
    max_size=3,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    body = draw(BODIES | LARGE)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=2)))
    chunks = tuple(body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True))
    return Asked(chunks, draw(HEADERS), leaves=draw(st.sampled_from([False] * 9 + [True])))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests())
def test_any_request_gets_the_same_answer_by_both_ways(runner, ways, asked):
    answer = same(runner, ways, asked)
    assert answer.status in (200, 400, 404, 413, 422)
    assert answer.raised is None
    ordinary, fast, direct = ways
    assert fast.written() == direct.written() == ordinary.written()
    assert fast.figures() == direct.figures() == ordinary.figures()


WHO = st.sampled_from(["all", "all", "decide", "events", "limited", None, b"Bearer x", b"Basic \xff", b""])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests(), who=WHO)
def test_so_it_is_where_the_server_asks_for_keys(runner, guarded_ways, authorizations, asked, who):
    header = authorizations[who] if isinstance(who, str) else who
    headers = asked.headers if header is None else ((b"authorization", header), *asked.headers)
    answer = same(runner, guarded_ways, replace(asked, headers=headers))
    assert answer.raised is None
    if isinstance(header, bytes) and who not in authorizations:
        assert answer.status == 401
    ordinary, fast, direct = guarded_ways
    assert fast.written() == direct.written() == ordinary.written()
    assert fast.figures() == direct.figures() == ordinary.figures()


@pytest.mark.parametrize(
    ("who", "more", "statuses"),
    [
        ("all", {"explain": True}, [200]),
        ("decide", {}, [200]),
        ("decide", {"explain": True}, [403]),
        ("decide", {"dry_run": True}, [403]),
        ("events", {}, [403]),
        ("nobody", {}, [401]),
        ("limited", {}, [200] * 4 + [429]),
    ],
)
def test_each_key_may_do_what_it_is_for(runner, guarded_ways, authorizations, who, more, statuses):
    headers = ((b"authorization", authorizations.get(who, b"Bearer segue_nobody")),)
    body = json.dumps(BODY | more).encode()
    answers = [same(runner, guarded_ways, Asked([body], headers)) for _ in statuses]
    assert [one.status for one in answers] == statuses
    last = dict(answers[-1].headers)
    assert (b"www-authenticate" in last) == (answers[-1].status in (401, 403))
    assert (b"retry-after" in last) == (answers[-1].status == 429)


def test_a_caller_without_a_key_is_refused_before_the_body_is_read(runner, guarded_ways):
    asked = Asked([b"{", b""], stalls=True)
    assert same(runner, guarded_ways, asked).status == 401


def test_the_requests_of_these_tests_are_of_every_kind():
    """Or it would prove little."""
    found: Counter = Counter()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(asked=requests())
    def look(asked):
        body = b"".join(asked.chunks)
        found["many chunks"] += len(asked.chunks) > 1
        found["leaves"] += asked.leaves
        found["large"] += len(body) > 16_384
        found["deadline"] += any(name == b"segue-deadline" for name, _ in asked.headers)
        found["valid"] += b'"user_id"' in body and b'"surface"' in body

    look()
    assert all(times >= 5 for times in found.values()), found
    assert found["valid"] > 50


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "TRACE"])
def test_other_methods_are_refused_as_everywhere(runner, ways, method):
    answer = same(runner, ways, Asked(method=method))
    assert answer.status == 405
    assert (b"allow", b"POST") in answer.headers


@pytest.mark.parametrize(
    "near", ["/v1/decisions/", "/v1/Decisions", "//v1/decisions", "/v1/decisions/x", "/v1/decision"]
)
def test_paths_that_are_nearly_right_are_answered_by_the_routes(runner, ways, near):
    answer = same(runner, ways, Asked([json.dumps(BODY).encode()], path=near))
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["code"] == "not_found", "no redirect: behind a proxy it would name http://"


@pytest.mark.parametrize("header", [b"25ms", b"1.5ms", b" 999999.999ms\t"])
def test_a_client_may_say_how_long_it_waits(runner, ways, header):
    body = json.dumps(BODY).encode()
    assert same(runner, ways, Asked([body], ((b"segue-deadline", header),))).status == 200


@pytest.mark.parametrize(
    "header", [b"", b"25", b"25s", b"0ms", b"0.5ms", b"-5ms", b"1e3ms", b"nan ms", b"infms", b"99999999ms", b"\xff"]
)
def test_a_deadline_that_is_none_is_422_and_named(runner, ways, header):
    answer = same(runner, ways, Asked([json.dumps(BODY).encode()], ((b"segue-deadline", header),)))
    assert answer.status == 422
    error = json.loads(answer.body)["error"]
    assert error["field"] == "Segue-Deadline"
    assert (
        error["message"] == "The header Segue-Deadline is wrong: expected milliseconds from 1 to 999999, such as 25ms."
    )


class Waited:
    """A store that tells how long it was given."""

    def __init__(self, store: GuardedStore) -> None:
        self._store, self.given = store, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def read(self, user, schema, budgets, timeout):
        self.given.append(timeout)
        return await self._store.read(user, schema, budgets, timeout)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [(None, 0.02, 0.03), (b"60000ms", 0.02, 0.03), (b"12ms", 0.005, 0.012), (b"2ms", 0.002, 0.002)],
)
def test_only_a_deadline_shorter_than_the_surfaces_counts(runner, release, header, least, most):
    async def run() -> list[float]:
        way = Way(release, fast=True)
        way.runtime.store = waited = Waited(way.runtime.store)
        headers = () if header is None else ((b"segue-deadline", header),)
        assert (await way.ask(Asked([json.dumps(BODY).encode()], headers))).status == 200
        return waited.given

    (given_time,) = runner.run(run())
    assert least <= given_time <= most


@pytest.mark.parametrize("asking", [ask, ask_directly])
def test_what_a_request_waited_before_counts_towards_its_deadline(runner, release, asking):
    async def run() -> list[float]:
        way = Way(release, fast=True, asking=asking)
        way.runtime.store = waited = Waited(way.runtime.store)
        await way.ask(Asked([json.dumps(BODY).encode()], arrived=perf_counter() - 1.0))
        return waited.given

    assert runner.run(run()) == [], "it came a second ago: nobody asks the store any more"


def test_a_body_that_does_not_come_is_408(runner, ways, monkeypatch):
    monkeypatch.setattr(path, "BODY_SECONDS", 0.02)
    assert same(runner, ways, Asked([b"{", b""], stalls=True)).status == 408


def test_a_bug_is_500_in_the_one_form_and_is_raised_for_the_server_to_see(runner, ways, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    for way in ("serving.deciding.decide", "serving.deciding.path"):
        monkeypatch.setattr(f"{way}.begin", broken)
    answer = same(runner, ways, Asked([json.dumps(BODY).encode()]))
    assert (answer.status, answer.raised) == (500, "ZeroDivisionError")
    assert json.loads(answer.body)["error"]["code"] == "internal"


def test_an_answer_leaves_when_its_record_is_in_the_log_and_not_before(runner, release):
    way = Way(release, fast=True, asking=ask_directly)
    body = json.dumps(BODY).encode()
    seen: list[int] = []
    extend = way.log.extend

    def watched(lines) -> None:
        seen.append(sum(one.done() for one in asked))
        extend(lines)

    way.log.extend = watched
    asked: list[asyncio.Task] = []

    async def run() -> list[Answered]:
        asked.extend(asyncio.create_task(way.ask(Asked([body]))) for _ in range(3))
        return await asyncio.gather(*asked)

    answers = runner.run(run())
    assert [one.status for one in answers] == [200] * 3
    assert seen == [0], "one write for all three, and before any of them is answered"
    assert len(way.log.lines) == 3

"""API keys on a real server with two workers: as their file changes, breaks, and comes back."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from figures import Figures

from stores.api_keys import DECIDE, EVENTS, EXPLAIN, METRICS, Limit
from stores.home import Home
from stores.key_file import KeyFile

REPOSITORY = Path(__file__).parents[2]
ASK = {"user_id": "ann", "surface": "strip"}
TWO = ("--workers", "2")
FOLLOWED_WITHIN = 5.0
"""A second, and what a busy machine adds."""


@pytest.fixture
def keys(home: Home) -> KeyFile:
    return KeyFile(home.keys)


def add(keys: KeyFile, *scopes: str, name: str = "ios", **more) -> str:
    return keys.add(name, scopes or (DECIDE,), who="test", now=0.0, **more).text


def ask(server, key: str | None = None, path: str = "/v1/decisions", **more) -> httpx.Response:
    """On a connection of its own, so that any worker may get it. Not refused for the load of this machine."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    method = "GET" if path in ("/version", "/metrics", "/healthz", "/readyz", "/openapi.json", "/docs") else "POST"
    body = {"json": {**ASK, **more}} if method == "POST" else {}
    url = str(server.http.base_url) + path
    while True:
        answer = httpx.request(method, url, headers=headers, verify=False, **body)  # certificates take time to read
        if answer.status_code != 503 or answer.json()["error"]["code"] != "overloaded":
            return answer


def everywhere(server, key: str | None, status: int) -> Callable[[], bool]:
    """Whether all workers answer so: sixteen connections at once reach both."""

    def asked() -> bool:
        with ThreadPoolExecutor(16) as pool:
            return {one.status_code for one in pool.map(lambda _: ask(server, key), range(16))} == {status}

    return asked


def test_the_first_key_closes_an_open_server_and_a_rotation_fails_no_request(serve, keys, within):
    server = serve("", *TWO)
    assert server.events().count("no_keys") == 1
    assert ask(server).status_code == 200
    first = add(keys)
    within(FOLLOWED_WITHIN, everywhere(server, None, 401))
    assert everywhere(server, first, 200)()
    second = keys.rotate("ios", who="test", now=0.0)
    assert everywhere(server, first, 200)(), "the old key works on"
    within(FOLLOWED_WITHIN, everywhere(server, second.text, 200))
    keys.revoke("ios", second.client.keys[0].id)
    within(FOLLOWED_WITHIN, everywhere(server, first, 401))
    assert everywhere(server, second.text, 200)()
    keys.revoke("ios")
    within(FOLLOWED_WITHIN, everywhere(server, second.text, 401))
    assert ask(server).status_code == 401, "with no keys left nobody gets in, rather than everybody"
    said = str(server.lines)
    assert first not in said
    assert second.text not in said


def test_every_route_asks_for_its_scope_and_health_and_the_document_for_none(serve, keys):
    scopes = {scope: add(keys, *scope.split("+"), name=scope.replace("+", "-")) for scope in (
        DECIDE, EVENTS, METRICS, f"{DECIDE}+{EXPLAIN}")}  # fmt: skip
    server = serve("", *TWO)
    event = {"event_id": "e", "type": "click", "decision_id": "d", "offer": "poster", "user_id": "ann", "at": 1.8e9}
    allowed = {
        ("/v1/decisions", ""): {DECIDE, f"{DECIDE}+{EXPLAIN}"},
        ("/v1/decisions", "explain"): {f"{DECIDE}+{EXPLAIN}"},
        ("/v1/decisions", "dry_run"): {f"{DECIDE}+{EXPLAIN}"},
        ("/v1/events", ""): {EVENTS},
        ("/metrics", ""): {METRICS},
        ("/version", ""): {*scopes},
    }
    for (path, flag), who in allowed.items():
        more = event if path == "/v1/events" else {flag: True} if flag else {}
        answers = {scope: ask(server, key, path, **more) for scope, key in scopes.items()}
        assert {scope for scope, answer in answers.items() if answer.status_code == 200} == who, {
            scope: one.text for scope, one in answers.items()
        }
        refused = [answer for scope, answer in answers.items() if scope not in who]
        assert all(one.status_code == 403 and one.json()["error"]["code"] == "forbidden" for one in refused)
        stranger = ask(server, None, path, **more)
        assert stranger.status_code == 401
        assert stranger.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert ask(server, None, path).status_code == 200
    schemes = ask(server, None, "/openapi.json").json()["components"]["securitySchemes"]
    assert [(one["type"], one["scheme"]) for one in schemes.values()] == [("http", "bearer")]


def test_two_workers_hold_one_limit_and_say_when_to_come_back(serve, keys):
    key, free = add(keys, limit=Limit(40, 86_400)), add(keys, DECIDE, METRICS, name="tv")
    server = serve("", *TWO)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(server, key), range(100)))
    codes = Counter(answer.status_code for answer in answers)
    assert codes[200] in (40, 41), "each other worker may let one more through at the very limit"
    assert codes[200] + codes[429] == 100
    limited = [answer for answer in answers if answer.status_code == 429]
    assert all(1 <= int(answer.headers["Retry-After"]) <= 2 * 86_400 for answer in limited)
    assert everywhere(server, free, 200)(), "one client's limit is nobody else's"
    page = Figures(ask(server, free, "/metrics").content)
    assert page("segue_limited_requests_total", client="ios") <= codes[429]
    assert page("segue_requests_total", route="decisions", code=429) <= codes[429]


def test_a_damaged_file_changes_nothing_and_a_worker_that_is_started_meanwhile_has_the_last_good_keys(
    serve, keys, within
):
    key = add(keys, DECIDE, METRICS)
    server = serve("", *TWO)
    late = add(keys, name="tv")
    within(FOLLOWED_WITHIN, everywhere(server, late, 200))
    within(FOLLOWED_WITHIN, lambda: server.events().count("keys_loaded") == 2)  # the supervisor has them, too
    good = keys.path.read_bytes()
    keys.path.write_bytes(good[: len(good) // 2])
    within(FOLLOWED_WITHIN, lambda: "keys_unreadable" in server.events())

    def unreadable() -> float:
        return Figures(ask(server, key, "/metrics").content)("segue_keys_unreadable")

    within(FOLLOWED_WITHIN, lambda: unreadable() == 1)
    before = {one["pid"] for one in ask(server, key, "/version").json()["workers"]}
    os.kill(min(before), signal.SIGKILL)
    within(15, lambda: len({one["pid"] for one in _serving(server, key)} - before) == 1)
    assert everywhere(server, late, 200)()
    assert everywhere(server, None, 401)()
    assert server.events().count("keys_unreadable") == 1
    keys.path.write_bytes(good)
    within(FOLLOWED_WITHIN, lambda: unreadable() == 0)


def _serving(server, key: str) -> list[dict]:
    try:
        return [one for one in ask(server, key, "/version").json()["workers"] if one["state"] == "serving"]
    except httpx.HTTPError:  # the worker that was killed had this connection
        return []


def test_a_file_that_is_named_and_missing_lets_nobody_in_until_it_is_there(serve, home, keys, within):
    server = serve("", *TWO, SEGUE_KEYS=str(keys.path))
    for path in ("/v1/decisions", "/version", "/metrics", "/readyz"):
        assert ask(server, "segue_any", path).status_code == 503
    assert ask(server, None, "/healthz").status_code == 200
    assert ask(server).headers["Retry-After"]
    key = add(keys)
    within(FOLLOWED_WITHIN, everywhere(server, key, 200))
    assert ask(server, None, "/readyz").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_without_keys_does_not_start_where_strangers_could_reach_it(home, host):
    command = [sys.executable, "-m", "serving", "--home", home.path, "--port", "0", "--host", host]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "segue keys add" in done.stderr
    assert "--open" in done.stderr
    assert '"serving"' not in done.stderr

"""A server in its own process, a Valkey of its own, and one user who consented."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from own_time import Watch
from proxy import proxy
from stand import BUSY, USERS, Stand

from decisioning.catalog_yaml import load_catalog
from decisioning.identity import user_key
from features.schema import Schema
from stores.embedded import running
from stores.home import Home
from stores.publishing.publish import publish
from stores.releases import ReleaseStore

REPOSITORY = Path(__file__).parents[2]
CATALOG = b"""
features:
  consent: {type: bool, if_missing: block, max_age: 30d}
surfaces:
  banner: {slots: 1, fallback: generic, deadline: 30ms}
  strip: {slots: 1, fallback: generic, deadline: 30ms}
  deal: {slots: 1, fallback: generic, deadline: 30ms}
offers:
  generic: {owner: growth, group: fallback, surfaces: [strip], score: {value: 1.0}}
  poster: {owner: merch, group: merch, surfaces: [strip], score: {value: 5.0}}
  annual: {owner: growth, group: upgrade, surfaces: [banner], score: {value: 40.0}}
  scarce: {owner: merch, group: merch, surfaces: [deal], score: {value: 50.0}}
  plenty: {owner: merch, group: merch, surfaces: [deal], score: {value: 5.0}}
guards:
  needs_consent: {require: {consent: true}, only: {group: upgrade}}
budgets:
  few: {offers: [scarce], impressions: 3}
caps:
  per_offer: {max: 2, per: 1d, by: offer, only: {group: upgrade}}
exploration: {uniform: 0.0}
"""
SCHEMA = Schema.of(load_catalog({"all.yaml": CATALOG}).features)


class Server:
    """`python -m serving`, and a client of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict] = []
        self._serving = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._serving.wait(15):
            raise RuntimeError(f"the server did not start: {self.lines}")
        url = next(line["url"] for line in self.lines if line["event"] == "serving")
        self.http = httpx.Client(base_url=url, timeout=5.0)

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.lines.append(json.loads(line))  # whatever the server says is JSON
            if self.lines[-1]["event"] == "serving":
                self._serving.set()

    def post(self, path: str, body: dict) -> httpx.Response:
        """Asked again where it was shed: a machine busy with other things may hold a server up for too long."""
        for _ in range(20):
            answer = self.http.post(path, json=body)
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                break
        return answer

    def decide(self, surface: str = "banner", **more) -> dict:
        """Every request is answered with 200, whatever is down."""
        answer = self.post("/v1/decisions", {"user_id": "ann", "surface": surface, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def decide_well(self, surface: str = "banner", **more) -> dict:
        """The same, with all that the server can do: one that a busy machine holds up decides with less."""
        for _ in range(20):
            answer = self.decide(surface, **more)
            if not BUSY & {*answer["degraded"]}:
                break
        return answer

    def report(self, event_id: str, **more) -> dict:
        event = {"event_id": event_id, "type": "impression", "decision_id": "d", "offer": "annual", "user_id": "ann"}
        answer = self.post("/v1/events", {"at": time.time(), "surface": "banner", **event, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


def a_home(path: Path) -> Home:
    """Holds one release: rules only."""
    home = Home(path)
    releases = ReleaseStore(home.releases)
    release = releases.publish({"catalog/all.yaml": CATALOG}, who="test", why="test", now=0.0)
    releases.activate(release, expected=None, who="test", why="test", now=0.0)
    return home


@contextmanager
def servers_of(home: Home) -> Iterator[Callable[..., Server]]:
    """Starts servers: `serve(redis_url, *options, **environment)`. They are gone afterwards."""
    started: list[Server] = []

    def start(redis_url: str, *options: str, **environment: str) -> Server:
        command = [sys.executable, "-m", "serving", "--home", home.path, "--port", "0", "--drain", "0", *options]
        variables = os.environ | {"REDIS_URL": redis_url} | environment
        process = subprocess.Popen(command, cwd=REPOSITORY, env=variables, stderr=subprocess.PIPE, text=True)
        try:
            started.append(Server(process))
        except BaseException:
            process.kill()
            raise
        return started[-1]

    yield start
    for server in started:
        server.http.close()
        server.process.kill()
        server.process.wait()


class Valkey:
    """A real one, that can be killed, stopped and started again with its data."""

    def __init__(self, folder: Path, home: Home, stack: ExitStack) -> None:
        self.folder, self._home, self._stack = folder, home, stack
        self.start()

    def start(self) -> None:
        self.url = self._stack.enter_context(running(self.folder))
        with redis.Redis.from_url(self.url) as client:
            self._pid = client.info("server")["process_id"]

    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @contextmanager
    def boss(self) -> Iterator[redis.Redis]:
        """An administrator on one connection, whom no rule and no pause for the default user concerns."""
        with redis.Redis.from_url(self.url, single_connection_client=True) as boss:
            boss.execute_command("ACL SETUSER boss on nopass ~* &* +@all")
            boss.execute_command("AUTH boss any")
            yield boss

    def publish(self, as_of: float | None = None) -> None:
        """The features of `ann` and the users of a stand, who consented, and of `noah`, who did not; as of now."""
        consents = {"ann": True, "noah": False, **dict.fromkeys(USERS, True)}
        secret, as_of = self._home.secret(), as_of or time.time()
        rows = [(user_key(secret, user), SCHEMA.pack({"consent": said})) for user, said in consents.items()]
        publish(self.url, rows, schema=SCHEMA, as_of=as_of, snapshot_id=f"of {as_of}", count=len(rows))

    def save(self) -> None:
        with self.admin() as client:
            client.save()

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


@contextmanager
def valkey_of(folder: Path, home: Home) -> Iterator[Valkey]:
    """With the features published."""
    with ExitStack() as stack:
        valkey = Valkey(folder, home, stack)
        valkey.publish()
        valkey.save()
        yield valkey


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path / "home")


@pytest.fixture
def serve(home: Home) -> Iterator[Callable[..., Server]]:
    with servers_of(home) as serve:
        yield serve


@pytest.fixture
def valkey(tmp_path: Path, home: Home) -> Iterator[Valkey]:
    with valkey_of(tmp_path / "valkey", home) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One server, one Valkey and a proxy between them for a whole module. Each test asks for users of its own."""
    folder = tmp_path_factory.mktemp("stand")
    home = a_home(folder / "home")
    with valkey_of(folder / "valkey", home) as valkey, proxy(valkey.url) as between, servers_of(home) as serve:
        yield Stand(serve(between.url), valkey, between, home)


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a store, for a whole module."""
    with servers_of(a_home(tmp_path_factory.mktemp("lone") / "home")) as serve:
        yield serve("")


@pytest.fixture(scope="module")
def team_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return a_home(tmp_path_factory.mktemp("team") / "home")


@pytest.fixture(scope="module")
def servers(team_home: Home) -> Iterator[Callable[..., Server]]:
    """`serve`, for a whole module."""
    with servers_of(team_home) as serve:
        yield serve


@pytest.fixture(scope="module")
def team(team_home: Home) -> Iterator[Server]:
    """A server of two workers for a whole module. Each test leaves it with two."""
    with servers_of(team_home) as serve:
        yield serve("", "--workers", "2")


@pytest.fixture
def within() -> Callable[..., float]:
    """Waits until something holds, and gives the seconds it took; fails after `seconds`, but for a busy machine's."""

    def wait(seconds: float, holds: Callable[[], bool]) -> float:
        watch = Watch()
        while not holds():
            assert watch.seconds < seconds, f"not so within {seconds} s"
            time.sleep(0.02)
        return watch.seconds

    return wait

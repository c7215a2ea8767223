"""The reference workload of design/serving.md as a running server: what it decides a second, and what that costs it.

`.venv/bin/python -m benchmarks.shop --seconds 5` prepares a work folder (once; a release with 50 offers and a model of
200 trees), starts a Valkey with 2,000 published users who have a history, the real `segue serve` in its own process on
one core, and a load client with 16 connections on the other. It prints decisions a second, latencies, and the
microseconds of CPU that a decision costs the server's processes.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from benchmarks import shop_model, workload
from benchmarks.many_users import tcp_server
from benchmarks.running import CONNECTIONS, LOAD_CORE, ROOT, SERVER_CORE, load, pin, process, text_of, until
from benchmarks.timing import say
from benchmarks.workload import SURFACE, catalog_text, visits
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Event
from decisioning.identity import user_key
from features.schema import Schema
from stores.api_keys import DECIDE, MOST_REQUESTS, Limit
from stores.home import Home
from stores.key_file import KeyFile
from stores.online.redis_store import RedisStore
from stores.publishing.publish import publish
from stores.releases import SCHEMA, ReleaseStore

FOLDER = ROOT / ".segue-bench"
USERS, OFFERS = 2_000, 50
WHOLE = '"degraded":[]'
"""What an answer holds that was made with everything: a server that is behind may decide with less."""
BODIES = "bodies.jsonl"
PORT = re.compile(r'"url": "http://127\.0\.0\.1:(\d+)"')
"""In what the server says as soon as it answers."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A prepared work folder."""

    path: Path
    offers: int = OFFERS

    @property
    def home(self) -> Home:
        return Home(self.path)

    @property
    def bodies(self) -> Path:
        return self.path / BODIES


# --- Preparing --------------------------------------------------------------------------------------------------------


def prepared(folder: Path = FOLDER, offers: int = OFFERS) -> Shop:
    """The shop in a folder of `folder`, built where it is not there yet, is a month old, or its recipe has changed."""
    recipe = sha256(b"".join(Path(module.__file__).read_bytes() for module in (workload, shop_model)))
    recipe.update(Path(__file__).read_bytes())
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    shop = Shop(folder.resolve() / f"shop-{offers}-{month:%Y-%m}-{recipe.hexdigest()[:8]}", offers)
    if not shop.bodies.is_file():
        say(f"  preparing {shop.path}")
        _build(shop, month)
    return shop


def _build(shop: Shop, month: datetime) -> None:
    texts = {name: _dated(text, month) for name, text in catalog_text(shop.offers).items()}
    catalog = load_catalog(texts)
    files = {f"catalog/{name}": text for name, text in texts.items()}
    files[SCHEMA] = json.dumps(Schema.of(catalog.features).to_json()).encode()
    files |= {f"models/upsell/{name}": content for name, content in shop_model.model_files(catalog).items()}
    releases = ReleaseStore(shop.home.releases)
    told = {"who": "benchmark", "why": "the reference workload", "now": time.time()}
    before = releases.current()
    releases.activate(releases.publish(files, **told), expected=before, **told)
    lines = (_body(number, visit) for number, visit in enumerate(visits(USERS, shop.offers)))
    shop.bodies.write_bytes(b"\n".join(lines))


def _dated(text: bytes, month: datetime) -> bytes:
    """The workload's campaigns, of which it speaks as of 2027, from this month on and for most of a year."""
    start, end = month, month + timedelta(days=330)
    return text.replace(b"2027-01-01", f"{start:%Y-%m-%d}".encode()).replace(b"2027-12-31", f"{end:%Y-%m-%d}".encode())


def _body(number: int, visit: workload.Visit) -> bytes:
    sent = {"user_id": user_id(number), "surface": SURFACE, "context": dict(visit.request.context)}
    return json.dumps(sent, separators=(",", ":")).encode()


def user_id(number: int) -> str:
    return f"customer-{number:08d}"


# --- Running ----------------------------------------------------------------------------------------------------------


@contextmanager
def stocked(shop: Shop) -> Iterator[str]:
    """The URL of a Valkey with the features and the history of the shop's users, beside the load: it is no server's."""
    with tempfile.TemporaryDirectory() as folder, tcp_server(Path(folder)) as (host, port):
        url = f"redis://{host}:{port}"
        with Redis(host=host, port=port, protocol=2) as client:
            pin(client.info("server")["process_id"], (LOAD_CORE,))
        stock(shop, url)
        yield url


def stock(shop: Shop, url: str) -> None:
    releases = ReleaseStore(shop.home.releases)
    schema, secret, now = releases.schema(releases.current() or ""), shop.home.secret(), time.time()
    some = list(visits(USERS, shop.offers))
    rows = [(user_key(secret, user_id(n)), schema.pack(_stored(schema, visit))) for n, visit in enumerate(some)]
    publish(url, rows, schema=schema, as_of=now, snapshot_id=f"shop-{now:.0f}", count=USERS)
    events = [
        Event(f"e{n}-{place}", one.type, f"past-{n}-{place}", one.offer, rows[n][0], one.surface,
              one.at - visit.request.now + now)
        for n, visit in enumerate(some) for place, one in enumerate(visit.facts.history)
    ]  # fmt: skip
    asyncio.run(_apply(url, events))


def _stored(schema: Schema, visit: workload.Visit) -> dict[str, Any]:
    return {name: value for name, value in visit.facts.features.items() if name in schema.by_name}


async def _apply(url: str, events: Sequence[Event]) -> None:
    store = RedisStore(url, timeout=10.0)
    for start in range(0, len(events), 500):
        await asyncio.gather(*map(store.apply, events[start : start + 500]))
    await store.close()


class Serving(NamedTuple):
    """A server that runs. `headers`: what each request needs besides the usual ones: its API key."""

    pid: int
    port: int
    headers: tuple[str, ...]


@contextmanager
def serving(
    shop: Shop, url: str, workers: int = 1, cores: Sequence[int] = (SERVER_CORE,), module: str = "segue"
) -> Iterator[Serving]:
    """The real server, which asks for a key and keeps to its limit. What it writes is gone with it."""
    command = [sys.executable, "-m", module, "serve", "--port", 0]
    if workers > 1:
        command += ["--workers", workers]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        home = Home(Path(folder))
        home.releases.symlink_to(shop.home.releases)
        keys, limit = KeyFile(home.keys), Limit(MOST_REQUESTS, seconds=1)
        key = keys.add("shop", [DECIDE], limit=limit, who="benchmark", now=time.time()).text
        more = {"SEGUE_HOME": folder, "SEGUE_SECRET": shop.home.secret().hex(), "REDIS_URL": url}
        with process(command, said, cores=cores, more=more) as server:
            port = int(until(lambda: PORT.search(text_of(said)), server, said)[1])
            yield Serving(server.pid, port, (f"Authorization: Bearer {key}",))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=5.0)
    words.add_argument("--rounds", type=int, default=1)
    words.add_argument("--connections", type=int, default=CONNECTIONS)
    words.add_argument("--workers", type=int, default=1)
    words.add_argument("--offers", type=int, default=OFFERS)
    words.add_argument("--open-loop", type=float, metavar="RATE", help="requests a second, whatever is answered")
    words.add_argument("--folder", type=Path, default=FOLDER, help="where prepared shops are kept")
    words.add_argument("--serve-only", action="store_true", help="start everything, tell where, and wait for Ctrl-C")
    words.add_argument("--show", action="store_true", help="print the last answer")
    asked = words.parse_args()
    shop = prepared(asked.folder, asked.offers)
    with stocked(shop) as url, serving(shop, url, asked.workers) as (pid, port, headers):
        if asked.serve_only:
            print(f"pid {pid}, http://127.0.0.1:{port}, {url}, bodies in {shop.bodies}, {headers[0]}", flush=True)
            with suppress(KeyboardInterrupt):
                time.sleep(3600)
            return
        asking = {
            "seconds": asked.seconds,
            "connections": asked.connections,
            "rate": asked.open_loop,
            "headers": headers,
            "expect": WHOLE,
        }
        for _ in range(asked.rounds):
            found = load(port, shop.bodies, [pid], **asking)
            print(line(found), flush=True)
        if asked.show:
            print(found["last"])


def line(found: dict) -> str:
    return (
        f"{found['per_second']:,.0f} decisions/s, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, "
        f"{found['cpu_us']:.1f} µs of CPU a decision; the client's share of its core {found['client_busy']:.0%}; "
        f"answers of {found['answer_bytes']:.0f} bytes: {found['statuses']}, {found['unexpected']} of them degraded"
    )


if __name__ == "__main__":
    main()

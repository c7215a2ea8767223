"""The twins of the online store, each with the shelf that its features are published to."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from namespaces import namespace

from stores.connect import connect
from stores.online.memory_store import MemoryStore
from stores.online.port import OnlineStore
from stores.online.redis_store import RedisStore
from stores.publishing.publish import Shelf
from stores.publishing.redis_store import RedisShelf

SERVERS = {"embedded": "valkey_url", "debian": "debian_url", "cluster": "cluster_url"}
"""The fixture with the address of each."""
TWINS = ["memory", *SERVERS, *(["REDIS_URL"] if os.environ.get("REDIS_URL") else [])]


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000_000.25

    def __call__(self) -> float:
        return self.now


@dataclass
class Twin:
    """Makes stores over the same data: two of them are two servers' views of one store. Options are a server's own."""

    store: Callable[..., OnlineStore]
    shelf: Shelf
    clock: Clock
    """By which leases end."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    clock = Clock()
    if request.param == "memory":
        memory = MemoryStore(history_limit=5, clock=clock)
        yield Twin(lambda **_: memory, memory, clock)
        return
    url = os.environ["REDIS_URL"] if request.param == "REDIS_URL" else request.getfixturevalue(SERVERS[request.param])
    with namespace(url) as name, connect(url, timeout=5.0) as client:
        options = {"timeout": 5.0, "namespace": name, "history_limit": 5, "clock": clock}
        yield Twin(lambda **more: RedisStore(url, **options, **more), RedisShelf(client, name), clock)

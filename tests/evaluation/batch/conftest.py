"""Post offices, and an embedded store of one's own."""

from collections.abc import Iterator
from functools import partial

import pytest
from namespaces import namespace
from post_office import PostOffice, post_office

from stores.online.redis_store import RedisStore


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> PostOffice:
    """300 users. Read it, and write elsewhere."""
    return post_office(tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> PostOffice:
    """4,200 users: three parts of up to 2,048 rows."""
    return post_office(tmp_path_factory.mktemp("crowd"), 4200)


@pytest.fixture
def store(valkey_url: str) -> Iterator[partial]:
    """What opens a store of one's own."""
    with namespace(valkey_url) as name:
        yield partial(RedisStore, valkey_url, timeout=30.0, namespace=name)


@pytest.fixture
def other_store(valkey_url: str) -> Iterator[partial]:
    with namespace(valkey_url) as name:
        yield partial(RedisStore, valkey_url, timeout=30.0, namespace=name)

"""A server to write to behind the store's back."""

from collections.abc import Iterator

import pytest
from redis import Redis


@pytest.fixture
def admin(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url, protocol=2) as client:
        yield client

"""A small store on Redis, and what is written to it and asked of it."""

from contextlib import asynccontextmanager
from secrets import token_hex

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event
from features.schema import Schema
from stores.online.redis_store import RedisStore

SCHEMA = Schema((FeatureSpec("build", FeatureType.INT),))
EVENT = Event("e1", "impression", "d1", "annual", "ann", "home", at=1000.0)
TIMEOUT = 0.1


@asynccontextmanager
async def store_at(url: str, timeout: float = TIMEOUT):
    """A store of nobody else's in a namespace of its own."""
    store = RedisStore(url, timeout=timeout, namespace=f"test-{token_hex(6)}")
    try:
        yield store
    finally:
        await store.close()

"""Publishes USERS users block by block, to be killed meanwhile: `killed_publisher.py URL NAMESPACE BUILD`.

It says "begun", then how many users it finds there, and then how many it has written with each block.
"""

import sys
from collections.abc import Callable, Iterator

from decisioning.catalog import FeatureSpec, FeatureType
from features.schema import Schema
from stores.publishing import lock as publishing_lock
from stores.publishing.port import Block, Rows
from stores.publishing.publish import Published, publish

SCHEMA = Schema((FeatureSpec("build", FeatureType.INT), FeatureSpec("user", FeatureType.INT)))
USERS = 20_000
BLOCK = 250
LOCK_SECONDS = 0.4


def values(user: int, build: int) -> dict[str, int]:
    return {"build": build, "user": user}


class Builds:
    """As a snapshot would be: any stretch of rows, without those before it."""

    def __init__(self, build: int):
        self._build = build

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        for first in range(start, USERS if stop is None else stop, BLOCK):
            last = min(first + BLOCK, USERS if stop is None else stop)
            rows = ((f"user{user}", SCHEMA.pack(values(user, self._build))) for user in range(first, last))
            yield from Rows(rows).blocks()


def publish_build(
    url: str, namespace: str, build: int, progress: Callable[[int], object] = lambda users: None
) -> Published:
    publishing_lock.LOCK_SECONDS = LOCK_SECONDS
    return publish(
        url,
        Builds(build),
        schema=SCHEMA,
        as_of=float(build),
        snapshot_id=f"s{build}",
        count=USERS,
        namespace=namespace,
        progress=progress,
    )


if __name__ == "__main__":
    print("begun", flush=True)
    publish_build(sys.argv[1], sys.argv[2], int(sys.argv[3]), lambda users: print(users, flush=True))

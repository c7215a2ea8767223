"""A publisher that is really killed, at any moment: the old features are read until the new ones are complete."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_publisher
import pytest
from killed_publisher import SCHEMA, USERS, publish_build, values
from namespaces import namespace

from stores.connect import connect
from stores.online.layout import Keys
from stores.online.redis_store import RedisStore
from stores.publishing.publish import pointer_of


def killed_after(lines: int, delay: float, url: str, name: str, build: int) -> bool:
    """Kills a publisher so long after it said so many lines; whether that was before it had ended."""
    words = [sys.executable, str(Path(killed_publisher.__file__)), url, name, str(build)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(delay)
        process.kill()
        assert process.wait() in (0, -signal.SIGKILL), process.stderr.read()
        return process.returncode != 0


def rows_done(url: str, name: str, build: int) -> int:
    with connect(url, 5.0) as client:
        return int(client.hget(Keys(name).progress, f"s{build}") or 0)


async def read_all(url: str, name: str, users: range) -> list[dict]:
    store = RedisStore(url, timeout=5.0, namespace=name)
    try:
        return [dict((await store.read(f"user{user}", SCHEMA)).features) for user in users]
    finally:
        await store.close()


def attempts(url: str, name: str, build: int, kills: int, seed: int) -> int:
    """Kills so many attempts, then lets one end; how many rows those that were killed had done."""
    chance = random.Random(seed)
    done = 0
    for _ in range(kills):
        ended = not killed_after(chance.randrange(30), chance.uniform(0.0, 0.01), url, name, build)
        read = asyncio.run(read_all(url, name, range(0, USERS, 997)))
        now = pointer_of(url, namespace=name).current.name
        assert read == [values(user, int(now[1:])) for user in range(0, USERS, 997)]
        if ended or now == f"s{build}":
            return done
        assert rows_done(url, name, build) >= done
        done = rows_done(url, name, build)
        time.sleep(1.5 * killed_publisher.LOCK_SECONDS)
    assert publish_build(url, name, build).resumed_at == done
    return done


@pytest.mark.parametrize("server", ["valkey_url", "cluster_url"])
def test_publishers_killed_at_random_moments_go_on_where_they_were(request, server):
    url = request.getfixturevalue(server)
    with namespace(url) as name:
        publish_build(url, name, 1)
        assert attempts(url, name, 2, kills=3, seed=5) > 0
        assert asyncio.run(read_all(url, name, range(0, USERS, 37))) == [
            values(user, 2) for user in range(0, USERS, 37)
        ]


@pytest.mark.heavy
@pytest.mark.parametrize("server", ["valkey_url", "cluster_url"])
def test_fifty_kills_lose_nothing(request, server):
    url = request.getfixturevalue(server)
    with namespace(url) as name:
        publish_build(url, name, 1)
        for build in range(2, 12):
            attempts(url, name, build, kills=5, seed=build)
            found = asyncio.run(read_all(url, name, range(0, USERS, 7)))
            assert found == [values(user, build) for user in range(0, USERS, 7)]


def test_another_process_is_refused_until_the_killed_one_is_forgotten(valkey_url):
    with namespace(valkey_url) as name:
        publish_build(valkey_url, name, 1)
        assert killed_after(2, 0.0, valkey_url, name, 2)
        with pytest.raises(Exception, match="Another process is publishing"):
            publish_build(valkey_url, name, 2)
        time.sleep(1.5 * killed_publisher.LOCK_SECONDS)
        assert publish_build(valkey_url, name, 2).changed

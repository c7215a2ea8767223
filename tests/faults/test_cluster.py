"""One node of the store's cluster dies while a real server serves: its own users do with less, and nobody else."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_time import Watch
from servers import cluster

from decisioning.catalog_yaml import load_catalog
from decisioning.identity import user_key
from features.schema import Schema
from stores.online.layout import Keys
from stores.publishing.publish import publish

CATALOG = b"""
features: {consent: {type: bool, if_missing: block}}
surfaces: {x: {fallback: y}}
offers: {y: {owner: o, group: g, surfaces: [x]}}
"""
REPOSITORY = Path(__file__).parents[2]
USERS = [f"user{number}" for number in range(64)]
DEADLINE = 0.25


@pytest.fixture
def three(tmp_path, home):
    """Knows all of `USERS`, who consented; in two buckets."""
    schema = Schema.of(load_catalog({"all.yaml": CATALOG}).features)
    with cluster(tmp_path / "cluster") as made:
        rows = [(user_key(home.secret(), user), schema.pack({"consent": True})) for user in USERS]
        publish(made.url, rows, schema=schema, as_of=time.time(), snapshot_id="snap-1", count=len(rows))
        yield made


def test_a_node_that_dies_costs_its_own_users_alone_and_is_used_again_within_two_seconds(serve, three, home, within):
    server = serve(three.url)
    keys = Keys()
    histories = {user: three.owner(keys.history(user_key(home.secret(), user))) for user in USERS}
    whole = {user: server.decide(user_id=user) for user in USERS}
    assert {(one["source"], *one["degraded"]) for one in whole.values()} == {("rules",)}

    held = {node: [user for user in USERS if histories[user] is node] for node in three.nodes}
    victim = three.nodes[2]
    lost = held.pop(victim)
    with victim.client() as client:
        client.save()
    victim.kill()
    for user in lost + [user for users in held.values() for user in users]:
        watch = Watch()
        answer = server.decide(user_id=user)
        assert watch.seconds < DEADLINE
        assert ("history:unread" in answer["degraded"]) == (user in lost)
        if user in lost:
            assert answer["offers"][0]["offer"] == "generic", "a cap that can't be read is closed"
        elif "features:unread" not in answer["degraded"]:
            assert answer["offers"] == whole[user]["offers"] or answer["offers"][0]["offer"] == "annual"
    assert "store_down" not in server.events()

    ann, bob = lost[0], next(iter(held.values()))[0]
    for number in range(2):
        assert server.report(f"e{number}", user_id=ann)["degraded"] == ["store:down"]
        assert server.report(f"e{number}", user_id=bob)["degraded"] == []
    assert server.decide(user_id=bob)["offers"][0]["offer"] == "generic", "bob has seen it twice"

    assert victim.start()
    three.wait_until_whole()
    within(2.0, lambda: all(server.decide(user_id=user)["degraded"] == [] for user in lost))
    within(2.0, lambda: server.decide(user_id=ann)["offers"][0]["offer"] == "generic")
    assert server.decide(user_id=lost[1])["offers"][0]["offer"] == "annual"


def test_an_address_that_no_store_can_have_ends_the_server_with_one_message(home):
    command = [
        sys.executable,
        "-m",
        "serving",
        "--home",
        home.path,
        "--port",
        "0",
        "--redis-url",
        "redis+cluster://a/7",
    ]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "a cluster has one database alone" in ended.stderr
    assert "Traceback" not in ended.stderr

"""The file of API keys: what stands in it, what never does, and that it is changed whole or not at all."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from decisioning.errors import UserError
from stores import key_file
from stores.api_keys import DECIDE, EVENTS, MOST_CLIENTS, Limit, digest, parse, parse_limit
from stores.key_file import KeyFile

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "home" / "keys.json")


def add(keys: KeyFile, name: str = "ios", scopes: tuple[str, ...] = (DECIDE,), **more):
    return keys.add(name, scopes, **{"who": "test", "now": 100.0, **more})


def test_a_key_is_256_random_bits_behind_a_prefix_and_its_file_holds_its_hash_alone(keys):
    issued = [add(keys, f"client-{n}") for n in range(20)]
    assert len({one.text for one in issued}) == 20
    content = keys.path.read_text()
    for one in issued:
        assert re.fullmatch(r"segue_[A-Za-z0-9_-]{43}", one.text)
        assert one.text[6:] not in content
        assert one.key.sha256 == digest(one.text.encode())
        assert one.key.sha256 in content


def test_the_file_is_for_its_owner_alone_and_a_mode_that_was_set_stays(keys):
    add(keys)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    keys.path.chmod(0o640)
    add(keys, "tv")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o640
    assert [one.name for one in keys.path.parent.iterdir() if one.name.endswith(".tmp")] == []


def test_a_client_has_two_keys_while_it_changes_over_and_never_three(keys):
    first = add(keys, limit=Limit(5, 1))
    second = keys.rotate("ios", who="test", now=200.0)
    (client,) = keys.clients()
    assert [key.id for key in client.keys] == [first.key.id, second.key.id]
    assert (client.scopes, client.limit) == ((DECIDE,), Limit(5, 1))
    with pytest.raises(UserError, match=f"segue keys revoke ios ID. with {first.key.id} or {second.key.id}"):
        keys.rotate("ios", who="test", now=300.0)
    assert keys.revoke("ios", first.key.id) == (first.key,)
    third = keys.rotate("ios", who="test", now=300.0)
    assert [key.id for key in keys.clients()[0].keys] == [second.key.id, third.key.id]


def test_an_expired_key_makes_way_for_a_new_one(keys):
    add(keys, expires_at=150.0)
    keys.rotate("ios", expires_at=1000.0, who="test", now=140.0)
    keys.rotate("ios", who="test", now=160.0)
    assert [key.made_at for key in keys.clients()[0].keys] == [140.0, 160.0]


def test_revoking_all_keys_takes_the_client_away_and_leaves_the_file(keys):
    add(keys)
    keys.rotate("ios", who="test", now=200.0)
    assert len(keys.revoke("ios")) == 2
    assert keys.clients() == ()
    assert keys.path.exists(), "without it, servers would be open to everybody"


def test_each_client_has_a_place_of_its_own_and_one_that_was_used_is_taken_last(keys, monkeypatch):
    monkeypatch.setattr(key_file, "MOST_CLIENTS", 4)
    for name in ("a", "b", "c"):
        add(keys, name)
    keys.revoke("b")
    add(keys, "d")
    add(keys, "e")
    assert {one.name: one.place for one in keys.clients()} == {"a": 0, "c": 2, "d": 3, "e": 1}
    with pytest.raises(UserError, match="4 clients already"):
        add(keys, "f")


def test_a_client_gets_other_scopes_or_another_limit_and_keeps_its_keys(keys):
    key = add(keys, scopes=(DECIDE,), limit=Limit(5, 1)).key
    assert keys.change("ios", limit=Limit(9, 60)).limit == Limit(9, 60)
    assert keys.change("ios", scopes=(EVENTS, DECIDE)).scopes == (DECIDE, EVENTS)
    (client,) = keys.clients()
    assert (client.scopes, client.limit, client.keys) == ((DECIDE, EVENTS), Limit(9, 60), (key,))
    assert keys.change("ios", unlimited=True).limit is None


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda keys: add(keys, "ios"), "already: `segue keys rotate ios`"),
        (lambda keys: add(keys, "Ios App"), "small letters"),
        (lambda keys: add(keys, "x" * 65), "up to 64"),
        (lambda keys: keys.rotate("tv", who="t", now=0.0), "no client tv. There are: ios"),
        (lambda keys: keys.revoke("tv"), "no client tv"),
        (lambda keys: keys.revoke("ios", "12345678"), "no key 12345678. It has: "),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(keys, act, told):
    add(keys)
    before = keys.path.read_bytes()
    with pytest.raises(UserError, match=told):
        act(keys)
    assert keys.path.read_bytes() == before


def damaged(change) -> bytes:
    client = {
        "name": "ios",
        "place": 0,
        "scopes": ["decide"],
        "keys": [{"id": "1" * 8, "sha256": "1" * 64, "made_at": 0, "made_by": "me"}],
    }
    file = {"version": 1, "clients": [client]}
    change(file, client)
    return json.dumps(file).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no file of keys"),
        (b'{"version": 1, "clients": [', "no file of keys"),
        (b"\xff\xfe", "no file of keys"),
        (b"[" * 100_000, "no file of keys"),
        (damaged(lambda file, one: file.update(version=2)), "of version 2"),
        (damaged(lambda file, one: file["clients"].append(one | {"place": 1, "name": "tv"})), "the same key"),
        (damaged(lambda file, one: file["clients"].append(one | {"place": 1, "keys": []})), "the same name"),
        (damaged(lambda file, one: file["clients"].append(one | {"name": "tv", "keys": []})), "the same place"),
        (damaged(lambda file, one: one.update(scopes=["admin"])), "a scope that is not known: admin"),
        (damaged(lambda file, one: one.update(place=MOST_CLIENTS)), "no place"),
        (damaged(lambda file, one: one.update(limit={"requests": 0, "seconds": 1})), "limit of ios"),
        (damaged(lambda file, one: one["keys"][0].update(expire_at=5)), "unknown field"),
        (damaged(lambda file, one: one["keys"][0].update(sha256="1" * 63)), "no SHA-256"),
    ],
)
def test_a_damaged_file_is_refused_whatever_is_wrong_with_it_and_never_written_over(keys, content, told):
    with pytest.raises(ValueError, match=told):
        parse(content)
    keys.path.parent.mkdir()
    keys.path.write_bytes(content)
    with pytest.raises(UserError, match=r"can't be used"):
        add(keys, "other")
    assert keys.path.read_bytes() == content


def test_a_file_that_is_whole_is_read():
    (client,) = parse(damaged(lambda file, one: None))
    assert client.name == "ios"


@pytest.mark.parametrize(
    ("text", "limit"), [("500/s", Limit(500, 1)), (" 10/m ", Limit(10, 60)), ("9/d", Limit(9, 86_400))]
)
def test_a_limit_is_so_many_requests_in_a_unit_of_time(text, limit):
    assert parse_limit(text) == limit
    assert str(limit) == text.strip()


@pytest.mark.parametrize("text", ["", "500", "0/s", "-1/s", "1.5/s", "5/w", "10000000/s", "５/s", "5/s/m"])
def test_a_limit_that_is_none_is_told(text):
    with pytest.raises(UserError, match="500/s"):
        parse_limit(text)


ADDING = """
import sys
from pathlib import Path
from stores.key_file import KeyFile
for number in range(10):
    KeyFile(Path(sys.argv[1])).add(f"{sys.argv[2]}-{number}", ["decide"], who="test", now=0.0)
"""


def test_two_who_add_keys_at_once_lose_none(keys):
    words = [sys.executable, "-c", ADDING, keys.path]
    running = [subprocess.Popen([*words, name], cwd=REPOSITORY) for name in ("left", "right")]
    assert [one.wait(60) for one in running] == [0, 0]
    assert len(keys.clients()) == 20


def test_scopes_are_kept_in_one_order_and_once(keys):
    assert add(keys, scopes=(EVENTS, DECIDE, EVENTS)).client.scopes == (DECIDE, EVENTS)

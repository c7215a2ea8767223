"""Entering a server: who one is, which database, by TLS or not; and what is told of an address that makes no sense."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from certificates import certificate
from redis import Redis
from servers import HOST, Server, free_ports, redis_server, system_server

from decisioning.errors import UserError
from stores.connect import address
from stores.online.door import Door
from stores.online.port import StoreDown
from stores.online.redis_store import RedisStore
from stores.online.wire import command, wire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[tuple[Server, int, Path]]:
    """A server with users and TLS, the port of the latter, and the folder of the certificates."""
    binary = system_server()
    if binary is None:
        pytest.skip("there is no redis-server on this machine: install the package redis-server (.ci/run does)")
    folder = Path(tmp_path_factory.mktemp("guarded"))
    certified, key = certificate(folder)
    certificate(folder, "stranger")
    (port,) = free_ports(1)
    tls = {"tls-port": port, "tls-cert-file": certified, "tls-key-file": key, "tls-ca-cert-file": certified}
    settings = {name: str(value) for name, value in tls.items()} | {"tls-auth-clients": "optional"}
    with redis_server(folder / "server", binary, **settings) as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "ann", "on", ">s3:cr@t", "~*", "+@all")
            admin.config_set("requirepass", "of everybody")
        yield server, port, folder


def admin_of(guarded) -> Redis:
    return Redis(host=HOST, port=guarded[0].port, password="of everybody", protocol=2)


async def said(url: str, *questions: tuple) -> list:
    made = wire(url, 2.0)
    try:
        return await made.ask(*map(command, questions), due=monotonic() + 2.0)
    finally:
        await made.close()


def plain(guarded, login: str = "", rest: str = "") -> str:
    return f"redis://{login}{HOST}:{guarded[0].port}{rest}"


def by_tls(guarded, *options: str, host: str = HOST) -> str:
    return f"rediss://:of%20everybody@{host}:{guarded[1]}?{'&'.join(options)}"


@pytest.mark.parametrize(("login", "who"), [("ann:s3%3Acr%40t@", b"ann"), (":of%20everybody@", b"default")])
async def test_one_enters_as_the_user_of_the_address(guarded, login, who):
    assert await said(plain(guarded, login), ("ACL", "WHOAMI")) == [who]


@pytest.mark.parametrize(("login", "why"), [("", "(?i)authentication required"), ("ann:wrong@", "invalid username-")])
async def test_who_may_not_enter_is_told_why_and_the_store_is_down(guarded, login, why):
    (told,) = await said(plain(guarded, login), ("PING",))
    assert isinstance(told, Exception)
    store = RedisStore(plain(guarded, login), timeout=1.0)
    with pytest.raises(StoreDown, match=why) as error:
        await store.kill("annual")
    assert "wrong" not in str(error.value)
    await store.close()


async def test_a_user_whose_password_comes_into_force_later_is_let_in_without_a_restart(guarded):
    made = wire(plain(guarded, "bob:later@"), 1.0)
    (told,) = await made.ask(command(("PING",)), due=monotonic() + 1.0)
    assert isinstance(told, Exception)
    with admin_of(guarded) as admin:
        admin.execute_command("ACL", "SETUSER", "bob", "on", ">later", "~*", "+@all")
    deadline = monotonic() + 2.0
    while told != b"PONG" and monotonic() < deadline:
        (told,) = await made.ask(command(("PING",)), due=monotonic() + 1.0)
        await asyncio.sleep(0.02)
    assert told == b"PONG"
    await made.close()


async def test_the_database_of_the_address_is_the_one_that_is_used(guarded):
    third = plain(guarded, ":of%20everybody@", "/3")
    assert await said(third, ("SET", "where", "in three"), ("GET", "where")) == [b"OK", b"in three"]
    assert await said(plain(guarded, ":of%20everybody@"), ("GET", "where")) == [None]


async def test_tls_is_spoken_with_a_server_that_the_authority_knows(guarded):
    folder = guarded[2]
    for host in (HOST, "localhost"):
        url = by_tls(guarded, f"ssl_ca_certs={folder}/localhost.crt", host=host)
        assert await said(url, ("ECHO", "x" * 100_000)) == [b"x" * 100_000]
    assert await said(by_tls(guarded, "ssl_cert_reqs=none"), ("PING",)) == [b"PONG"]


@pytest.mark.parametrize("option", ["", "ssl_ca_certs={}/stranger.crt"])
async def test_a_server_that_the_authority_does_not_know_is_not_trusted(guarded, option):
    (told,) = await said(by_tls(guarded, option.format(guarded[2])), ("PING",))
    assert "certificate" in str(told).lower()


async def test_a_server_may_ask_for_a_certificate_of_its_client(guarded):
    folder = guarded[2]
    own = f"ssl_certfile={folder}/localhost.crt", f"ssl_keyfile={folder}/localhost.key"
    with admin_of(guarded) as admin:
        admin.config_set("tls-auth-clients", "yes")
        try:
            ca = f"ssl_ca_certs={folder}/localhost.crt"
            assert await said(by_tls(guarded, ca, *own), ("PING",)) == [b"PONG"]
            (told,) = await said(by_tls(guarded, ca), ("PING",))
            assert isinstance(told, Exception)
        finally:
            admin.config_set("tls-auth-clients", "optional")


async def test_plain_words_to_a_server_of_tls_are_a_store_that_is_down(guarded):
    (told,) = await said(f"redis://{HOST}:{guarded[1]}", ("PING",))
    assert isinstance(told, Exception)


NO_FILE = r"ssl_ca_certs=/nowhere/ca\.crt can't be read: .*No such file"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://store?nonsense=1", "nonsense"),
        ("rediss://store?ssl_cert_reqs=maybe", "maybe"),
        ("rediss://:secret@store?ssl_ca_certs=/nowhere/ca.crt", NO_FILE),
        ("rediss+cluster://:secret@store?ssl_ca_certs=/nowhere/ca.crt", NO_FILE),
    ],
)
def test_options_that_make_no_sense_are_told_before_anything_connects(url, why):
    with pytest.raises(UserError, match=why) as told:
        wire(url, 1.0)
    assert "secret" not in str(told.value)


def test_a_wire_is_made_without_an_event_loop_and_connects_to_nothing(tmp_path):
    """So that a server may make it before it forks its workers."""
    for url in (f"unix://{tmp_path}/nobody.sock", "redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"):
        wire(url, 1.0)


def test_a_door_shows_no_password():
    assert "secret" not in repr(Door.of(address("redis://ann:secret@store")))

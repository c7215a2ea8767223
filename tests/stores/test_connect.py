"""Addresses of stores: what is accepted, and what is told about the rest."""

import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from decisioning.errors import UserError
from stores.connect import address


@pytest.mark.parametrize(
    ("url", "is_cluster", "nodes"),
    [
        ("redis://store", False, (("store", 6379),)),
        ("redis://ann:secret@store:7000/3", False, (("store", 7000),)),
        ("rediss://store:7000", False, (("store", 7000),)),
        ("unix:///run/valkey.sock", False, ()),
        ("redis+cluster://one:7000,two:7001,three", True, (("one", 7000), ("two", 7001), ("three", 6379))),
        ("redis+cluster://:secret@[::1]:7000,two/0", True, (("::1", 7000), ("two", 6379))),
    ],
)
def test_one_server_and_a_cluster_are_told_by_the_scheme(url, is_cluster, nodes):
    found = address(url)
    assert (found.is_cluster, found.nodes) == (is_cluster, nodes)


def test_login_encryption_and_options_hold_for_every_node():
    found = address("rediss+cluster://ann:s%40cret@one:7000,two:7001?ssl_ca_certs=/etc/store.pem")
    options = found.options(timeout=0.5)
    assert (options["username"], options["password"]) == ("ann", "s@cret")
    assert (options["connection_class"], options["ssl_ca_certs"]) == (SSLConnection, "/etc/store.pem")
    assert all(url.endswith("?ssl_ca_certs=/etc/store.pem") and "ann:s%40cret@" in url for url in found.urls)


def test_connections_never_retry_and_never_wait_longer_than_told():
    options = address("unix:///run/valkey.sock").options(timeout=0.5)
    assert options["connection_class"] is UnixDomainSocketConnection
    assert (options["socket_timeout"], options["socket_connect_timeout"], options["protocol"]) == (0.5, 0.5, 2)
    assert options["retry"].get_retries() == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://store", "must begin with redis://"),
        ("store:6379", "must begin with redis://"),
        ("redis://", "must begin with redis://"),
        ("unix://", "must begin with redis://"),
        ("redis://store:port", "can't be read"),
        ("redis+cluster://one,two/3", "one database alone"),
        ("redis+cluster://,", "names no node"),
        ("redis+cluster://:7000", "no host"),
    ],
)
def test_an_address_that_no_store_can_have_is_refused_in_words(url, why):
    with pytest.raises(UserError, match=why):
        address(url)


@pytest.mark.parametrize(
    "password", ["secret", "secret#1", "secret/1", "secret?1", "12#secret", "12/secret", "12?secret"]
)
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_what_is_told_about_an_address_holds_no_part_of_a_password(scheme, password):
    with pytest.raises(UserError, match="can't be read") as told:
        address(f"{scheme}://ann:{password}@store:port")
    assert "secret" not in str(told.value)
    assert "12" not in str(told.value)


@pytest.mark.parametrize("sign", "#/?")
def test_a_password_with_a_bare_sign_is_never_taken_for_a_host_and_port(sign):
    with pytest.raises(UserError, match="bare #, / or"):
        address(f"redis://ann:12{sign}secret@store:6379")
    assert address(f"redis://ann:12%{ord(sign):02X}secret@store:6379").options(1.0)["password"] == f"12{sign}secret"


def test_an_address_shows_no_password():
    assert "secret" not in repr(address("redis://ann:secret@store"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:secret@one:7000/3?ssl_keyfile=secret", "one:7000"),
        ("rediss://:secret@one", "one:6379"),
        ("redis:///2", "localhost:6379"),
        ("unix://ann:secret@/run/valkey.sock?db=2", "/run/valkey.sock"),
        ("redis+cluster://ann:secret@one:7000,two:7001", "one:7000, two:7001"),
    ],
)
def test_where_a_store_is_can_be_told_without_its_login(url, shown):
    assert address(url).shown == shown

"""The proxy does what it is told: a fault suite is worth as much as its faults."""

import socket
import time
from urllib.parse import urlsplit

import pytest
from proxy import proxy
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry


def client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0), protocol=2)


@pytest.fixture(scope="module")
def between(valkey_url):
    with proxy(valkey_url) as between:
        yield between


@pytest.mark.parametrize("fault", ["garble", "cut", "reset", "refuse", "swallow"])
def test_a_fault_reaches_open_connections_and_new_ones_and_ends_when_told(between, fault):
    with client(between.url) as before, client(between.url) as after:
        assert before.echo("hello") == b"hello"
        with between.fault(fault):
            for one in (before, after):
                with pytest.raises((RedisError, ValueError)):
                    assert one.echo("a long enough text to be garbled") == b""
        with client(between.url) as fresh:
            assert fresh.echo("hello") == b"hello"


def test_slow_answers_are_late_and_keep_their_order(between):
    with client(between.url) as one, between.fault("slow", seconds=0.15, share=0.5):
        started = time.monotonic()
        with one.pipeline(transaction=False) as pipe:
            for number in range(50):
                pipe.echo(str(number))
            assert pipe.execute() == [str(number).encode() for number in range(50)]
        for number in range(10):
            assert one.echo(str(number)) == str(number).encode()
        assert time.monotonic() - started > 0.15


def test_what_is_cut_off_does_not_overtake_what_is_late(between):
    """Else a client would take it for the answer to another question, as no network makes it."""
    with socket.create_connection(tuple(urlsplit(between.url).netloc.split(":")), 10.0) as line:
        with between.fault("slow", seconds=0.5):
            line.sendall(b"PING\r\n")
            time.sleep(0.1)
        with between.fault("cut"):
            line.sendall(b"ECHO overtaking\r\n")
            assert line.recv(100) == b""


def test_connections_are_counted(between):
    before = between.connects
    for _ in range(3):
        with client(between.url) as one:
            one.ping()
    assert between.connects == before + 3

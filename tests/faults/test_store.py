"""The online store can't be read: dead, hanging, refusing, loading, talking nonsense. Every request is answered."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError
from stand import shown

from serving.guarded.circuit import PROBE_EVERY
from stores.embedded import LEASH, embedded_binary

LEASHED = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), embedded_binary()]
"""A server of the embedded kind, gone with this process."""

LOST = {"store:down", "store:slow"}
"""What `degraded` may say of the store: the first requests of a fault may still wait for an answer."""


@contextmanager
def killed(valkey):
    valkey.save()
    valkey.kill()
    try:
        yield
    finally:
        valkey.start()


@contextmanager
def frozen(valkey):
    valkey.freeze()
    try:
        yield
    finally:
        valkey.thaw()


def test_a_store_that_is_killed(stand):
    stand.endures(killed(stand.valkey), says=LOST)


def test_a_store_that_hangs(stand):
    stand.endures(frozen(stand.valkey), says=LOST)


def test_a_store_that_refuses_connections(stand):
    stand.endures(stand.between.fault("refuse"), says=LOST)


def test_a_store_that_resets_connections(stand):
    stand.endures(stand.between.fault("reset"), says=LOST)


def test_a_store_that_swallows_whatever_it_is_sent(stand):
    stand.endures(stand.between.fault("swallow"), says=LOST)


def test_a_store_that_answers_garbage(stand):
    stand.endures(stand.between.fault("garble"), says=LOST)


def test_a_store_that_is_cut_off_in_the_middle_of_an_answer(stand):
    stand.endures(stand.between.fault("cut"), says=LOST)


def test_a_store_that_has_too_many_clients(stand):
    @contextmanager
    def crowded():
        with Redis.from_url(stand.valkey.url, single_connection_client=True) as admin:
            admin.config_set("maxclients", 1)
            try:
                admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
                with pytest.raises(RedisError), stand.valkey.admin() as another:
                    another.ping()  # "max number of clients reached", or the end of the connection if that comes first
                yield
            finally:
                admin.config_set("maxclients", 10_000)

    stand.endures(crowded(), says=LOST)


def test_a_store_whose_user_may_do_nothing(stand):
    @contextmanager
    def forbidden():
        with stand.valkey.boss() as boss:
            boss.execute_command("ACL SETUSER default -@all")
            try:
                yield
            finally:
                boss.execute_command("ACL SETUSER default +@all")

    stand.endures(forbidden(), says=LOST)


class Over(Exception):
    """The pause was over before the questions were: a machine too busy for so short a one."""


def test_a_store_that_pauses_all_its_clients(stand):
    """No connection can end such a pause."""

    @contextmanager
    def paused(seconds: float):
        with stand.valkey.admin() as admin:
            admin.client_pause(int(seconds * 1000))
        ends = time.monotonic() + seconds
        try:
            yield
        except AssertionError:
            if time.monotonic() < ends:
                raise
        if time.monotonic() >= ends:
            raise Over
        time.sleep(ends - time.monotonic())

    for seconds in (3.0, 6.0, 12.0):
        with suppress(Over):
            return stand.endures(paused(seconds), says=LOST, rounds=5)
    pytest.fail("this machine is too busy even for the longest pause")


def test_a_store_that_loads_its_data(stand, tmp_path):
    """For seconds after it started it answers LOADING: here it takes a millisecond for each of its keys."""

    @contextmanager
    def loading():
        with stand.valkey.admin() as admin:
            admin.mset({f"other:{number}": number for number in range(20_000)})
        with killed(stand.valkey):
            place = tmp_path / "s"
            command = [*LEASHED, "--port", "0", "--unixsocket", place, "--dir", stand.valkey.folder, "--save", ""]
            command += ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
            server = subprocess.Popen([*command, "--dbfilename", "valkey.rdb"], stdout=subprocess.DEVNULL)
            try:
                with Redis.from_url(f"unix://{place}") as client:
                    stand.until(lambda: answers(client, BusyLoadingError), seconds=10.0)
                    stand.between.point(f"unix://{place}")
                    yield
                    assert answers(client, BusyLoadingError)
            finally:
                server.kill()
                server.wait()
        stand.between.point(stand.valkey.url)

    stand.endures(loading(), says=LOST)


def answers(client: Redis, error: type[Exception]) -> bool:
    try:
        client.get("any")
    except error:
        return True
    except RedisError:
        return False
    return False


def test_a_server_starts_without_its_store_and_finds_it_later(serve, valkey, within):
    valkey.kill()
    server = serve(valkey.url)
    assert shown(server.decide()) == ["generic"]
    assert shown(server.decide("strip")) == ["poster"], "what needs no fact is still shown"
    valkey.start()
    within(2.0, lambda: server.decide()["degraded"] == [])


@pytest.mark.parametrize("fault", ["reset", "swallow"])
def test_no_request_reconnects_and_so_none_waits_for_a_connection(stand, fault):
    """A few attempts a second, however many requests come, where connections lead nowhere."""
    user = stand.user()
    stand.ask(user)
    stand.seconds, before, started = [], stand.between.connects, time.monotonic()
    with stand.between.fault(fault):
        for number in range(400):
            stand.ask(user)
            if number % 8 == 0:
                stand.report(f"{fault}{number}", user, type="click")
        seconds = time.monotonic() - started
        assert stand.between.connects - before <= 4 + 2 * seconds / PROBE_EVERY
    assert stand.was_in_time()
    stand.until(lambda: stand.is_well(user))

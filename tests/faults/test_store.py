"""The online store dies, hangs, or talks nonsense while a real server serves: every request is answered."""

import socketserver
import threading
import time

import pytest

DEADLINE = 0.25
"""Far above the surface's 30 ms, and far below what a client library would wait for a dead store."""


def timed(decide) -> tuple[dict, float]:
    started = time.monotonic()
    return decide(), time.monotonic() - started


def obeys_consent(answer: dict) -> bool:
    """Without the user's features nobody can know of consent: only the fallback is left."""
    return answer["source"] == "fallback" and [one["offer"] for one in answer["offers"]] == ["generic"]


def test_a_killed_store_leaves_rules_and_fallbacks_and_comes_back_within_two_seconds(serve, valkey, within):
    server = serve(valkey.url)
    before = server.decide()
    assert (before["source"], before["degraded"]) == ("rules", [])
    assert before["offers"][0]["offer"] == "annual"

    valkey.kill()
    for _ in range(50):
        answer, seconds = timed(server.decide)
        assert answer["degraded"] == ["store:down"]
        assert obeys_consent(answer)
        assert seconds < DEADLINE
    unguarded = server.decide("strip")
    assert unguarded["source"] == "rules"
    assert unguarded["offers"][0]["offer"] == "poster", "what needs no fact is still shown"
    assert server.http.get("/readyz").status_code == 200, "readiness never depends on the store"

    valkey.start()
    within(2.0, lambda: server.decide()["degraded"] == [])
    assert server.decide()["offers"][0]["offer"] == "annual"
    assert server.events().count("store_down") == 1


def test_a_store_that_hangs_is_given_up_at_the_deadline_and_used_again_when_it_answers(serve, valkey, within):
    server = serve(valkey.url)
    server.decide()
    valkey.freeze()
    try:
        for _ in range(20):
            answer, seconds = timed(server.decide)
            assert answer["degraded"] in (["store:slow"], ["store:down"])
            assert obeys_consent(answer)
            assert seconds < DEADLINE
        assert answer["degraded"] == ["store:down"], "the breaker is open by now: nobody waits"
    finally:
        valkey.thaw()
    within(2.0, lambda: server.decide()["degraded"] == [])


def test_events_of_an_outage_are_accepted_logged_and_counted_once_it_is_over(serve, valkey, within, home):
    server = serve(valkey.url)
    server.report("e1")
    valkey.save()
    valkey.kill()
    during = server.report("e2")
    assert (during["accepted"], during["degraded"]) == (1, ["store:down"])
    assert server.report("e2")["accepted"] == 1
    valkey.start()
    within(2.0, lambda: server.decide()["degraded"] == [])
    reasons = {one["offer"]: one["stage"] for one in server.decide(explain=True)["reasons"]}
    assert reasons["annual"] == "cap", "two impressions fill it: the one before the outage and the one within"
    assert server.report("e2")["duplicates"] == 1
    logged = b"".join(file.read_bytes() for file in (home.logs / "events").iterdir())
    assert logged.count(b'"e1"') == 1
    assert logged.count(b'"e2"') == 3, "the log has every report; readers count an event_id once"


@pytest.mark.parametrize("setting", [("maxmemory", "1"), ("min-replicas-to-write", "1")], ids=["full", "only read"])
def test_a_store_that_takes_no_writes_is_read_on_and_caps_know_of_what_waits(serve, valkey, within, setting):
    server = serve(valkey.url)
    assert server.decide()["offers"][0]["offer"] == "annual"
    with valkey.admin() as admin:
        before = admin.config_get(setting[0])[setting[0]]
        admin.config_set(*setting)
        assert server.report("e0")["degraded"] == ["store:read_only"]
        answer = server.decide()
        assert (answer["offers"][0]["offer"], answer["degraded"]) == ("annual", ["store:read_only"])
        assert server.report("e1")["degraded"] == ["store:read_only"]
        for _ in range(10):
            answer, seconds = timed(server.decide)
            assert obeys_consent(answer), "a cap that was reached meanwhile"
            assert seconds < DEADLINE
        admin.config_set(setting[0], before)
    within(2.0, lambda: server.decide()["degraded"] == [])
    reasons = {one["offer"]: one["stage"] for one in server.decide(explain=True)["reasons"]}
    assert reasons["annual"] == "cap", "what was reported meanwhile counts"


def test_a_server_starts_without_its_store_and_finds_it_later(serve, valkey, within):
    valkey.kill()
    server = serve(valkey.url)
    assert obeys_consent(server.decide())
    valkey.start()
    within(2.0, lambda: server.decide()["degraded"] == [])


class Nonsense(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(b"HTTP/1.1 400 this is no Redis\r\n\r\n\x00\xff")


@pytest.fixture
def nonsense():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as liar:
        liar.daemon_threads = True
        threading.Thread(target=liar.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{liar.server_address[1]}"
        liar.shutdown()


def test_a_store_that_talks_nonsense_is_a_store_that_is_down(serve, nonsense):
    server = serve(nonsense)
    for _ in range(5):
        answer, seconds = timed(server.decide)
        assert obeys_consent(answer)
        assert seconds < DEADLINE

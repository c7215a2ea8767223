"""The server's clock jumps by hours, forward and back (libfaketime): deadlines don't feel it, and caps hold."""

import time
from datetime import datetime
from glob import glob
from pathlib import Path

import pytest
from own_time import Watch
from stand import PROMPT, shown

from stores.log import reader as log_reader
from stores.log.decision_log import decided_at, decode

LIBRARY = next(iter(glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
PATCH = Path(__file__).parents[1] / "support" / "faked_clock"
HOUR = 3600

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="install the package faketime (.ci/run does)")


class Clock:
    """Of one server: the wall clock alone, as when somebody sets it; what measures durations goes on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def environment(self) -> dict[str, str]:
        told = {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
        return {"LD_PRELOAD": LIBRARY, "PYTHONPATH": str(PATCH), **told}

    def jump(self, seconds: float) -> None:
        """From the true time; by renaming, so that nobody reads half of it."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path) -> Clock:
    return Clock(tmp_path / "offset")


def answered_at(server) -> float:
    """The server's own time, by the end of its answer's validity: five minutes from now."""
    return datetime.fromisoformat(server.decide("strip", dry_run=True)["expires_at"]).timestamp() - 300.0


@pytest.mark.parametrize("hours", [5, -5])
def test_a_jump_of_the_clock_while_the_store_hangs_makes_nobody_wait(serve, valkey, within, clock, hours):
    server = serve(valkey.url, **clock.environment)
    within(2.0, lambda: server.decide()["degraded"] == [])
    valkey.freeze()
    try:
        clock.jump(hours * HOUR)
        assert abs(answered_at(server) - time.time() - hours * HOUR) < 60.0, "the clock has jumped"
        waits = []
        for _ in range(40):
            watch = Watch()
            assert shown(server.decide()) == ["generic"]
            waits.append(watch.seconds)
        assert sorted(waits)[-4] < PROMPT
        within(2.0, lambda: "store_down" in server.events())
    finally:
        valkey.thaw()
    within(2.0, lambda: server.decide()["degraded"] == [])


def test_caps_hold_over_jumps_and_open_when_their_window_has_passed(serve, valkey, within, clock):
    server = serve(valkey.url, **clock.environment)
    within(2.0, lambda: shown(server.decide()) == ["annual"])
    server.report("e1")
    for hours in (0, 3, -3):
        clock.jump(hours * HOUR)
        within(2.0, lambda: shown(server.decide()) == ["annual"])
        server.report("e1")
    clock.jump(3 * HOUR)
    assert server.report("e2")["degraded"] == [], "what happened hours ago by the server's clock is taken"
    for hours in (3, -3, 0, 20):
        clock.jump(hours * HOUR)
        within(2.0, lambda: {"degraded": []}.items() <= server.decide().items())
        assert shown(server.decide_well()) == ["generic"], "two impressions within a day, wherever the clock stands"
    clock.jump(25 * HOUR)
    within(2.0, lambda: shown(server.decide()) == ["annual"])
    clock.jump(31 * 24 * HOUR)
    within(2.0, lambda: server.decide()["degraded"] == ["features:stale"])
    assert shown(server.decide()) == ["generic"], "consent of so long ago is none"


def test_an_event_from_the_future_of_a_clock_that_was_set_back_is_refused_and_not_lost(serve, valkey, clock):
    server = serve(valkey.url, **clock.environment)
    clock.jump(-3 * HOUR)
    event = {
        "event_id": "e",
        "type": "click",
        "decision_id": "d",
        "offer": "annual",
        "user_id": "ann",
        "at": time.time(),
    }
    answer = server.post("/v1/events", event).json()
    assert answer["accepted"] == 0
    assert "in the future" in answer["rejected"][0]["reason"]
    clock.jump(0)
    assert server.post("/v1/events", event).json()["accepted"] == 1


def test_logs_stay_whole_and_in_order_over_jumps(serve, home, clock, within):
    server = serve("", **clock.environment)
    answered = []
    for hours in (0, 7, -7, 0, 30, -30):
        clock.jump(hours * HOUR)
        answered += [server.decide("strip")["decision_id"] for _ in range(5)]
    server.process.terminate()
    assert server.process.wait(15) == 0
    folder = home.logs / "decisions"
    assert [decode(line).decision.decision_id for line in log_reader.read(folder)] == answered
    merged = [decided_at(line) for line in log_reader.read(folder, decided_at)]
    assert len(merged) == len(answered)
    assert max(merged) - min(merged) > 59 * HOUR

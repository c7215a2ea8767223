"""Retention by day, what the logs are, and the record of who was erased."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from decisioning.catalog import Catalog, Group
from decisioning.domain import Event
from decisioning.errors import UserError
from stores.erasing.erasures import FILE, mark, read_erasures, record_erasure
from stores.home import Home
from stores.home_logs import compact_logs, forget_shipping, prune_logs, ship_logs
from stores.log.compaction import compact
from stores.log.decision_log import event_line
from stores.log.event_log import DROPPED, EventLog
from stores.log.reader import read
from stores.log.retention import prune
from stores.log.status import log_status, shipments

NOW = 1_800_000_000.0
DAY = 86_400.0
SECRET = b"a secret of 16 b"


def event(days: float, number: int = 0, user: str = "u1") -> bytes:
    """So many days before NOW."""
    return event_line(Event(f"e{days}-{number}", "click", "d", "annual", user, "banner", NOW - days * DAY))


def segment(logs: Path, lines, number: int = 1) -> Path:
    path = logs / "events" / f"{number:013d}-1.a-{number:06d}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


def cut(days: float):
    return datetime.fromtimestamp(NOW - days * DAY, UTC).date()


def test_whole_days_go_compacted_or_not_and_younger_ones_stay(home):
    segment(home.logs, [event(40), event(31), event(30), event(3)], 1)
    compact(home.logs / "events")
    old = segment(home.logs, [event(50)], 2)
    both = segment(home.logs, [event(50), event(1)], 3)
    found = prune(home.logs, cut(30), now=NOW)
    assert [(one.log, one.name) for one in found] == [
        ("events", str(cut(40))),
        ("events", str(cut(31))),
        ("events", old.name),
    ]
    assert (old.exists(), both.exists()) == (False, True)
    assert list(read(home.logs / "events")) == [event(30), event(3), event(50), event(1)]
    assert not list((home.logs / "tables").rglob(f"day={cut(40)}"))
    compact(home.logs / "events")
    assert [one.name for one in prune(home.logs, cut(30), now=NOW)] == [str(cut(50))]


def test_a_dry_run_says_the_same_and_changes_nothing(home):
    segment(home.logs, [event(40)], 1)
    compact(home.logs / "events")
    segment(home.logs, [event(50)], 2)
    told = prune(home.logs, cut(30), now=NOW, dry_run=True)
    assert len(list(read(home.logs / "events"))) == 2
    assert prune(home.logs, cut(30), now=NOW) == told
    assert list(read(home.logs / "events")) == []


def test_the_day_that_it_is_never_goes(home):
    segment(home.logs, [event(0), event(1)])
    compact(home.logs / "events")
    prune(home.logs, cut(-5), now=NOW)
    assert list(read(home.logs / "events")) == [event(0)]


def test_lines_that_nobody_can_read_go_when_they_have_lain_for_so_long(home):
    segment(home.logs, [b"no json"])
    compact(home.logs / "events")
    written = datetime.now(UTC).timestamp()
    assert prune(home.logs, cut(0), now=written) == []
    prune(home.logs, datetime.fromtimestamp(written + 40 * DAY, UTC).date(), now=written + 40 * DAY)
    assert list(read(home.logs / "events")) == []


def test_what_is_not_shipped_yet_stays_and_is_named(home, tmp_path):
    ship_logs(home_with_log(home), str(tmp_path / "there"))
    path = segment(home.logs, [event(50)], 2)
    [old] = prune(home.logs, cut(30), now=NOW)
    assert old.stays
    assert path.exists()
    ship_logs(home, str(tmp_path / "there"))
    [old] = prune(home.logs, cut(30), now=NOW)
    assert not old.stays
    assert not path.exists()


def home_with_log(home: Home) -> Home:
    segment(home.logs, [event(1)])
    return home


def test_days_that_wait_for_their_labels_are_protected(home):
    rules = Catalog("c", groups={"plans": Group("plans", within=30 * DAY)})
    segment(home.logs, [event(40), event(20)])
    with pytest.raises(UserError, match="at least 30d"):
        prune_logs(home, 10 * DAY, rules, now=NOW)
    assert len(list(read(home.logs / "events"))) == 2
    prune_logs(home, 10 * DAY, rules, now=NOW, force=True)
    assert list(read(home.logs / "events")) == []


def test_status_tells_segments_days_drops_and_shipments(home, tmp_path):
    segment(home.logs, [event(3), event(2)], 1)
    compact_logs(home)
    segment(home.logs, [event(1)], 2)
    log = EventLog(home.logs / "events")
    (home.logs / "events" / DROPPED).write_text('{"lines": 3, "until": 1.8e9}\n{"lines": 4, "until": 1.7e9}\n{"tor')
    ship_logs(home, str(tmp_path / "there"))
    segment(home.logs, [event(1, 1)], 3)
    found = log_status(home.logs)["events"]
    log.close()
    assert (found.open_segments, found.sealed_segments, found.kept_segments) == (1, 2, 0)
    assert (found.days, found.first_day, found.last_day, found.lines) == (2, str(cut(3)), str(cut(2)), 2)
    assert (found.dropped, found.dropped_last) == (7, "2027-01-15T08:00:00+00:00")
    assert found.line_bytes == len(event(3)) + len(event(2))
    assert found.parquet_bytes > 0
    shipped = {row["log"]: (row["lines"], row["waiting"]) for row in shipments(home.logs)}
    assert shipped == {"decisions": (0, 0), "events": (1, 1)}
    assert forget_shipping(home, str(tmp_path / "there"))
    assert shipments(home.logs) == []


def test_a_home_without_logs_is_said_to_have_none(home):
    for work in (compact_logs, lambda where: ship_logs(where, "there")):
        with pytest.raises(UserError, match="no log"):
            work(home)
    assert log_status(home.logs)["decisions"].lines == 0


# --- Who was erased ---------------------------------------------------------------------------------------------------


def test_a_record_of_an_erasure_holds_no_key_and_counts_from_its_moment_on(home):
    record_erasure(home.path, SECRET, "u1", at=NOW - DAY, who="ticket 7")
    text = (home.path / FILE).read_text()
    assert json.loads(text) == {"user": mark(SECRET, "u1"), "at": NOW - DAY, "by": "ticket 7"}
    assert "u1" not in text
    segment(home.logs, [event(2), event(0.5), event(2, user="u2")])
    compact(home.logs / "events", drop=read_erasures(home.path, SECRET).drop)
    assert set(read(home.logs / "events")) == {event(0.5), event(2, user="u2")}
    record_erasure(home.path, SECRET, "u1", at=NOW, who="ticket 8")
    segment(home.logs, [event(0.6)], 2)
    done = compact(home.logs / "events", drop=read_erasures(home.path, SECRET).drop)
    assert done.erased == 2  # of the day that was written anew
    assert set(read(home.logs / "events")) == {event(2, user="u2")}


def test_a_record_that_is_none_is_refused_rather_than_skipped(home):
    (home.path / FILE).write_text('{"user": "x"}\n')
    with pytest.raises(UserError, match="line 1"):
        read_erasures(home.path, SECRET)

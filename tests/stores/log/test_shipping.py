"""Shipping: in order, resumed where it was, and what compaction keeps for it."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from decisioning.domain import Event
from decisioning.errors import UserError
from stores.erasing.log import erase_from_log, find_in_log
from stores.log.compaction import compact
from stores.log.cursors import Cursors, unshipped
from stores.log.decision_log import event_line
from stores.log.reader import read
from stores.log.segments import OPEN
from stores.log.shipping import ship
from stores.log.sinks import Batch, SinkDown, address_of, open_sink, read_settings

ROOT = Path(__file__).parents[3]
NOW = 1_800_000_000.0


class Kept:
    """A sink that keeps what it is sent."""

    address, batch_bytes, batch_lines = "kept", 10_000, 4

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def send(self, batch: Batch) -> None:
        self.batches.append(batch)

    def close(self) -> None: ...

    @property
    def ids(self) -> list[str]:
        return [message.id for batch in self.batches for message in batch.messages]


def event(number: int, user: str = "u1") -> bytes:
    return event_line(Event(f"e{number}", "click", f"d{number}", "annual", user, "banner", NOW + number))


@pytest.fixture
def logs(tmp_path) -> Path:
    return tmp_path / "logs"


def segment(logs: Path, numbers, number: int = 1, suffix: str = ".jsonl", end: bytes = b"") -> Path:
    path = logs / "events" / f"{number:013d}-1.a-{number:06d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(event(one) + b"\n" for one in numbers) + end)
    return path


def test_segments_go_in_the_order_of_their_start_and_batches_are_bounded(logs):
    segment(logs, range(10, 15), 2)
    segment(logs, range(10), 1)
    sink = Kept()
    assert ship(logs, sink).segments == {"events": 2}
    assert sink.ids == [f"e{number}" for number in range(15)]
    assert [len(batch.messages) for batch in sink.batches] == [4, 4, 2, 4, 1]
    assert len({batch.name for batch in sink.batches}) == 5


def test_what_a_living_server_writes_waits_and_what_a_dead_one_left_goes(logs):
    segment(logs, [1], 1, OPEN, b"torn")
    sink = Kept()
    ship(logs, sink)
    assert sink.ids == ["e1"]


def test_compaction_leaves_on_disk_what_a_destination_waits_for_and_removes_it_afterwards(logs):
    first, log = segment(logs, [1], 1), logs / "events"
    ship(logs, Kept())
    second = segment(logs, [2], 2)
    assert unshipped(log) == {second.name}
    assert compact(log).waiting == 1
    assert (first.exists(), second.exists()) == (False, True)
    assert sorted(read(log)) == [event(1), event(2)]
    sink = Kept()
    ship(logs, sink)
    assert sink.ids == ["e2"]
    assert compact(log).waiting == 0
    assert not second.exists()
    ship(logs, sink)
    assert [cursor.logs["events"].done for cursor in Cursors(logs).all()] == [{second.name}]


def test_a_destination_that_is_forgotten_holds_nothing_any_more(logs):
    ship(logs, Kept())
    path = segment(logs, [1])
    compact(logs / "events")
    assert path.exists()
    assert Cursors(logs).forget("kept")
    assert not Cursors(logs).forget("kept")
    compact(logs / "events")
    assert not path.exists()


def test_each_destination_has_its_own_cursor(logs, tmp_path):
    segment(logs, [1])
    ship(logs, Kept())
    ship(logs, open_sink(str(tmp_path / "there")))
    segment(logs, [2], 2)
    sink = Kept()
    ship(logs, sink)
    assert sink.ids == ["e2"]
    assert len(Cursors(logs).all()) == 2


def test_records_that_are_to_be_dropped_are_not_sent(logs):
    segment(logs, range(9))
    sink = Kept()
    assert ship(logs, sink, drop=lambda line, entry: entry.id != "e5").lines == {"events": 1}
    assert sink.ids == ["e5"]
    assert unshipped(logs / "events") == set()


class Breaks(Kept):
    """Takes one batch and is down."""

    def send(self, batch: Batch) -> None:
        if self.batches:
            raise SinkDown("away")
        super().send(batch)


def test_a_segment_that_was_begun_is_ended_before_an_older_one_that_came_since(logs):
    segment(logs, range(10), 2)
    with pytest.raises(UserError, match="Nothing is lost"):
        ship(logs, Breaks())
    segment(logs, [99], 1)
    sink = Kept()
    ship(logs, sink)
    assert sink.ids == [*(f"e{number}" for number in range(4, 10)), "e99"]


def test_a_destination_that_has_a_part_of_what_an_erasure_wrote_anew_is_sent_all_of_it(logs):
    path = segment(logs, range(10))
    path.write_bytes(event(77, user="gone") + b"\n" + path.read_bytes())
    with pytest.raises(UserError, match="Nothing is lost"):
        ship(logs, Breaks())
    erase_from_log(logs, "gone", find_in_log(logs, "gone"), None)
    sink = Kept()
    ship(logs, sink)
    assert sink.ids == [f"e{number}" for number in range(10)]


def test_a_password_in_an_address_is_neither_kept_nor_told(logs):
    address = "s3://ACCESS:SECRET@bucket/x?endpoint_override=127.0.0.1:1&scheme=http"
    sink = open_sink(address)
    assert sink.address == address_of(address) == address.replace("ACCESS:SECRET@", "")


def test_an_address_that_is_none_is_refused():
    with pytest.raises(UserError, match="names no destination"):
        open_sink(" ")


def test_a_damaged_cursor_is_named(logs):
    ship(logs, Kept())
    [file] = (logs / "shipping").glob("*.json")
    file.write_text("{")
    segment(logs, [1])
    with pytest.raises(UserError, match="damaged"):
        ship(logs, Kept())
    with pytest.raises(UserError, match="damaged"):
        compact(logs / "events")


def test_two_shipments_to_one_place_are_refused(logs):
    segment(logs, [1])

    class Nested(Kept):
        def send(self, batch: Batch) -> None:
            with pytest.raises(UserError, match="Another process ships"):
                ship(logs, Kept())
            super().send(batch)

    sink = Nested()
    ship(logs, sink)
    assert sink.ids == ["e1"]


KILLED = """
import sys, shutil
from pathlib import Path
from killing import killed_before
from stores.log.shipping import ship
from stores.log.sinks import open_sink

root, fatal, alive = Path(sys.argv[1]), 0, False
while not alive:
    fatal += 1
    own = root / str(fatal)
    shutil.copytree(root / "start", own)
    def work():
        sink = open_sink(str(own / "shipped"))
        sink.batch_lines = 4
        ship(own / "logs", sink)
    alive = not killed_before(fatal, work)
    work()
print(fatal)
"""


def test_a_shipment_that_is_killed_before_any_step_loses_nothing_and_a_folder_holds_nothing_twice(logs, tmp_path):
    segment(tmp_path / "start" / "logs", range(6), 1)
    segment(tmp_path / "start" / "logs", range(6, 9), 2, OPEN, b"torn")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    for trial in range(1, int(done.stdout) + 1):
        table = ds.dataset(tmp_path / str(trial) / "shipped" / "events", partitioning="hive").to_table()
        assert sorted(table["event_id"].to_pylist()) == sorted(f"e{number}" for number in range(9))


def test_settings_are_lines_of_name_and_value(tmp_path):
    file = tmp_path / "kafka.properties"
    file.write_text("# ours\nsasl.username=segue\nsasl.password = a=b \n\n")
    assert read_settings(file) == {"sasl.username": "segue", "sasl.password": "a=b"}
    file.write_text("sasl.username\n")
    with pytest.raises(UserError, match="line 1 is no setting"):
        read_settings(file)


def test_an_address_of_a_file_system_is_a_folder_too(logs, tmp_path):
    segment(logs, [1, 2])
    ship(logs, open_sink(f"file://{tmp_path}/bucket"))
    found = ds.dataset(tmp_path / "bucket" / "events", partitioning="hive").to_table()
    assert found["event_id"].to_pylist() == ["e1", "e2"]

"""What every sink must do: a folder of Parquet, Kafka's protocol over sockets, Pub/Sub's over gRPC.

The Kafka broker is the one that librdkafka brings for tests: it speaks the protocol, but it is not Apache Kafka.
"""

import socket
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pyarrow.dataset as ds
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from google.pubsub_v1.types import PublishRequest, PublishResponse

from decisioning.domain import Event
from decisioning.errors import UserError
from stores.log.columns import kind
from stores.log.compaction import compact
from stores.log.cursors import Cursors
from stores.log.decision_log import event_line
from stores.log.shipping import ship
from stores.log.sink_pubsub import EMULATOR
from stores.log.sinks import Batch, Message, Sink, SinkDown, open_sink

NOW = 1_800_000_000.0


@dataclass
class Place:
    """A destination: the sink to it, and what arrived there."""

    sink: Sink

    def received(self) -> list[tuple[str, Message]]:
        raise NotImplementedError


class Folder(Place):
    def received(self):
        found = []
        for log in ("decisions", "events"):
            folder = Path(self.sink.address) / log
            rows = ds.dataset(folder, partitioning="hive").to_table().to_pylist() if folder.is_dir() else []
            for row in rows:
                entry = kind(log).entry(row["line"])
                found.append(
                    (log, Message(entry.key, entry.id, row["line"]) if entry else Message("", "", row["line"]))
                )
        return found


@dataclass
class Kafka(Place):
    servers: str
    topic: str

    def received(self):
        own = {"bootstrap.servers": self.servers, "group.id": "g", "enable.partition.eof": True, "log_level": 0}
        consumer = Consumer(own)
        partitions = consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        consumer.assign([TopicPartition(self.topic, one, 0) for one in partitions])
        found, ended = [], 0
        while ended < len(partitions):
            message = consumer.poll(10)
            assert message is not None, "the broker is silent"
            if message.error():
                ended += 1
                continue
            headers = {name: value.decode() for name, value in message.headers()}
            key = (message.key() or b"").decode()
            found.append((headers["log"], Message(key, headers["id"], message.value())))
        consumer.close()
        return found


@dataclass
class PubSub(Place):
    requests: list[PublishRequest] = field(default_factory=list)

    def received(self):
        return [
            (one.attributes["log"], Message(one.attributes["key"], one.attributes["id"], one.data))
            for request in self.requests
            for one in request.messages
        ]


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of librdkafka's own broker, which lives as long as this client."""
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    found = client.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in found)
    client.flush(1)


def pubsub_server(requests: list[PublishRequest]) -> tuple[grpc.Server, int]:
    def publish(request: PublishRequest, context: Any) -> PublishResponse:
        requests.append(request)
        return PublishResponse(message_ids=[str(number) for number in range(len(request.messages))])

    method = grpc.unary_unary_rpc_method_handler(publish, PublishRequest.deserialize, PublishResponse.serialize)
    ten_mb = [("grpc.max_receive_message_length", 10 * 10**6)]  # as the service
    server = grpc.server(futures.ThreadPoolExecutor(2), options=ten_mb)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture(params=["folder", "kafka", "pubsub"])
def place(request, tmp_path, monkeypatch) -> Iterator[Place]:
    if request.param == "folder":
        yield Folder(open_sink(str(tmp_path / "shipped")))
    elif request.param == "kafka":
        servers, topic = request.getfixturevalue("broker"), f"log-{uuid4().hex}"
        yield Kafka(open_sink(f"kafka://{servers}/{topic}", timeout=10.0), servers, topic)
    else:
        requests: list[PublishRequest] = []
        server, port = pubsub_server(requests)
        monkeypatch.setenv(EMULATOR, f"127.0.0.1:{port}")
        sink = open_sink("pubsub://project/log", timeout=10.0)
        yield PubSub(sink, requests)
        sink.close()
        server.stop(None)


def event(number: int, user: str = "u1", surface: str = "banner") -> bytes:
    return event_line(Event(f"e{number}", "click", f"d{number}", "annual", user, surface, NOW + number * 60.0))


def segment(logs: Path, lines, number: int = 1, log: str = "events") -> Path:
    path = logs / log / f"{number:013d}-1.a-{number:06d}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_what_is_sent_arrives_with_its_key_and_id_and_is_not_sent_again(place, tmp_path):
    logs = tmp_path / "logs"
    known = [event(number, f"u{number % 3}") for number in range(50)]
    segment(logs, known[:30], 1)
    segment(logs, [*known[30:], b"nobody can read this"], 2)
    assert ship(logs, place.sink).lines == {"events": 51}
    found = place.received()
    assert sorted(message.line for _, message in found) == sorted([*known, b"nobody can read this"])
    assert {(log, message.key, message.id) for log, message in found if message.id} == {
        ("events", f"u{number % 3}", f"e{number}") for number in range(50)
    }
    for user in ("u0", "u1", "u2"):  # a user's lines keep their order
        own = [message.line for _, message in found if message.key == user]
        assert own == sorted(own, key=known.index)
    assert ship(logs, place.sink).lines == {}
    assert len(place.received()) == 51


def test_a_batch_that_is_sent_again_can_be_told_by_its_ids(place):
    batch = Batch("events", "1-1.a-1.jsonl", 0, [Message("u1", f"e{n}", event(n)) for n in range(3)])
    for _ in range(2):
        place.sink.send(batch)
    assert {message.id for _, message in place.received()} == {"e0", "e1", "e2"}


def test_large_lines_and_many_of_them_arrive_whole(place, tmp_path):
    logs = tmp_path / "logs"
    known = [event(number, surface="s" * 50_000) for number in range(200)]
    known += [event(number) for number in range(200, 3_000)]
    segment(logs, known)
    ship(logs, place.sink)
    assert sorted(message.line for _, message in place.received()) == sorted(known)


class Killed(BaseException):
    """What ends a shipment at once."""


def test_after_a_kill_between_sending_and_noting_nothing_is_lost(place, tmp_path, monkeypatch):
    logs = tmp_path / "logs"
    known = [event(number) for number in range(40)]
    segment(logs, known[:25], 1)
    segment(logs, known[25:], 2)
    place.sink.batch_lines = 10
    write, notes = Cursors.write, 0

    def killed(self, cursor):
        nonlocal notes
        notes += 1
        if notes % 3 == 0:
            raise Killed
        write(self, cursor)

    monkeypatch.setattr(Cursors, "write", killed)
    for _ in range(20):
        try:
            ship(logs, place.sink)
            break
        except Killed:
            continue
    found = place.received()
    assert {message.line for _, message in found} == set(known)
    assert len(found) <= len(known) + 10 * 20


# --- Down ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(params=["folder", "kafka", "pubsub"])
def down(request, tmp_path, monkeypatch, closed_port) -> Sink:
    if request.param == "folder":
        (tmp_path / "taken").write_text("a file is in the way")
        return open_sink(str(tmp_path / "taken"))
    if request.param == "kafka":
        return open_sink(f"kafka://127.0.0.1:{closed_port}/log", timeout=0.5)
    monkeypatch.setenv(EMULATOR, f"127.0.0.1:{closed_port}")
    return open_sink("pubsub://project/log", timeout=0.5)


def test_a_sink_that_is_down_is_one_clear_message_and_nothing_is_lost(down, tmp_path):
    logs = tmp_path / "logs"
    path = segment(logs, [event(1)])
    with pytest.raises(UserError, match="Nothing is lost") as told:
        ship(logs, down)
    assert down.address in str(told.value)
    down.close()
    assert compact(logs / "events").waiting == 1
    assert path.exists()  # compacted, and still there to be shipped


def test_what_comes_back_is_sent_the_rest(place, tmp_path, monkeypatch):
    logs = tmp_path / "logs"
    known = [event(number) for number in range(30)]
    segment(logs, known)
    place.sink.batch_lines = 10
    send, sent = place.sink.send, 0

    def failing(batch):
        nonlocal sent
        sent += 1
        if sent == 2:
            raise SinkDown("gone")
        send(batch)

    monkeypatch.setattr(place.sink, "send", failing, raising=False)
    with pytest.raises(UserError, match="gone"):
        ship(logs, place.sink)
    assert ship(logs, place.sink).lines == {"events": 20}
    assert sorted(message.line for _, message in place.received()) == sorted(known)


@pytest.mark.parametrize(
    "address", ["kafka://host:9092", "kafka:///topic", "pubsub://project", "kafka://h/a/b", "nosuch://place/x"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(UserError):
        open_sink(address)

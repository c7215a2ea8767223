"""The port of sinks: where the log is shipped, and what every destination has to do.

    DIR, s3://bucket/folder, gs://…   Parquet files in a folder (`sink_folder`)
    kafka://host:port[,…]/topic       extra `kafka` (`sink_kafka`)
    pubsub://project/topic            extra `pubsub` (`sink_pubsub`)

Delivery is at least once: consumers drop what they have seen, by `id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from decisioning.errors import UserError

TIMEOUT = 30.0
"""Seconds for one batch."""


@dataclass(frozen=True, slots=True)
class Message:
    """One line of a log on its way."""

    key: str
    """The user's key, else the decision's id. Empty, as the id, where nobody can read the line."""
    id: str
    """The decision's id or the event's."""
    line: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one sealed segment that follow one another: the same again after a crash, under the same name."""

    log: str
    """`decisions` or `events`."""
    segment: str
    start: int
    """How many lines of the segment come before."""
    messages: Sequence[Message]

    @property
    def name(self) -> str:
        return f"{self.segment.removesuffix('.jsonl')}-{self.start:09d}"


class SinkDown(Exception):
    """The destination can't be reached, refuses, or did not acknowledge everything in time."""


class Sink(Protocol):
    address: str
    """By which the destination is known from one shipment to the next; it holds no secret."""
    batch_bytes: int
    batch_lines: int
    """How large a batch may be."""

    def send(self, batch: Batch) -> None:
        """Returns when all of it is acknowledged. Raises SinkDown, and then some of it may have arrived."""
        ...

    def close(self) -> None: ...


def open_sink(address: str, settings: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> Sink:
    """The sink at an address. `settings` go to the client of a broker as they are: credentials, for example.

    Raises UserError for an address that can't be one, and where the extra that it needs is not installed.
    """
    scheme, separator, rest = address.partition("://")
    if not address.strip():
        raise UserError("An empty address names no destination: give a folder, s3://…, kafka://… or pubsub://….")
    if separator and scheme in ("kafka", "pubsub"):
        where, slash, topic = rest.partition("/")
        if not (where and slash and topic) or "/" in topic:
            shape = "kafka://host:port/topic" if scheme == "kafka" else "pubsub://project/topic"
            raise UserError(f"{address_of(address)} names no destination: write {shape}.")
        if scheme == "kafka":
            return _kafka(where, topic, settings or {}, timeout)
        return _pubsub(where, topic, timeout)
    from stores.log.sink_folder import FolderSink

    return FolderSink(address)


def address_of(address: str) -> str:
    """By which the destination at an address is known: a folder by its whole path, a bucket without its credentials."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return str(Path(address).resolve())
    where, slash, path = rest.partition("/")
    who, _, host = where.rpartition("@")
    return f"{scheme}://{host if ':' in who else where}{slash}{path}"


def _kafka(servers: str, topic: str, settings: Mapping[str, str], timeout: float) -> Sink:
    try:
        from stores.log.sink_kafka import KafkaSink
    except ImportError:
        raise UserError("Shipping to Kafka needs the extra `kafka`: install confluent-kafka.") from None
    return KafkaSink(servers, topic, settings, timeout)


def _pubsub(project: str, topic: str, timeout: float) -> Sink:
    try:
        from stores.log.sink_pubsub import PubSubSink
    except ImportError:
        raise UserError("Shipping to Pub/Sub needs the extra `pubsub`: install google-cloud-pubsub.") from None
    return PubSubSink(project, topic, timeout)


def read_settings(file: Path) -> dict[str, str]:
    """The lines `name=value` of a file, as Kafka's own tools take them. Raises UserError for another line."""
    found = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            raise UserError(f"{file}, line {number} is no setting: write name=value.")
        found[name.strip()] = value.strip()
    return found

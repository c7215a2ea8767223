"""One line of JSON per decision, with all that is needed to make it again; and one per event."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from decisioning.domain import Decision, Event, Facts, Request

CHALLENGER = "challenger"
"""The duration that a challenger's scoring took; a part of `decide`."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    request: Request
    facts: Facts
    decision: Decision
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by step of the request."""


# Sets and mappings in sorted order: equal records are equal bytes, in every process.
_encoder = msgspec.json.Encoder(order="deterministic")
_record = msgspec.json.Decoder(DecisionRecord)
_event = msgspec.json.Decoder(Event)


def encode(record: DecisionRecord) -> bytes:
    """One line, without its end. Numbers keep their type and every bit; NaN and infinities can't be written."""
    return _encoder.encode(record)


def decode(line: bytes) -> DecisionRecord:
    """Equal to what was encoded. Raises msgspec.DecodeError for a line that is no decision."""
    return _record.decode(line)


def distinct(records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
    """One record per decision, as learning reads them: the first that drew, else the first.

    A sticky decision has a further record under its id where a rule took away what it had answered. What came second
    was chosen because of what came first, so its probabilities say nothing: it is there for audits alone.
    """
    found: dict[str, DecisionRecord] = {}
    for record in records:
        first = found.setdefault(record.decision.decision_id, record)
        if first.decision.policy is None and record.decision.policy is not None:
            found[record.decision.decision_id] = record
    return list(found.values())


def canonical(decision: Decision) -> bytes:
    """The bytes by which replay compares two decisions."""
    return _encoder.encode(decision)


def to_json(decision: Decision) -> str:
    """The whole decision for people and programs."""
    return msgspec.json.format(_encoder.encode(decision)).decode()


def event_line(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_event(line: bytes) -> Event:
    """Raises msgspec.DecodeError for a line that is no event."""
    return _event.decode(line)


def decided_at(line: bytes) -> float:
    """The time of a decision's line: the order of `event_log.read`."""
    return _moment.decode(line).request.now


class _RequestTime(msgspec.Struct):
    now: float


class _DecisionTime(msgspec.Struct):
    request: _RequestTime


_moment = msgspec.json.Decoder(_DecisionTime)

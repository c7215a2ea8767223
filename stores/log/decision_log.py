"""One line of JSON per decision, with all that is needed to make it again; and one per event."""

from collections.abc import Iterable, Mapping
from dataclasses import field

import msgspec

from decisioning.domain import (
    Decision,
    Event,
    Facts,
    HistoryEvent,
    Known,
    Policy,
    Request,
    Rung,
    Shed,
    Shown,
    Source,
    record,
)
from stores.log.written import by_c, whole

CHALLENGER = "challenger"
"""The duration that a challenger's scoring took; a part of `decide`."""


@record
class DecisionRecord:
    """One decision with all that it was made of."""

    request: Request
    facts: Facts
    decision: Decision
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by step of the request."""


# Sets and mappings in sorted order: equal records are equal bytes, in every process.
_encoder = msgspec.json.Encoder(order="deterministic")
_by_c = by_c(
    whole(HistoryEvent, Shown, Decision, Policy, Request, Facts, DecisionRecord, Shed, Known), texts=(Source, Rung)
)
"""What gives the same bytes sooner; None for some records, and for all where it isn't built."""
_record = msgspec.json.Decoder(DecisionRecord)
_event = msgspec.json.Decoder(Event)


def encode(record: DecisionRecord) -> bytes:
    """One line, without its end. Numbers keep their type and every bit; NaN and infinities can't be written."""
    line = _by_c(record) if _by_c is not None else None
    return _encoder.encode(record) if line is None else line


def decode(line: bytes) -> DecisionRecord:
    """Equal to what was encoded. Raises msgspec.DecodeError for a line that is no decision."""
    return _record.decode(line)


def distinct(records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
    """One record per decision, as learning reads them: the first that drew, else the first.

    A sticky decision has a further record under its id where a rule took away what it had answered. What came second
    was chosen because of what came first, so its probabilities say nothing: it is there for audits alone.
    """
    found: dict[str, DecisionRecord] = {}
    for one in records:
        first = found.setdefault(one.decision.decision_id, one)
        if first.decision.policy is None and one.decision.policy is not None:
            found[one.decision.decision_id] = one
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

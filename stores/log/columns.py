"""What the two logs are to whoever analyses them: typed columns beside the exact line, and which lines are the same.

A decision's record is the same as another where the lines are equal to the byte: a sticky answer that was corrected
has several records under one id, and all of them count. An event is the same where its id and its decision are,
whatever its time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pyarrow as pa

from decisioning.domain import NOTHING

DECISIONS, EVENTS = "decisions", "events"
LAST_MOMENT = 253_402_300_800.0
"""The year 10000: calendars end there."""
LINE = "line"

_MOMENT = pa.timestamp("us", tz="UTC")
_TEXTS = pa.list_(pa.string())


class _Request(msgspec.Struct):
    decision_id: str
    user: str
    surface: str
    now: float


class _Shown(msgspec.Struct):
    offer: str
    probability: float
    p_convert: float | None = None
    score: float | None = None


class _Policy(msgspec.Struct):
    champion: str
    challenger: str | None = None


class _Decision(msgspec.Struct):
    release: str
    source: str
    slate: list[_Shown]
    model: str | None = None
    eligible: list[str] = []
    degraded: list[str] = []
    policy: _Policy | None = None
    arms: dict[str, str] = {}
    holdout: str | None = None
    ghost: str | None = None


class _DecisionLine(msgspec.Struct):
    request: _Request
    decision: _Decision

    @property
    def id(self) -> str:
        return self.request.decision_id

    @property
    def user(self) -> str:
        return self.request.user

    @property
    def key(self) -> str:
        return self.user or self.id

    @property
    def at(self) -> float:
        return self.request.now

    def row(self) -> dict[str, Any]:
        request, decision, policy = self.request, self.decision, self.decision.policy
        first = decision.slate[0] if decision.slate else None
        return {
            "decision_id": request.decision_id,
            "user": request.user,
            "at": moment(request.now),
            "surface": request.surface,
            "release": decision.release,
            "source": decision.source,
            "model": decision.model,
            "offer": first.offer if first else NOTHING,
            "probability": first.probability if first else None,
            "p_convert": first.p_convert if first else None,
            "score": first.score if first else None,
            "offers": [one.offer for one in decision.slate],
            "eligible": decision.eligible,
            "drawn": policy is not None,
            "champion": policy.champion if policy else None,
            "challenger": policy.challenger if policy else None,
            "holdout": decision.holdout,
            "ghost": decision.ghost,
            "arms": list(decision.arms.items()),
            "degraded": decision.degraded,
        }


class _EventLine(msgspec.Struct):
    event_id: str
    type: str
    decision_id: str
    offer: str
    user: str
    surface: str
    at: float
    value: float | None = None

    @property
    def id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.user or self.decision_id

    def row(self) -> dict[str, Any]:
        return {**msgspec.structs.asdict(self), "at": moment(self.at)}


Entry = _DecisionLine | _EventLine
"""What is known of a line: `id`, `user`, `at` (epoch seconds), `key` (the user, else the decision), its `row`."""
Drop = Callable[[bytes, Entry | None], bool]
"""Whether a line is to be left out, given what is known of it: see `erasures`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two logs."""

    name: str
    schema: pa.Schema
    """The columns of its tables; the last one is the line itself, without its end."""
    _decode: Callable[[bytes], Any]
    id_columns: tuple[str, ...] = ()
    """By which a record is known, whatever its time; none where the line itself is what counts."""

    def entry(self, line: bytes) -> Entry | None:
        """None for a line that is none of this log, or that no calendar has a day for."""
        try:
            found = self._decode(line)
        except (msgspec.MsgspecError, ValueError):
            return None
        return found if 0.0 <= found.at < LAST_MOMENT else None

    def identity(self, line: bytes, entry: Entry | None) -> bytes:
        """Equal for lines of which one is enough. Of those that nobody can read, all are kept apart."""
        if entry is None or not self.id_columns:
            return line
        return self.named(*(getattr(entry, name) for name in self.id_columns))

    @staticmethod
    def named(*ids: str) -> bytes:
        """The identity by the values of `id_columns`."""
        return "\n".join(ids).encode("utf-8", "surrogatepass")

    def table(self, lines: Sequence[bytes]) -> pa.Table:
        rows = [(self.entry(line), line) for line in lines]
        return pa.Table.from_pylist(
            [{**(entry.row() if entry else {}), LINE: line} for entry, line in rows], schema=self.schema
        )


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def day_of(entry: Entry | None) -> date | None:
    """The UTC day of a line; None for one that nobody can read."""
    return None if entry is None else moment(entry.at).date()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([*columns.items(), (LINE, pa.binary())])


_TEXT = pa.string()
_KINDS = {
    DECISIONS: Kind(
        DECISIONS,
        _schema(
            **dict.fromkeys(("decision_id", "user"), _TEXT),
            at=_MOMENT,
            **dict.fromkeys(("surface", "release", "source", "model", "offer"), _TEXT),
            **dict.fromkeys(("probability", "p_convert", "score"), pa.float64()),
            **dict.fromkeys(("offers", "eligible"), _TEXTS),
            drawn=pa.bool_(),
            **dict.fromkeys(("champion", "challenger", "holdout", "ghost"), _TEXT),
            arms=pa.map_(_TEXT, _TEXT),
            degraded=_TEXTS,
        ),
        msgspec.json.Decoder(_DecisionLine).decode,
    ),
    EVENTS: Kind(
        EVENTS,
        _schema(
            **dict.fromkeys(("event_id", "type", "decision_id", "offer", "user", "surface"), _TEXT),
            at=_MOMENT,
            value=pa.float64(),
        ),
        msgspec.json.Decoder(_EventLine).decode,
        ("event_id", "decision_id"),
    ),
}


def kind(name: str) -> Kind:
    """By the name of a log's folder. Raises KeyError for what is no log of ours."""
    return _KINDS[name]

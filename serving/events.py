"""Events: impressions and what followed. First the log, which is the truth; then the counters that rules read."""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from decisioning.domain import DECISION, NOTHING, Event, EventType
from decisioning.identity import user_key
from serving.errors import ApiError
from serving.figures.metrics import Metrics
from serving.runtime import Current, Runtime
from serving.schemas import EventRequest, EventsAnswer, Rejected, read_event, split_events
from stores.log.decision_log import event_line

FUTURE_BY = 300.0
"""Seconds by which a client's clock may be ahead."""
EARLIEST = 946_684_800.0
"""2000-01-01: an earlier moment is a mistake of unit or of zone."""

LOG_FAILED = "log:failed"
"""The disk refused the line: the counters know of the event, but no training run will."""
UNKNOWN_TYPE = "event:unknown_type"
"""No rule and no group knows such a type: an outcome of the client's own, or a typo."""
RETIRED = "event:retired"
"""A decision of ours named an offer or a surface that the release in use lacks: kept for learning, counted nowhere."""
NO_SURFACE = "event:no_surface"
"""The decision is none of ours, and nobody says where it was shown: an id that was cut off, or made up."""
OURS = re.compile(r"[0-9a-f]{32}\.(.+)", re.DOTALL)
"""The ids that this service gives to its decisions."""

_encoder = msgspec.json.Encoder()


async def answer(runtime: Runtime, body: bytes) -> bytes:
    """Takes one event or a list. A list's events are judged one by one; a single one of wrong shape raises ApiError."""
    result = EventsAnswer(accepted=0, rejected=[], duplicates=0, degraded=[])
    if body.lstrip().startswith(b"["):
        await _take_many(runtime, split_events(body), result)
    else:
        await _take(runtime, read_event(body), 0, result)
    _count(runtime.metrics, result)
    return _encoder.encode(result)


async def _take_many(runtime: Runtime, events: Sequence[Raw], result: EventsAnswer) -> None:
    for index, raw in enumerate(events):
        try:
            sent = read_event(raw)
        except ApiError as error:
            result.rejected.append(Rejected(index, error.message))
        else:
            await _take(runtime, sent, index, result)


def _count(metrics: Metrics, result: EventsAnswer) -> None:
    metrics.events["accepted"] += result.accepted - result.duplicates
    metrics.events["duplicate"] += result.duplicates
    metrics.events["rejected"] += len(result.rejected)
    for what in result.degraded:
        metrics.degraded_events[what] += 1


async def _take(runtime: Runtime, sent: EventRequest, index: int, result: EventsAnswer) -> None:
    current, now = runtime.current, runtime.clock()
    at = sent.at if isinstance(sent.at, float) else sent.at.timestamp()
    surface = _surface(current, sent)
    is_retired = _is_retired(current, sent, surface)
    if reason := _objection(current, sent, surface, at, now, is_retired=is_retired):
        result.rejected.append(Rejected(index, reason, sent.event_id))
        return
    user = user_key(runtime.secret, sent.user_id)
    event = Event(sent.event_id, sent.type, sent.decision_id, sent.offer, user, surface, at, sent.value)
    dropped = runtime.events.dropped
    runtime.events.append(event_line(event))
    if runtime.events.dropped > dropped:
        _admit(result, LOG_FAILED)
    if is_retired:  # no rule can ask for it any more
        result.accepted += 1
        _admit(result, RETIRED)
        return
    budgets = current.ledger.spends(event.offer, at) if event.type == EventType.IMPRESSION else ()
    is_new = await runtime.store.apply(event, budgets)
    result.accepted += 1
    if event.type not in current.event_types:
        _admit(result, UNKNOWN_TYPE)
    if not surface:
        _admit(result, NO_SURFACE)
    if is_new is None:
        _admit(result, runtime.store.trouble)
    elif not is_new:
        result.duplicates += 1


def _surface(current: Current, sent: EventRequest) -> str:
    """Where the decision was made: its id says so; for an id of somebody else's making, what the client says."""
    named = sent.decision_id.partition(".")[2]
    if named in current.release.catalog.surfaces or OURS.fullmatch(sent.decision_id):
        return named
    return sent.surface or ""


def _is_retired(current: Current, sent: EventRequest, surface: str) -> bool:
    """Whether a decision of ours was of an offer or a surface that a newer release no longer has."""
    catalog = current.release.catalog
    is_known = sent.offer == NOTHING or sent.offer in catalog.offers
    return OURS.fullmatch(sent.decision_id) is not None and not (is_known and surface in catalog.surfaces)


def _objection(
    current: Current, sent: EventRequest, surface: str, at: float, now: float, *, is_retired: bool
) -> str | None:
    """Why an event can't be taken; None when it can."""
    catalog = current.release.catalog
    if sent.type == DECISION:
        return "The type decision is the server's own: it records what it decides. Report impressions."
    if not is_retired and sent.offer != NOTHING and sent.offer not in catalog.offers:
        return "The offer is not in the catalog."
    if not is_retired and surface and surface not in catalog.surfaces:
        return "The surface is not in the catalog."
    if at > now + FUTURE_BY:
        return "The field at is in the future: send RFC 3339 with its time zone, or seconds (not milliseconds)."
    if at < EARLIEST:
        return "The field at is before the year 2000: send RFC 3339 with its time zone, or seconds since 1970."
    return None


def _admit(result: EventsAnswer, what: str) -> None:
    if what not in result.degraded:
        result.degraded.append(what)

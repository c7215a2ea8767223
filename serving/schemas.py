"""The bodies of the API, version 1: what may be sent, and what is answered."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.errors import ApiError, from_decoding, invalid

MAX_DECISION_BYTES = 16 * 1024
MAX_EVENTS_BYTES = 256 * 1024
MAX_EVENTS = 1000
MOST_DIGITS = 9
"""Of a `Content-Length`: a longer one is over any limit."""

DEADLINE = "Segue-Deadline"
"""The header by which a client says how long it waits."""
_MILLISECONDS = re.compile(rb"[ \t]*([1-9][0-9]{0,5}(?:\.[0-9]{1,3})?)ms[ \t]*")

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Moment = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339, with a time zone")]
    | Annotated[float, Meta(description="seconds since 1970")]
)


class DecisionRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which offer should this user see here, now? An unknown field is an error: a misspelt `dry_run` would count."""

    user_id: Annotated[Id, Meta(description="Your own id of the user. It is stored and logged as a keyed hash only.")]
    surface: Annotated[Name, Meta(description="A surface of the catalog.")]
    context: Annotated[
        dict[str, Any],
        Meta(
            description="Values of this moment, by feature name. Names that the catalog does not declare are ignored."
        ),
    ] = {}
    slots: Annotated[int, Meta(ge=1, description="Fewer slots than the surface has.")] | None = None
    dry_run: Annotated[bool, Meta(description="Decide, but log nothing and count nothing.")] = False
    explain: Annotated[bool, Meta(description="Say why each offer of the surface that is not shown is not.")] = False
    exclude: Annotated[
        tuple[Name, ...], Meta(max_length=1000, description="Offers not to show, such as those on the page already.")
    ] = ()


class OfferAnswer(msgspec.Struct):
    """One slot."""

    offer: str
    slot: Annotated[int, Meta(description="From 1.")]
    creative: Annotated[str | None, Meta(description="The key of the localised creative.")]
    p_convert: Annotated[float | None, Meta(description="Predicted probability that the user converts if shown this.")]
    score: Annotated[float | None, Meta(description="What ranked it; rounded to 6 digits.")]
    probability: Annotated[float, Meta(description="The chance that the policy had of selecting this offer here.")]


_STAGE = "The step that dropped it; `slate`: a better offer took the room for both; `outranked`: others rank above it."


class ReasonAnswer(msgspec.Struct):
    """Why one offer is not shown."""

    offer: str
    stage: Annotated[str, Meta(description=_STAGE)]
    rule: str
    detail: str
    where: Annotated[str, Meta(description="File and line of the catalog.")]
    change: Annotated[str, Meta(description="The least change that would have shown it, in words.")] = ""


class DecisionAnswer(msgspec.Struct, omit_defaults=True):
    decision_id: Annotated[str, Meta(description="Send it with every event that follows.")]
    surface: str
    offers: Annotated[list[OfferAnswer], Meta(description="By slot; empty where nothing may or should be shown.")]
    source: Annotated[str, Meta(pattern="^(model|rules|fallback|none)$")]
    degraded: Annotated[list[str], Meta(description="What was less than it should be; empty on a good day.")]
    release: str
    model: Annotated[str, Meta(description='Name and version, or "none".')]
    expires_at: Annotated[str, Meta(description="RFC 3339. Ask again after this moment.")]
    reasons: Annotated[list[ReasonAnswer], Meta(description="Only with `explain`.")] | None = None


class EventRequest(msgspec.Struct, frozen=True):
    """Something that happened. Unknown fields are ignored: better an event with a field too many than none."""

    event_id: Annotated[Id, Meta(description="Unique. The same id sent again changes nothing.")]
    type: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9_]{0,63}(?!\n)$",
            description="`impression`, `click`, `dismiss`, `convert`, or an outcome of your own.",
        ),
    ]
    decision_id: Annotated[Id, Meta(description="From the answer of /v1/decisions.")]
    offer: Annotated[Name, Meta(description='An offer of the catalog, or "nothing".')]
    user_id: Id
    at: Annotated[Moment, Meta(description="When it happened: RFC 3339 with a time zone, or seconds since 1970.")]
    value: Annotated[float, Meta(description="In the catalog's currency, or a count.")] | None = None
    surface: Annotated[Name, Meta(description="Needed only for decisions that this service did not make.")] | (
        None
    ) = None


class Rejected(msgspec.Struct, omit_defaults=True):
    """One event that was not taken."""

    index: Annotated[int, Meta(description="Its place in the list, from 0.")]
    reason: str
    event_id: str | None = None


class EventsAnswer(msgspec.Struct):
    accepted: Annotated[int, Meta(description="Duplicates included.")]
    rejected: list[Rejected]
    duplicates: Annotated[int, Meta(description="Accepted, but seen before: they changed nothing.")]
    degraded: Annotated[list[str], Meta(description="What was less than it should be.")]


_decision = msgspec.json.Decoder(DecisionRequest)
_event = msgspec.json.Decoder(EventRequest)
_many = msgspec.json.Decoder(list[msgspec.Raw])

# Whatever msgspec raises for bytes that it can't take: DecodeError and UnicodeDecodeError are ValueErrors.
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


def read_decision(body: bytes) -> DecisionRequest:
    """Raises ApiError (400 or 422) for anything that is not a DecisionRequest."""
    try:
        return _decision.decode(body)
    except _UNREADABLE as error:
        raise from_decoding(error, DecisionRequest.__struct_fields__) from None


def read_event(body: bytes | msgspec.Raw) -> EventRequest:
    """Raises ApiError (400 or 422) for anything that is not an EventRequest."""
    try:
        return _event.decode(body)
    except _UNREADABLE as error:
        raise from_decoding(error, EventRequest.__struct_fields__) from None


def split_events(body: bytes) -> list[msgspec.Raw]:
    """The events of a list, each still to be read. Raises ApiError where it is no list, or too long a one."""
    try:
        events = _many.decode(body)
    except _UNREADABLE as error:
        raise from_decoding(error, ()) from None
    if len(events) > MAX_EVENTS:
        raise invalid(None, f"There are too many events in one request: at most {MAX_EVENTS}.")
    return events


@lru_cache(maxsize=256)
def read_patience(deadline: bytes | None) -> float | None:
    """The seconds that a client waits, by its header `Segue-Deadline`, such as `25ms`. None: it doesn't say.

    Raises ApiError (422) for what is no such time.
    """
    if deadline is None:
        return None
    found = _MILLISECONDS.fullmatch(deadline)
    if found is None:
        raise invalid(
            DEADLINE, f"The header {DEADLINE} is wrong: expected milliseconds from 1 to 999999, such as 25ms."
        )
    return float(found[1]) / 1000


def check_length(told: bytes | None, limit: int) -> None:
    """Raises ApiError (413) for a body whose `Content-Length` is over the limit. One that is no number says nothing."""
    if told is not None and (len(told) > MOST_DIGITS or (told.isdigit() and int(told) > limit)):
        raise too_large(limit)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "too_large", f"The body is too large: at most {limit // 1024} kB.")

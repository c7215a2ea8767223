"""One decision: from the bytes of a request to the bytes of its answer."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import msgspec
import structlog

from decisioning import engine
from decisioning.catalog import Catalog, Surface
from decisioning.domain import Decision, Facts, Reason, Request, Shown, Source
from decisioning.explain import explain
from decisioning.identity import sticky_decision_id, user_key
from serving.context import read_context
from serving.errors import ApiError, invalid
from serving.runtime import Current, Runtime
from serving.schemas import DecisionAnswer, DecisionRequest, OfferAnswer, ReasonAnswer, read_decision
from stores.decision_log import DecisionRecord, encode

SHORTEST_READ, LONGEST_READ = 0.005, 0.050
"""The bounds, in seconds, of what the surface's deadline leaves for reading the store."""
FRESH_FOR = 300.0
"""Seconds for which an answer may be kept where the surface has no sticky period."""

ENGINE_FAILED = "engine:failed"

log = structlog.get_logger()
_encoder = msgspec.json.Encoder()


async def answer(runtime: Runtime, body: bytes) -> bytes:
    """Raises ApiError for a request that is not valid; nothing else, whatever is down."""
    started = perf_counter()
    sent = read_decision(body)
    current, now = runtime.current, runtime.clock()  # one release and one moment for the whole decision
    surface = _surface(current.release.catalog, sent)
    request, ignored = _request(runtime, current.release.catalog, surface, sent, now)
    parsed = perf_counter()

    timeout = min(max(surface.deadline, SHORTEST_READ), LONGEST_READ)
    facts = await runtime.store.read(request.user, current.schema, current.read[surface.name], timeout)
    if ignored:
        facts = replace(facts, degraded=(*facts.degraded, *ignored))
    read = perf_counter()

    decision = _decide(current, request, facts)
    decided = perf_counter()
    if not sent.dry_run:
        durations = {"parse": parsed - started, "read": read - parsed, "decide": decided - read}
        _record(runtime, DecisionRecord(request, facts, decision, durations))
    why = _reasons(current, request, facts, decision) if sent.explain else None
    return _encoder.encode(_answer(surface, request, decision, why))


def _surface(catalog: Catalog, sent: DecisionRequest) -> Surface:
    surface = catalog.surfaces.get(sent.surface)
    if surface is None:
        known = ", ".join(sorted(catalog.surfaces)) or "none, as no release is loaded"
        raise ApiError(404, "unknown_surface", f"There is no such surface. The known ones: {known}.", "surface")
    if sent.slots is not None and sent.slots > surface.slots:
        raise invalid("slots", f"The field slots is wrong: this surface has {surface.slots}.")
    return surface


def _request(
    runtime: Runtime, catalog: Catalog, surface: Surface, sent: DecisionRequest, now: float
) -> tuple[Request, tuple[str, ...]]:
    context, ignored = read_context(catalog, sent.context)
    user = user_key(runtime.secret, sent.user_id)
    sticky = surface.sticky > 0
    decision_id = sticky_decision_id(user, surface.name, now, surface.sticky) if sticky else uuid.uuid4().hex
    request = Request(decision_id, user, surface.name, now, context, sent.slots, frozenset(sent.exclude))
    return request, ignored


def _decide(current: Current, request: Request, facts: Facts) -> Decision:
    """The engine's decision. Should it fail, which is a bug, an empty answer: no offer breaks no rule."""
    try:
        return engine.decide(current.release, request, facts)
    except Exception:
        log.exception("decide_failed", decision_id=request.decision_id, release=current.release.id)
        degraded = (*facts.degraded, ENGINE_FAILED)
        return Decision(
            request.decision_id,
            request.surface,
            current.release.id,
            (),
            Source.NONE,
            None,
            degraded,
            (),
            (),
            (),
            "",
            None,
        )


def _reasons(current: Current, request: Request, facts: Facts, decision: Decision) -> Sequence[Reason]:
    return () if ENGINE_FAILED in decision.degraded else explain(current.release, request, facts, decision).fates


def _record(runtime: Runtime, record: DecisionRecord) -> None:
    runtime.surfaces.remember(record.request.decision_id, record.request.surface)
    runtime.decisions.append(encode(record))


def _answer(surface: Surface, request: Request, decision: Decision, why: Sequence[Reason] | None) -> DecisionAnswer:
    return DecisionAnswer(
        decision_id=decision.decision_id,
        surface=decision.surface,
        offers=[_offer(one) for one in decision.slate],
        source=str(decision.source),
        degraded=list(decision.degraded),
        release=decision.release,
        model=decision.model or "none",
        expires_at=rfc3339(request.now + (surface.sticky or FRESH_FOR)),
        reasons=[_reason(one) for one in why] if why is not None else None,
    )


def _offer(one: Shown) -> OfferAnswer:
    return OfferAnswer(one.offer, one.slot, one.creative, _rounded(one.p_convert), _rounded(one.score), one.probability)


def _reason(one: Reason) -> ReasonAnswer:
    change = one.change.words if one.change else ""
    return ReasonAnswer(one.offer, str(one.stage), one.rule, one.detail, one.where, change)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

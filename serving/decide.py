"""One decision: from the bytes of a request to the bytes of its answer."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import msgspec
import structlog

from decisioning import engine
from decisioning.catalog import Catalog, Surface
from decisioning.domain import Decision, Facts, Reason, Request, Shown, Source, decided
from decisioning.explain import explain, with_changes
from decisioning.identity import decision_id, sticky_until, user_key
from serving.breaker import GuardedStore
from serving.context import read_context
from serving.errors import ApiError, invalid
from serving.runtime import Current, Runtime
from serving.schemas import DecisionAnswer, DecisionRequest, OfferAnswer, ReasonAnswer, read_decision
from serving.units import Decide, Desk
from stores.log.decision_log import CHALLENGER, DecisionRecord, encode
from stores.online import sticky

SHORTEST_WAIT, LONGEST_WAIT = 0.005, 0.050
"""The bounds, in seconds, of what the surface's deadline leaves for each question to the store."""
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
    expires = sticky_until(now, surface.sticky) if surface.sticky else now + FRESH_FOR
    parsed = perf_counter()

    def left() -> float:
        return min(max(surface.deadline - (perf_counter() - started), SHORTEST_WAIT), LONGEST_WAIT)

    facts, before = await _known(runtime.store, current, surface, request, left())
    if ignored:
        facts = replace(facts, degraded=(*facts.degraded, *ignored))
    read = perf_counter()

    desk = Desk(runtime.store, current, request, expires - now, left)
    scoring: list[float] = []
    decision, facts, is_new = await _settle(desk, surface, facts, before, sent.dry_run, scoring)
    decided = perf_counter()
    if is_new:
        durations = {"parse": parsed - started, "read": read - parsed, "decide": decided - read}
        if scoring:
            durations[CHALLENGER] = sum(scoring)  # a part of `decide`
        runtime.decisions.append(encode(DecisionRecord(request, facts, decision, durations)))
        await _count(desk, decision)
    why = await _reasons(current, request, facts, decision) if sent.explain else None
    return _encoder.encode(_answer(request, decision, expires, why))


async def _settle(
    desk: Desk, surface: Surface, facts: Facts, before: bytes | None, dry_run: bool, scoring: list[float]
) -> tuple[Decision, Facts, bool]:
    """The answer, the facts that it was made of, and whether it is new: neither given before nor a dry run.

    The answer of a sticky decision is `before`, as long as the rules allow it. `scoring` takes the seconds that
    challengers took.
    """
    again = _again(desk, surface, facts, before)
    if again is not None and (dry_run or await desk.holds(again.slate)):
        return again, facts, False
    if dry_run:
        return _decide(desk.current, desk.request, facts), facts, False
    decision, facts = await desk.decide(_timed(scoring) if desk.current.watch else _decide, facts)
    if sticky.is_same(decision, before):
        return decision, facts, False
    if surface.sticky:
        theirs = _again(desk, surface, facts, await _remember(desk, surface, decision, before))
        if theirs is not None:
            return theirs, facts, False
    return decision, facts, True


def _again(desk: Desk, surface: Surface, facts: Facts, answer: bytes | None) -> Decision | None:
    """The answer given before, if it may be given again. Should the rules fail, which is a bug, it may not."""
    try:
        return sticky.again(desk.current.release, surface, desk.request, facts, answer)
    except Exception:
        log.exception("sticky_failed", decision_id=desk.request.decision_id, release=desk.current.release.id)
        return None


async def _known(
    store: GuardedStore, current: Current, surface: Surface, request: Request, timeout: float
) -> tuple[Facts, bytes | None]:
    """The facts, and the answer that was given to the same sticky decision before."""
    budgets = current.ledger.read[surface.name]
    if surface.sticky:
        return await store.read_again(request.user, current.schema, budgets, timeout, request.decision_id)
    return await store.read(request.user, current.schema, budgets, timeout), None


async def _remember(desk: Desk, surface: Surface, decision: Decision, before: bytes | None) -> bytes | None:
    """Keeps the answer for the rest of the period. Of two requests at once the other is given the first one's."""
    request, answer = desk.request, sticky.given(surface, desk.request, decision)
    return await desk.store.remember(
        request.user, request.decision_id, answer, desk.lasts, before, desk.current.schema, desk.left()
    )


async def _count(desk: Desk, decision: Decision) -> None:
    """Records what was decided in the user's history, where a cap counts that."""
    request, current = desk.request, desk.current
    if not decision.slate or not current.release.plans[request.surface].counts_decisions:
        return
    await desk.store.record(decided(request, decision), current.schema, desk.left())


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
    named = decision_id(user, surface.name, now, surface.sticky, _fresh)
    request = Request(named, user, surface.name, now, context, sent.slots, frozenset(sent.exclude))
    return request, ignored


def _fresh() -> str:
    return uuid.uuid4().hex


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


def _timed(scoring: list[float]) -> Decide:
    """`_decide` that adds the seconds of its challengers. Nothing else decides meanwhile: it never awaits."""

    def decide(current: Current, request: Request, facts: Facts) -> Decision:
        watch = current.watch
        if watch is None:
            return _decide(current, request, facts)
        watch.seconds = 0.0
        decision = _decide(current, request, facts)
        scoring.append(watch.seconds)
        return decision

    return decide


async def _reasons(current: Current, request: Request, facts: Facts, decision: Decision) -> Sequence[Reason] | None:
    """Why each other offer is not shown. Should that fail, which is a bug, the answer stands without."""
    if ENGINE_FAILED in decision.degraded:
        return ()
    try:
        explanation = explain(current.release, request, facts, decision, changes=False)
        why = []
        for one in with_changes(current.release, request, facts, explanation):
            why.append(one)
            await asyncio.sleep(0)  # others wait for a millisecond, not for hundreds of offers
    except Exception:
        log.exception("explain_failed", decision_id=request.decision_id, release=current.release.id)
        return None
    return why


def _answer(request: Request, decision: Decision, expires: float, why: Sequence[Reason] | None) -> DecisionAnswer:
    return DecisionAnswer(
        decision_id=decision.decision_id,
        surface=decision.surface,
        offers=[_offer(one) for one in decision.slate],
        source=str(decision.source),
        degraded=list(decision.degraded),
        release=decision.release,
        model=decision.model or "none",
        expires_at=rfc3339(expires),
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

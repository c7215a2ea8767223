"""One decision: from the bytes of a request to the bytes of its answer."""

from dataclasses import replace
from functools import partial
from time import perf_counter

import msgspec
import structlog

from decisioning.catalog import Catalog, Surface
from decisioning.domain import Decision, Facts, Rung, decided
from decisioning.identity import sticky_until
from serving import safely
from serving.access import ANYBODY, Caller
from serving.answers import encoded
from serving.errors import ApiError, invalid
from serving.pressure import SPARED, rung
from serving.requests import requested
from serving.runtime import Runtime
from serving.schemas import read_decision
from serving.shedding import FALLBACK, UNEXPLAINED, shed
from serving.units import Decide, Desk, wanted
from stores.api_keys import EXPLAIN
from stores.log.decision_log import CHALLENGER, DecisionRecord
from stores.online import sticky

SHORTEST_WAIT, LONGEST_WAIT = 0.005, 0.050
"""The bounds, in seconds, of what a deadline leaves for each question to the store; a deadline may be shorter still."""
STALE = "features:stale"
"""A value that was read is older than its `max_age`, and counts as missing."""
FRESH_FOR = 300.0
"""Seconds for which an answer may be kept where the surface has no sticky period."""

DRY_RUN, STICKY = "dry_run", "sticky"

log = structlog.get_logger()


class Made(msgspec.Struct, frozen=True):
    """A decision, as far as the client is concerned: what is left to do is to write it down."""

    answer: bytes
    decision: Decision
    facts: Facts
    """What it was made of."""
    now: float
    """The moment that it was made for, in epoch seconds."""
    record: DecisionRecord | None
    """For the log; None where it is no new decision."""
    repeated: str | None
    """Why it is no new decision: `DRY_RUN`, or `STICKY` for an answer that was given before."""


async def answer(runtime: Runtime, body: bytes) -> bytes:
    """The answer alone, with the decision in the log. Raises what `made` raises."""
    found = await made(runtime, body)
    if found.record is not None:
        runtime.journal.write(found.record)
    return found.answer


async def made(
    runtime: Runtime,
    body: bytes,
    caller: Caller = ANYBODY,
    patience: float | None = None,
    arrived: float | None = None,
) -> Made:
    """Decides. Raises ApiError for a request that is not valid, or not the caller's to make; nothing else, whatever is
    down.

    `patience`: the seconds that the client waits, where these are fewer than the surface's deadline. `arrived`: when
    the request came in, by `perf_counter`.
    """
    started = perf_counter()
    sent = read_decision(body)
    if sent.explain or sent.dry_run:
        caller.require(EXPLAIN)
    current, now = runtime.current, runtime.clock()  # one release and one moment for the whole decision
    surface = current.release.catalog.surfaces.get(sent.surface)
    if surface is None or (sent.slots is not None and sent.slots > surface.slots):
        raise _unfit(current.release.catalog, surface)
    request, admitted = requested(runtime.secret, current.contexts, surface, sent, now, runtime.fresh)
    parsed = perf_counter()

    budget = surface.deadline if patience is None else min(patience, surface.deadline)
    left = partial(_left, (arrived or started) + budget, min(SHORTEST_WAIT, budget))
    age = max(0.0 if arrived is None else started - arrived, runtime.pressure.behind())
    step, before = rung(age, budget), None
    if step is Rung.FALLBACK:
        facts = runtime.store.unread(FALLBACK)
    else:
        budgets = current.ledger.read[surface.name]
        if surface.sticky:
            known = runtime.store.read_again(request.user, current.schema, budgets, left(), request.decision_id)
            facts, before = await known
        else:
            facts = await runtime.store.read(request.user, current.schema, budgets, left())
        behind = runtime.pressure.behind()
        if behind > age:  # which is not the store's time: a slow one makes no model dearer
            age, step = behind, rung(behind, budget, is_read=True)
    has_reasons = sent.explain and age < SPARED
    if sent.explain and not has_reasons:
        admitted = (*admitted, UNEXPLAINED)
    if current.release.knowledge.is_stale(facts, now):
        admitted = (*admitted, STALE)
    if admitted:
        facts = replace(facts, degraded=(*facts.degraded, *admitted))
    read = perf_counter()

    expires = sticky_until(now, surface.sticky) if surface.sticky else now + FRESH_FOR
    choose, is_new, scoring = safely.decide, True, None
    if current.watch is not None:
        choose = safely.timed(scoring := [])
    if surface.sticky or sent.dry_run:
        desk = Desk(runtime.store, current, request, expires - now, left)
        decision, facts, is_new = await _settle(desk, surface, facts, before, step, sent.dry_run, choose)
    else:
        facts = facts if step is Rung.MODEL else shed(current, request, facts, step)
        decision = choose(current, request, facts)
        if wants := wanted(current.ledger, decision.slate, now):
            desk = Desk(runtime.store, current, request, expires - now, left)
            decision, facts = await desk.secured(choose, decision, facts, wants)

    record = None
    if is_new:
        durations = {"parse": parsed - started, "read": read - parsed, "decide": perf_counter() - read}
        if scoring:
            durations[CHALLENGER] = sum(scoring)  # a part of `decide`
        record = DecisionRecord(request, facts, decision, durations)
        if decision.slate and current.release.plans[surface.name].counts_decisions:
            await runtime.store.record(decided(request, decision), 0.0 if step is Rung.FALLBACK else left())
    why = await safely.reasons(current, request, facts, decision) if has_reasons else None
    repeated = None if is_new else DRY_RUN if sent.dry_run else STICKY
    return Made(encoded(decision, expires, why), decision, facts, now, record, repeated)


def _left(until: float, least: float) -> float:
    """Seconds for one question to the store: what is left until a moment, by `perf_counter`, within bounds."""
    return min(max(until - perf_counter(), least), LONGEST_WAIT)


async def _settle(
    desk: Desk, surface: Surface, facts: Facts, before: bytes | None, step: Rung, dry_run: bool, choose: Decide
) -> tuple[Decision, Facts, bool]:
    """The answer of a surface that may be sticky, or to a dry run; the facts that it was made of; and whether it is
    new: neither given before nor a dry run.

    The answer of a sticky decision is `before`, as long as the rules allow it.
    """
    again = _again(desk, surface, facts, before) if before is not None else None
    if again is not None and (dry_run or await desk.holds(again.slate)):
        return again, facts, False
    facts = shed(desk.current, desk.request, facts, step)
    if dry_run:
        return safely.decide(desk.current, desk.request, facts), facts, False
    decision, facts = await desk.decide(choose, facts)
    if before is not None and sticky.is_same(decision, before):
        return decision, facts, False
    if step is not Rung.FALLBACK:
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


async def _remember(desk: Desk, surface: Surface, decision: Decision, before: bytes | None) -> bytes | None:
    """Keeps the answer for the rest of the period. Of two requests at once the other is given the first one's."""
    request, answer = desk.request, sticky.given(surface, desk.request, decision)
    return await desk.store.remember(request.user, request.decision_id, answer, desk.lasts, before, desk.left())


def _unfit(catalog: Catalog, surface: Surface | None) -> ApiError:
    """What is wrong with a request's surface, or with how many slots of it are asked for."""
    if surface is None:
        known = ", ".join(sorted(catalog.surfaces)) or "none, as no release is loaded"
        return ApiError(404, "unknown_surface", f"There is no such surface. The known ones: {known}.", "surface")
    return invalid("slots", f"The field slots is wrong: this surface has {surface.slots}.")

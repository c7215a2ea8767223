"""One decision: from the bytes of a request to the bytes of its answer."""

from time import perf_counter

import structlog

from decisioning.catalog import Surface
from decisioning.domain import Decision, Facts, Rung, decided
from serving.access import ANYBODY, Caller
from serving.deciding import safely
from serving.deciding.answers import encoded
from serving.deciding.begun import DRY_RUN, STICKY, Begun, Made, begin
from serving.deciding.shedding import FALLBACK, UNEXPLAINED, shed
from serving.deciding.units import Decide, Desk
from serving.pressure import SPARED
from serving.runtime import Runtime
from stores.online import sticky

log = structlog.get_logger()


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
    """Decides. Raises what `begin` raises, and nothing else, whatever is down."""
    request = begin(runtime, body, caller, patience, arrived)
    if not request.is_plain():
        return await settled(request)
    found = request.at_once(await request.ask())
    return found if type(found) is Made else await found


async def settled(begun: Begun) -> Made:
    """Any decision, plain or not."""
    runtime, current, sent, surface = begun.runtime, begun.current, begun.sent, begun.surface
    request, before = begun.request, None
    if begun.step is Rung.FALLBACK:
        facts = runtime.store.unread(FALLBACK)
    else:
        if surface.sticky:
            budgets = current.ledger.read[surface.name]
            known = runtime.store.read_again(request.user, current.schema, budgets, begun.left(), request.decision_id)
            facts, before = await known
        else:
            facts = await begun.ask()
        begun.wait_over()
    has_reasons = sent.explain and begun.age < SPARED
    if sent.explain and not has_reasons:
        begun.admitted = (*begun.admitted, UNEXPLAINED)
    facts = begun.admitting(facts)
    read, (choose, scoring) = perf_counter(), begun.choice()

    expires, is_new = begun.expires(), True
    desk = begun.desk()
    if surface.sticky or sent.dry_run:
        decision, facts, is_new = await _settle(desk, surface, facts, before, begun.step, sent.dry_run, choose)
    else:
        decision, facts = await desk.decide(choose, shed(current, request, facts, begun.step))

    record = None
    if is_new:
        record = begun.record(facts, decision, read, scoring)
        if decision.slate and current.release.plans[surface.name].counts_decisions:
            await runtime.store.record(decided(request, decision), 0.0 if begun.step is Rung.FALLBACK else begun.left())
    why = await safely.reasons(current, request, facts, decision) if has_reasons else None
    repeated = None if is_new else DRY_RUN if sent.dry_run else STICKY
    return Made(encoded(decision, expires, why), decision, facts, request.now, record, repeated)


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

"""The engine, where a bug of it must not cost anybody an answer."""

import asyncio
from collections.abc import Sequence

import structlog

from decisioning import engine
from decisioning.domain import Decision, Facts, Reason, Request, Source
from decisioning.explain import explain, with_changes
from serving.deciding.units import Decide
from serving.runtime import Current

ENGINE_FAILED = "engine:failed"

log = structlog.get_logger()


def decide(current: Current, request: Request, facts: Facts) -> Decision:
    """The engine's decision. Should it fail, which is a bug, an empty answer: no offer breaks no rule."""
    scores = current.scores
    scores.said.clear()
    try:
        decision = engine.decide(current.release, request, facts)
        scores.keep(request.user, request.surface, request.now)
        return decision
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


def timed(scoring: list[float]) -> Decide:
    """`decide` that adds the seconds of its challengers. Nothing else decides meanwhile: it never awaits."""

    def measured(current: Current, request: Request, facts: Facts) -> Decision:
        watch = current.watch
        if watch is None:
            return decide(current, request, facts)
        watch.seconds = 0.0
        decision = decide(current, request, facts)
        scoring.append(watch.seconds)
        return decision

    return measured


async def reasons(current: Current, request: Request, facts: Facts, decision: Decision) -> Sequence[Reason] | None:
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

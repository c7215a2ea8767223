"""What a request is decided by where the worker is behind: the rungs from the models down to the static fallback.

| rung | once a request is so old | what is left out |
| --- | --- | --- |
| cached | 15 ms, or half its budget | the models and the challengers |
| prior | 25 ms | the scores remembered; the units of hard budgets, so that those count as spent |
| fallback | its budget less 5 ms | the store: nothing is known, and nothing but the surface's fallback is looked at |

Beyond that the connection answers 503 (`serving.http.protocol`). Reasons are left out first, after 5 ms.
"""

from dataclasses import replace

from decisioning.domain import Facts, Request, Rung, Shed
from serving.runtime import Current

CACHED, PRIOR, FALLBACK, UNEXPLAINED = "scores:cached", "scores:prior", "overload:fallback", "explain:shed"
"""What an answer admits."""


def shed(current: Current, request: Request, facts: Facts, rung: Rung) -> Facts:
    """The facts for a decision on a rung, which say what takes the place of the models; as they are on the top one."""
    if rung is Rung.MODEL:
        return facts
    if rung is Rung.FALLBACK:
        return replace(facts, shed=Shed(rung))
    known = current.scores.find(request.user, request.surface, request.now) if rung is Rung.CACHED else {}
    if known:
        return replace(facts, shed=Shed(rung, known), degraded=(*facts.degraded, CACHED))
    if rung is Rung.PRIOR and any(current.ledger.budgets[name].hard for name in facts.budgets):
        facts = current.ledger.closed(facts)
    return replace(facts, shed=Shed(Rung.PRIOR), degraded=(*facts.degraded, PRIOR))

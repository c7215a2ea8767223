"""A sticky decision that is asked for again: whether the answer given before may be given once more."""

from collections.abc import Iterable

from decisioning.domain import Facts, Request, Stage
from decisioning.engine import Release, examine


def still_allowed(release: Release, request: Request, facts: Facts, offers: Iterable[str]) -> bool:
    """Whether every rule lets all of these offers through now.

    Budgets are not asked again: who was given the answer holds its units. Thresholds and ranks are not either: they
    hang on scores, and an answer stays the same while the user's scores move. Raises UserError for a surface that the
    catalog does not have.
    """
    case = examine(release, request, facts)
    wanted = 0
    for offer in offers:
        bit = case.plan.bits.get(offer, 0) & case.plan.everything
        if not bit:
            return False
        wanted |= bit
    return not any(mask & wanted for stage, _, mask in case.screen.drops if stage is not Stage.BUDGET)

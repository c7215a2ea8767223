"""The distribution over what is left, exact by construction, and the draw from it."""

from collections.abc import Iterable

from decisioning.domain import MILLION, Policy
from decisioning.identity import DRAW_BITS


def mixture(
    actions: Iterable[str], champion: str, challenger: str | None, *, uniform: float, canary: float, draw: int
) -> Policy:
    """(1 − ε − κ) on the champion's choice, κ on the challenger's, ε spread evenly over all `actions`.

    Quantised to integers per million; what rounding leaves goes to the champion's choice. `champion` and `challenger`
    must be among `actions`. κ counts only where there is a challenger.
    """
    names = tuple(sorted(actions))
    weights = dict.fromkeys(names, round(uniform * MILLION) // len(names))
    if challenger is not None:
        weights[challenger] += round(canary * MILLION)
    weights[champion] += MILLION - sum(weights.values())
    kappa = canary if challenger is not None else 0.0
    return Policy(names, tuple(weights.values()), champion, challenger, uniform, kappa, draw)


def certain(champion: str, draw: int) -> Policy:
    """All weight on one action: what the held out get."""
    return Policy((champion,), (MILLION,), champion, None, 0.0, 0.0, draw)


def chosen(policy: Policy) -> str:
    """The action that the draw falls on. The bias of mapping 53 bits to a million is under 2e-10."""
    target = policy.draw * MILLION >> DRAW_BITS
    for name, weight in zip(policy.offers, policy.weights, strict=True):
        target -= weight
        if target < 0:
            return name
    return policy.champion

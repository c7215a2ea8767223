"""The distribution over what is left, exact by construction, and the draw from it."""

from decisioning.domain import MILLION, Policy
from decisioning.identity import DRAW_BITS


def mixture(
    actions: tuple[str, ...], champion: str, challenger: str | None, *, uniform: float, canary: float, draw: int
) -> Policy:
    """(1 − ε − κ) on the champion's choice, κ on the challenger's, ε spread evenly over all `actions`.

    Quantised to integers per million; what rounding leaves goes to the champion's choice. `champion` and `challenger`
    must be among `actions`. κ counts only where there is a challenger.
    """
    share = round(uniform * MILLION) // len(actions)
    kappa = round(canary * MILLION) if challenger is not None else 0
    return Policy(actions, champion, challenger, share, kappa, draw)


def certain(champion: str, draw: int) -> Policy:
    """All weight on one action: what the held out get."""
    return Policy((champion,), champion, None, 0, 0, draw)


def chosen(policy: Policy) -> str:
    """The action that the draw falls on: the even shares first, then the canary's slice, then the champion's.

    The bias of mapping 53 bits to a million is under 2e-10.
    """
    target = policy.draw * MILLION >> DRAW_BITS
    even = policy.share * len(policy.offers)
    if target < even:
        return policy.offers[target // policy.share]
    if target < even + policy.canary and policy.challenger is not None:
        return policy.challenger
    return policy.champion

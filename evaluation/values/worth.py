"""Whether a policy has shown its worth against the best single offer: what training and the promotion gate both ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.values.policy_values import REFERENCE, TRAINED

ALLOWED_LOSS = 0.01
"""The one-sided 95 % lower bound may lie this share of the best single offer's value below it."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The paired, cross-fitted DR difference of the trained policy, and what is asked of it."""

    outcome: str
    difference: float
    lower: float | None
    """Its one-sided 95 % lower bound; None where it can't be bounded."""
    allowed: float
    ess: float
    note: str | None
    """Why there is not enough support for either of the two, where there is not."""

    @property
    def is_certain(self) -> bool:
        return self.lower is not None and self.lower >= self.allowed

    @property
    def is_shown(self) -> bool:
        return self.note is None and self.difference >= 0 and self.is_certain


def worth(records: Sequence[Mapping[str, Any]], outcome: str) -> Worth | None:
    """The worth in a table of policy values; None where the table doesn't have it."""
    found = {row["policy"]: row for row in records if (row["outcome"], row["estimator"]) == (outcome, "dr")}
    ours, best = found.get(TRAINED), found.get(REFERENCE)
    if ours is None or best is None:
        return None
    allowed = -ALLOWED_LOSS * abs(best["value"])
    note = ours["note"] or ours.get("diff_note") or best["note"]
    return Worth(outcome, ours["diff"], ours["diff_lower"], allowed, ours["ess"], note)

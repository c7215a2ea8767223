"""A challenger and its champion on own traffic: both chose before anything followed, and neither learned from it.

The log holds what each would have shown, the chance of what was shown, and the champion's p_convert of all that was
left: q̂ needs no fitting. Own traffic is therefore the best evidence there is, wherever there is enough of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from decisioning.domain import MILLION
from evaluation.gate.duel import compared
from evaluation.gate.lines import Comparison
from evaluation.recorded.rewards import Rewards
from evaluation.values.estimators import Rows
from evaluation.values.segments import ALWAYS, SegmentDifference, segment_differences
from stores.log.decision_log import DecisionRecord

NET_VALUE = "net_value"


@dataclass(frozen=True)
class Canary:
    """n matured decisions that a challenger scored beside the champion."""

    ours: Rows
    """As the challenger sees them."""
    theirs: Rows
    segments: Mapping[str, Sequence[str]]
    differing: float
    """The share on which the two choose differently."""
    young: int
    """Decisions left out because their window is still open."""
    without: int
    """Decisions left out because the challenger's choice was not among what the thresholds had left."""

    def compared(self, against: str) -> Comparison:
        source = f"{len(self.ours.reward):,} decisions of own traffic"
        if self.young or self.without:
            source += f" ({self.young:,} more are too young, {self.without:,} the challenger would not have left open)"
        return compared(against, NET_VALUE, self.ours, self.theirs, differing=self.differing, source=source)

    def segment_differences(self) -> tuple[SegmentDifference, ...]:
        return segment_differences(self.ours, self.theirs, self.segments)


def canary(records: Iterable[DecisionRecord], rewards: Rewards) -> Canary | None:
    """The decisions in which a challenger chose; None where none has matured. A decision's first draw counts."""
    users: dict[str, int] = {}
    seen: set[str] = set()
    rows: list[tuple[float, ...]] = []
    labels: dict[str, list[str]] = {name: [] for name in (*ALWAYS, "surface")}
    young = without = 0
    for record in records:
        decision, request = record.decision, record.request
        policy = decision.policy
        if policy is None or decision.holdout or decision.decision_id in seen:
            continue
        seen.add(decision.decision_id)
        if not rewards.has_matured(request.surface, request.now):
            young += 1
        elif policy.challenger is None:
            without += 1
        else:
            rows.append((users.setdefault(request.user, len(users)), *_row(record, rewards)))
            for name in ALWAYS:
                labels[name].append(str(record.facts.features.get(name)))
            labels["surface"].append(request.surface)
    if not rows:
        return None
    user, reward, mine, theirs, q_shown, q_mine, q_theirs, differ = np.array(rows, float).T
    segments = {name: values for name, values in labels.items() if len(set(values)) > 1}
    ours, other = (Rows(user.astype(int), reward, w, q_shown, q) for w, q in ((mine, q_mine), (theirs, q_theirs)))
    return Canary(ours, other, segments, float(differ.mean()), young, without)


def _row(record: DecisionRecord, rewards: Rewards) -> tuple[float, ...]:
    """Reward, both weights, q̂ of what was shown and of both choices, and whether they differ. NOTHING's q̂ is 0."""
    decision, request = record.decision, record.request
    policy, shown = decision.policy, decision.first
    q = {name: p * rewards.net(name) for name, p in zip(decision.eligible, decision.p_convert, strict=True)}
    weight = MILLION / policy.weight(shown)
    return (
        rewards.of(decision.decision_id, request.surface, shown, request.now),
        weight * (shown == policy.challenger),
        weight * (shown == policy.champion),
        *(q.get(name, 0.0) for name in (shown, policy.challenger, policy.champion)),
        policy.challenger != policy.champion,
    )

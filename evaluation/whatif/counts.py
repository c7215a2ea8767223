"""One recorded decision after another, counted and weighed under two contenders."""

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from decisioning.domain import MILLION, Policy
from decisioning.engine import Release
from evaluation.recorded.rewards import Outcomes, Rewards
from evaluation.whatif.contenders import Choice, Contender, drawn_from
from evaluation.whatif.tallies import EVERYBODY, Cell, Counts, OfferTally, Segment, Tally, ValueRows
from stores.log.decision_log import DecisionRecord

UNKNOWN = "unknown"


class Pair:
    """The two contenders, and the money that both are measured in."""

    def __init__(self, base: Release, other: Release, outcomes: Outcomes, until: float) -> None:
        self.base, self.other = Contender(base, base.catalog), Contender(other, base.catalog)
        self.rewards = Rewards(outcomes, until, other.catalog, base.catalog)


class Counting:
    """Figures as they grow."""

    def __init__(self, by: tuple[str, ...]) -> None:
        self._by = by
        self._cells, self._offers = Counts(Cell), Counts(OfferTally)
        self._flows: Counter[tuple[str, str]] = Counter()
        self._policies_before: Counter[Policy] = Counter()
        self._policies_after: Counter[Policy] = Counter()
        self._values = ValueRows()
        self._users: set[int] = set()
        self._bare: set[int] = set()
        self._young = self._impossible = 0
        self.left_out: Counter[str] = Counter()
        self.unloadable: Counter[str] = Counter()

    def add(self, record: DecisionRecord, pair: Pair, *, counted: bool, judged: bool) -> None:
        """One decision, for the counts, for the values, or both."""
        request, facts = record.request, record.facts
        logged = drawn_from(record.decision)
        is_ours = record.decision.release == pair.base.release.id
        before = pair.base.recorded(record.decision, logged) if is_ours else None
        before = before or pair.base.choose(request, facts)
        after = pair.other.choose(request, facts)
        user = cluster(request.user)
        segments = (EVERYBODY, *((name, _value(record, name)) for name in self._by))
        if counted:
            self._users.add(user)
            if before.slate and not after.slate:
                self._bare.add(user)
            self._count(before, after, logged, segments)
            self._young += not judged
        if judged and logged.weight(record.decision.first) == 0:
            self._impossible += 1
        elif judged:
            self._weigh(record, pair.rewards, (before.policy, after.policy), logged, user, segments)

    def _count(self, before: Choice, after: Choice, logged: Policy, segments: tuple[Segment, ...]) -> None:
        was, becomes = before.first, after.first
        moved = was != becomes
        policy_moved = before.policy != after.policy
        unjudged = 0
        if after.policy.offers != logged.offers:
            for offer in after.policy.offers:
                if offer not in logged.offers:
                    chance = after.policy.weight(offer)
                    unjudged += chance
                    self._offers.row(offer)[6] += chance
        flags = (
            1,
            moved,
            before.slate != after.slate,
            policy_moved,
            bool(before.slate) and not after.slate,
            not before.slate,
            not after.slate,
            before.is_fallback,
            after.is_fallback,
            unjudged,
        )
        raised = [(place, flag) for place, flag in enumerate(flags) if flag]
        for segment in segments:
            row = self._cells.row(segment)
            for place, flag in raised:
                row[place] += flag
        self._offers.row(was)[0] += 1
        self._offers.row(becomes)[1] += 1
        if moved:
            self._offers.row(becomes)[2] += 1
            self._offers.row(was)[3] += 1
            self._flows[was, becomes] += 1
        self._policies_before[before.policy] += 1
        self._policies_after[after.policy] += 1

    def _expect(self, policies: Mapping[Policy, int], place: int) -> None:
        """Adds the chances of all actions: the even share of each, and what the two choices have beyond it."""
        row = self._offers.row
        for policy, times in policies.items():
            for offer in policy.offers:
                row(offer)[place] += times * policy.share
            if policy.challenger is not None:
                row(policy.challenger)[place] += times * policy.canary
            rest = MILLION - policy.share * len(policy.offers) - policy.canary
            row(policy.champion)[place] += times * rest

    def _weigh(
        self,
        record: DecisionRecord,
        rewards: Rewards,
        policies: tuple[Policy, Policy],
        logged: Policy,
        user: int,
        segments: tuple[Segment, ...],
    ) -> None:
        decision = record.decision
        shown = decision.first
        q = {name: p * rewards.net(name) for name, p in zip(decision.eligible, decision.p_convert, strict=True)}
        q = {name: q.get(name, 0.0) for name in logged.offers}
        known = mean(logged, q)[1]
        weights, means, strays = [], [], []
        for policy in policies:
            if policy == logged:
                means.append(known)
                weights.append(1.0)
                strays.append(0.0)
                continue
            mass, expected = mean(policy, q)
            astray = 1.0 - mass  # on what the log could not show: left where the log had it
            means.append(expected + astray * known)
            weights.append(policy.weight(shown) / logged.weight(shown) + astray)
            strays.append(astray)
        self._values.add(
            user,
            reward=rewards.of(decision.decision_id, decision.surface, shown, record.request.now),
            weights=(weights[0], weights[1]),
            means=(means[0], means[1]),
            q_logged=q[shown],
            differs=_differ(policies, (strays[0], strays[1]), logged),
            segments=segments,
        )

    def tally(self) -> Tally:
        """All that was counted. To be asked once, at the end."""
        self._expect(self._policies_before, 4)
        self._expect(self._policies_after, 5)
        return Tally(
            self._cells.tallies(),
            self._offers.tallies(),
            dict(self._flows),
            self._values.worth(),
            np.array(sorted(self._users), np.int64),
            np.array(sorted(self._bare), np.int64),
            self._young,
            self._impossible,
            dict(+self.left_out),
            dict(+self.unloadable),
        )


def cluster(user: str) -> int:
    """A user key as a number below 2^60; of other keys than ours, a hash."""
    try:
        return int(user[:15], 16)
    except ValueError:
        return int.from_bytes(blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 4


def mean(policy: Policy, q: Mapping[str, float]) -> tuple[float, float]:
    """The chance of the actions in `q`, and Σ π(a) q(a) over them."""
    inside = [q[offer] for offer in policy.offers if offer in q]
    mass, total = policy.share * len(inside), policy.share * sum(inside)
    if policy.challenger in q:
        mass, total = mass + policy.canary, total + policy.canary * q[policy.challenger]
    if policy.champion in q:
        rest = MILLION - policy.share * len(policy.offers) - policy.canary
        mass, total = mass + rest, total + rest * q[policy.champion]
    return mass / MILLION, total / MILLION


def _differ(policies: tuple[Policy, Policy], strays: tuple[float, float], logged: Policy) -> bool:
    """Whether two policies differ in what the log can judge."""
    before, after = policies
    if before == after:
        return False
    gain = strays[1] - strays[0]
    return any(
        abs(after.weight(offer) - before.weight(offer) + gain * logged.weight(offer)) > 0.5 for offer in logged.offers
    )


def _value(record: DecisionRecord, feature: str) -> str:
    """What a decision's user has in a feature, as a segment is called."""
    found = record.request.context.get(feature)
    if found is None:
        found = record.facts.features.get(feature)
    return UNKNOWN if found is None else str(found)

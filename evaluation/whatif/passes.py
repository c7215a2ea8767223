"""Recorded traffic decided again under another catalog or model: who gets something else, and what that is worth.

Every decision meets the history that really happened, so this is one step ahead and not a simulation. Values are
paired doubly robust estimates (Dudík and others 2011) over decisions whose windows have closed: with the chances
π_b of the log, π_c of what is in use and π_e of what is asked about,

    x = Σ_a (π_e − π_c)(a) q̂(a) + (π_e − π_c)(a₀)/π_b(a₀) · (r − q̂(a₀))

where q̂ is p_convert × net value as logged before anything followed, so that no outcome had a say in it. Chances of
offers that the log could not show are counted, and taken as left where the log had them: it can't judge them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

from decisioning.engine import Release
from decisioning.errors import UserError
from evaluation.recorded.rewards import Outcomes
from evaluation.recorded.traffic import Opened, records
from evaluation.whatif.counts import Counting, Pair
from evaluation.whatif.tallies import Tally
from stores.log.decision_log import DecisionRecord

ENGINE_FAILED = "engine:failed"
Pairing = Callable[[str], tuple[Release, Release]]
"""From a recorded release's id to what is in use and what is asked about. Raises UserError where it can't be loaded."""


@dataclass(frozen=True)
class WhatIf:
    """A pass over the log. Picklable, so that processes can share it."""

    pairing: Pairing
    outcomes: Outcomes
    until: float
    """The moment up to which outcomes are known."""
    by: tuple[str, ...] = ()
    """Features to tell the figures by."""
    since: float = -inf
    """Earlier decisions are not counted, and of them none is young."""
    judged_since: float = -inf
    """From when on matured decisions have a say in values."""
    repeats: Mapping[str, float] = field(default_factory=dict)

    def __call__(self) -> Opened[Tally]:
        return _Pass(self).tally


class _Pass:
    """The pass of one process: releases are loaded once."""

    def __init__(self, asked: WhatIf) -> None:
        self._asked = asked
        self._pairs: dict[str, Pair] = {}
        self._pair = lru_cache(maxsize=None)(self._found)

    def _found(self, release: str) -> Pair | None:
        try:
            base, other = self._asked.pairing(release)
        except UserError:
            return None
        if base.id not in self._pairs:
            self._pairs[base.id] = Pair(base, other, self._asked.outcomes, self._asked.until)
        return self._pairs[base.id]

    def tally(self, taken: Iterable[bytes]) -> Tally:
        """The figures of some lines of the log."""
        asked = self._asked
        counting = Counting(asked.by)
        for record in records(taken, min(asked.since, asked.judged_since)):
            why = "lines that are no decision" if record is None else unfit(record, asked.repeats)
            counted = record is None or record.request.now >= asked.since
            if why is not None:
                counting.left_out[why] += counted
                continue
            pair = self._pair(record.decision.release)
            if pair is None:
                counting.unloadable[record.decision.release] += counted
                continue
            matured = pair.rewards.has_matured(record.request.surface, record.request.now)
            if counted or matured:
                counting.add(record, pair, counted=counted, judged=matured)
        return counting.tally()


def unfit(record: DecisionRecord, repeats: Mapping[str, float]) -> str | None:
    """Why a record says nothing of what a release would choose."""
    if ENGINE_FAILED in record.decision.degraded:
        return "answers after a failure of the engine"
    counts = repeats.get(record.decision.decision_id)
    if counts is not None and counts != record.request.now:
        return "records of a sticky answer besides the one that counts"
    return None

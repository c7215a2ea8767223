"""Which lever gives an offer a share of first places? Answered exactly, from the scores of recorded decisions.

In each decision the offer's score grows in proportion to its lever, and the best other score does not: so there is one
lever from which on it wins, or none. The share that a lever reaches is how many of these thresholds it has passed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil, floor, inf
from pathlib import Path
from typing import Any

import numpy as np

from decisioning.arbitration import Ranking
from decisioning.catalog import Catalog, Factor
from decisioning.domain import Facts, Request
from decisioning.engine import examine, rank
from decisioning.errors import UserError
from decisioning.experiments import ablated
from decisioning.plan import SurfacePlan
from decisioning.rules import Lever, Scope
from decisioning.yaml_nodes import did_you_mean
from evaluation.recorded.sweeping import Opened, Progress, quietly, sweep
from evaluation.recorded.traffic import records
from evaluation.whatif.asking import Recorded, ask, opened
from evaluation.whatif.contenders import Contender
from evaluation.whatif.passes import Pairing, unfit
from evaluation.whatif.proposals import Proposal
from scaling.engines import Engine
from scaling.local import HERE

NAME = "whatif"
STEP = 0.001
"""Levers are told to three decimals."""
SHOWN_LEVERS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Thresholds:
    """Of some decisions, the least new lever with which the offer comes first: 0 where any, infinite where none."""

    levers: np.ndarray

    def __add__(self, other: "Thresholds") -> "Thresholds":
        return Thresholds(np.concatenate([self.levers, other.levers]))

    def share(self, lever: float) -> float:
        """Of first places that a lever gives the offer."""
        return float((self.levers < lever).mean()) if len(self.levers) else 0.0

    def lever(self, share: float) -> float:
        """The least lever, in steps, that gives at least this share; infinite where none does."""
        wanted = ceil(share * len(self.levers) - 1e-9)
        if wanted <= 0:
            return 0.0
        found = float(np.partition(self.levers, wanted - 1)[wanted - 1])
        return found if found == inf else (floor(found / STEP) + 1) * STEP  # beyond it: at it, there is a tie


@dataclass(frozen=True)
class LeverPass:
    """A pass over the log. Picklable where `load` is, so that engines can share it out."""

    pairing: Pairing
    offer: str
    surfaces: frozenset[str]
    since: float = -inf
    repeats: Mapping[str, float] = field(default_factory=dict)

    def __call__(self) -> Opened[Thresholds]:
        return _Searching(self).thresholds


class _Searching:
    def __init__(self, asked: LeverPass) -> None:
        self._asked = asked
        self._judges: dict[str, _Judge] = {}
        self._judge = lru_cache(maxsize=None)(self._judging)

    def _judging(self, release: str) -> "_Judge | None":
        try:
            base, other = self._asked.pairing(release)
        except UserError:
            return None
        if base.id not in self._judges:
            self._judges[base.id] = _Judge(Contender(other, base.catalog), self._asked.offer)
        return self._judges[base.id]

    def thresholds(self, lines: Iterable[bytes]) -> Thresholds:
        found = []
        for record in records(lines, self._asked.since):
            if (
                record is None
                or record.request.surface not in self._asked.surfaces
                or unfit(record, self._asked.repeats)
            ):
                continue
            judge = self._judge(record.decision.release)
            if judge is not None:
                found.append(judge.threshold(record.request, record.facts))
        return Thresholds(np.array(found, float))


class _Judge:
    """One release's view of an offer."""

    def __init__(self, contender: Contender, offer: str) -> None:
        self._contender, self._release, self._offer = contender, contender.release, offer
        release = self._release
        # The same factors without bounds: what the levers on the offer multiply to before they are held within them.
        free = replace(release.catalog, lever_min=0.0, lever_max=inf)
        self._free = {name: SurfacePlan(free, surface) for name, surface in free.surfaces.items()}

    def threshold(self, request: Request, facts: Facts) -> float:
        """The least new lever with which the offer comes first."""
        case = examine(self._release, request, self._contender.known(request, facts))
        simple, plan, catalog = case.holdout is not None, case.plan, self._release.catalog
        ranking = rank(case, case.scorers, simple=simple)
        mine = self._score(ranking, plan.surface.min_p_convert)
        if mine is None:
            return inf
        at, factors = plan.position(self._offer), ranking.factors
        least = factors.min_score
        floor = 0.0 if plan.surface.allow_nothing else -inf
        rivals = [
            (priority, score)
            for name, priority, score in zip(
                ranking.left.names, ranking.left.of(factors.priority), ranking.scores, strict=True
            )
            if name != self._offer and score > floor
        ]
        if any(priority > factors.priority[at] for priority, _ in rivals):
            return inf
        best = max((score for priority, score in rivals if priority == factors.priority[at]), default=floor)
        wins = mine > best and mine > floor and (least is None or mine >= least)
        bare = mine / factors.lever[at]
        if simple or ablated(case.arms) is Factor.LEVERS or bare <= 0:
            return 0.0 if wins else inf  # no lever moves it
        wanted = max(best / bare, (least or 0.0) / bare, 0.0)
        if wanted >= catalog.lever_max:
            return inf
        pulled = self._free[plan.surface.name].factors(case.request.now, case.arms, case.screen.weights).lever[at]
        return 0.0 if wanted < catalog.lever_min else wanted / pulled

    def _score(self, ranking: Ranking, least_p: float | None) -> float | None:
        """The offer's score, even where it missed the threshold in money; None where no lever helps."""
        names = ranking.left.names
        if self._offer in names:
            return float(ranking.scores[names.index(self._offer)])
        p_convert, score = ranking.below.get(self._offer, (0.0, None))
        return None if score is None or (least_p is not None and p_convert < least_p) else float(score)


def pulled(offer: str, surface: str | None, times: float) -> Lever:
    """The lever that is asked about, as a catalog would have it."""
    surfaces = frozenset({surface}) if surface else frozenset[str]()
    return Lever(NAME, Scope(frozenset({offer}), only_surfaces=surfaces), times, inf, "whatif", "a question")


def surfaces_of(catalog: Catalog, offer: str, surface: str | None) -> frozenset[str]:
    """Where the share is counted. Raises UserError for an offer that isn't there, or a surface that it isn't on."""
    if offer not in catalog.offers:
        raise UserError(f"The catalog has no offer {offer}. {did_you_mean(offer, catalog.offers)}".rstrip())
    own = catalog.offers[offer].surfaces
    if surface is not None and surface not in own:
        raise UserError(f"{offer} does not stand on {surface}, but on: {', '.join(own)}.")
    return frozenset(own if surface is None else [surface])


def search(
    logs: Path,
    proposal: Proposal,
    offer: str,
    share: float,
    *,
    surface: str | None = None,
    last: str = "7d",
    engine: Engine = HERE,
    progress: Progress = quietly,
) -> dict[str, Any]:
    """Which lever gives an offer a share of the first places of recorded decisions on its surfaces, or on one of them.

    The lever comes on top of those that there are, and has the catalog's bounds. Told with it: what the share is now,
    the most that a lever can reach, and a what-if of that lever (`report`), which says who pays. Raises UserError for
    an offer or a surface that the catalog lacks, a share outside (0, 1], and where there are no decisions to look at.
    """
    if not 0.0 < share <= 1.0:
        raise UserError(f"--share takes a part of all decisions, such as 10% or 0.1, and not {share:g}.")
    base, other = opened(proposal, logs)
    surfaces = surfaces_of(other.catalog, offer, surface)
    seen = Recorded.of(logs, last, base, other, engine=engine).traffic
    task = LeverPass(proposal, offer, surfaces, seen.since, seen.repeats)
    found = sweep(task, seen.chunks, engine=engine, progress=progress)
    if not len(found.levers):
        raise UserError(f"None of the recorded decisions is on {', '.join(sorted(surfaces))}: take a longer --last.")
    low, high = other.catalog.lever_min, other.catalog.lever_max
    lever = max(found.lever(share), low)
    told = {
        "offer": offer,
        "surfaces": sorted(surfaces),
        "decisions": len(found.levers),
        "share_wanted": share,
        "share_now": found.share(1.0),
        "share_most": found.share(high),
        "bounds": [low, high],
        "by_lever": [{"lever": x, "share": found.share(x)} for x in SHOWN_LEVERS if low <= x <= high],
    }
    if lever > high:
        return {**told, "lever": None, "share": None, "report": None}
    asked = replace(proposal, levers=(*proposal.levers, pulled(offer, surface, lever)))
    report = ask(logs, asked, last=last, engine=engine, progress=progress)
    return {**told, "lever": round(lever, 3), "share": found.share(lever), "report": report}

"""Where the gate's evidence comes from: what was registered with a version, and a comparison with the champion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from evaluation.gate.duel import compared, deterministic
from evaluation.gate.lines import Calibration, Comparison
from evaluation.labels.labels import Logged
from evaluation.values.arm_means import table
from evaluation.values.crossfit import shrunk
from evaluation.values.estimators import Rows
from evaluation.values.judged import REFERENCE, TRAINED, Judged, Seen, judge
from evaluation.values.policy_choice import chosen
from evaluation.values.reliability import CalibrationCell
from evaluation.values.segments import SegmentDifference, segment_differences, segment_labels
from evaluation.values.worth import worth
from models.artifact import Model
from models.frames import encode_facts
from stores.home import Home
from stores.releases import ReleaseStore
from training.config import Config, config_of
from training.prepare import Progress, prepare
from training.shadowing import canary_of

BEST = "the best single offer"


@dataclass(frozen=True, slots=True)
class Rivalry:
    """A candidate and the champion on the same decisions."""

    comparison: Comparison
    segments: tuple[SegmentDifference, ...]

    def saying(self, more: str) -> "Rivalry":
        """The same, with more said of where it comes from; "" adds nothing."""
        if not more:
            return self
        found = self.comparison
        note = found.note and f"{found.note}; {more}"
        return replace(self, comparison=replace(found, source=f"{found.source}; {more}".lstrip("; "), note=note))


@dataclass(frozen=True, slots=True)
class Policy:
    """What a model, or its procedure of training, chooses on n logged decisions."""

    choice: np.ndarray
    """(n,) arms."""
    seen: Seen
    """The decisions as it sees them; a cross-fitted one knows what its folds owe one another."""


def against_best(evidence: Mapping[str, Any]) -> Comparison | None:
    """The worth that training registered; None where its table doesn't have it."""
    found = worth(evidence["policy_values"], evidence["objective"])
    if found is None:
        return None
    best = next(
        row["value"]
        for row in evidence["policy_values"]
        if (row["policy"], row["outcome"], row["estimator"]) == (REFERENCE, found.outcome, "dr")
    )
    return Comparison(BEST, found.outcome, best, found.difference, found.lower, found.ess, found.note)


def calibration_of(evidence: Mapping[str, Any]) -> Calibration | None:
    """Of the learner's own probabilities, cross-fitted, as registered."""
    if evidence.get("ece") is None:
        return None
    cells = tuple(map(CalibrationCell.from_json, evidence.get("calibration_cells", ())))
    return Calibration(evidence["ece"], evidence.get("ece_by_chance"), cells)


def segments_of(evidence: Mapping[str, Any]) -> tuple[SegmentDifference, ...]:
    """Against the best single offer, as registered."""
    return tuple(map(SegmentDifference.from_json, evidence.get("segments", ())))


def rivalry(home: Home, catalog: Catalog, candidate: Model, champion: Model, progress: Progress) -> Rivalry:
    """Hold a candidate against the champion: on own traffic where that is enough, else on the tables at hand.

    Where neither can tell, the comparison says why instead.
    """
    against = f"the champion {champion.label}"
    own, too_few = canary_of(home, ReleaseStore(home.releases), catalog, candidate, champion), ""
    if own is not None:
        found = own.compared(against)
        if found.note is None:
            return Rivalry(found, own.segment_differences())
        why = found.note.removeprefix("not enough support: ")
        too_few = f"own traffic: {len(own.ours.reward):,} decisions, too few: {why}"
    try:
        return _on_tables(home, catalog, candidate, champion, progress).saying(too_few)
    except UserError as error:
        why = f"the data in {home.data} can't tell: {error}"
        return Rivalry(Comparison(against, "", 0.0, 0.0, None, 0.0, why), ()).saying(too_few)


def _on_tables(home: Home, catalog: Catalog, candidate: Model, champion: Model, progress: Progress) -> Rivalry:
    """The candidate's procedure of training is cross-fitted, so that it chooses for users it has not seen.

    The champion itself chooses on the decisions later than all that it learned from. Where those are too few, its
    procedure is cross-fitted as well, on the same folds: the champion as it would be, had it learned from these data.
    """
    judged = _judged(home, catalog, candidate, progress)
    logged = judged.logged
    mine = _procedure(candidate, judged)
    later = _later_than(champion, logged)
    if len(later):
        said = f"its procedure cross-fitted, {champion.label} as it is on decisions after its training"
        found = _held_against(champion, judged, mine, _as_it_is(champion, logged), later, said)
        if found.comparison.note is None:
            return found
    is_same = config_of(champion) == config_of(candidate)
    again = judged if is_same else _judged(home, catalog, candidate, progress, config_of(champion))
    said = f"its procedure and that of {champion.label} cross-fitted"
    return _held_against(champion, judged, mine, _procedure(champion, again), np.arange(logged.n), said)


def _later_than(champion: Model, logged: Logged) -> np.ndarray:
    """Indices of the decisions that were made after the champion's training had seen its last one."""
    until, positives = champion.info.get("until"), champion.info.get("positives", "matured")
    if until is None or logged.at is None or positives != "matured":  # what is still open taught it too
        return np.empty(0, np.intp)
    return np.flatnonzero(logged.at > float(until))


def _held_against(
    champion: Model, judged: Judged, mine: Policy, theirs: Policy, kept: np.ndarray, said: str
) -> Rivalry:
    """On the decisions `kept`, by the q̂ and the folds of `judged`."""
    reward, q = judged.outcome(judged.objective)
    ours, other = (policy.seen(reward, q).take(kept) for policy in (mine, theirs))
    comparison = compared(
        f"the champion {champion.label}",
        judged.objective,
        ours,
        other,
        differing=float((mine.choice[kept] != theirs.choice[kept]).mean()),
        source=f"{len(kept):,} decisions; {said}",
    )
    labels = {name: values[kept] for name, values in segment_labels(judged.logged).items()}
    return Rivalry(comparison, segment_differences(ours, other, labels))


def _judged(home: Home, catalog: Catalog, candidate: Model, progress: Progress, config: Config | None = None) -> Judged:
    """A procedure cross-fitted, the candidate's own unless said otherwise, on the folds of the candidate's training."""
    config = config_of(candidate) if config is None else config
    folds, seed = int(candidate.info.get("folds", 5)), int(candidate.info.get("seed", 0))
    _, fits = prepare(home, catalog, candidate.name, config, folds=folds, seed=seed, progress=progress)
    return judge(fits)


def _procedure(model: Model, judged: Judged) -> Policy:
    """The cross-fitted procedure; at λ = 0 that is the best single offer."""
    name = REFERENCE if model.shrinkage == 0.0 else TRAINED
    return Policy(judged.choices[name], judged.policies[name])


def _as_it_is(model: Model, logged: Logged) -> Policy:
    """The fitted model itself, whose choice hangs on no fold."""
    choice = choices_of(model, logged)

    def seen(reward: np.ndarray, q: np.ndarray) -> Rows:
        return deterministic(logged.user, reward, logged.action, logged.probability, choice, q)

    return Policy(choice, seen)


def choices_of(model: Model, logged: Logged) -> np.ndarray:
    """(n,) what a fitted model would have shown, by its own means, calibration and shrinkage."""
    means = table(model.means, logged)[logged.surface]
    raw = np.full(means.shape, np.nan)
    own = {arm: model.encoding.index[name] for arm, name in enumerate(logged.arms) if name in model.encoding.index}
    if own and model.shrinkage:
        contexts = encode_facts(model.encoding, logged.facts, np.array(logged.surfaces, object)[logged.surface])
        raw[:, list(own)] = model.predictor.matrix(contexts, list(own.values()))
    return chosen(logged, np.arange(logged.n), shrunk(raw, means, model.calibration, model.shrinkage))

"""What a release must show before any worker takes it: it loads, its models score well, every surface decides."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence

from decisioning.catalog import Catalog
from decisioning.domain import Decision, Facts, Request, Scores
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from features.schema import Schema
from models.artifact import Golden, Model
from models.encoding import features_json
from models.predictors import Constant
from stores.releases import SCHEMA, ReleaseStore

ALIKE = 1e-12
"""Probabilities that lie no further apart are the same."""


def examine(releases: ReleaseStore, release_id: str) -> None:
    """Raises UserError with what is wrong; whatever else it raises is wrong too.

    Loading checks every file's sha256, parses, and compares golden rows.
    """
    release = releases.load(release_id)
    models = [model for model in (*release.scorers.values(), *release.challengers.values()) if isinstance(model, Model)]
    _check_schema(releases, release)
    for model in models:
        _check_features(model, release.catalog)
        _check_scores(model, release.catalog)
    for request, facts in _visits(release, models):
        _check_decision(decide(release, request, facts))


def _check_schema(releases: ReleaseStore, release: Release) -> None:
    files = releases.files(release.id)
    if SCHEMA not in files:
        return
    written, own = Schema.from_json(json.loads(files[SCHEMA])), Schema.of(release.catalog.features)
    if written.hash != own.hash:
        raise UserError(f"Its {SCHEMA} is not that of its catalog: publish it again with `segue promote`.")


def _check_features(model: Model, catalog: Catalog) -> None:
    """A feature that means something else now than it did in training would be read as what it is not."""
    ours = {row["name"]: row for row in features_json(tuple(catalog.features.values()))}
    theirs = features_json(model.encoding.features)
    moved = sorted(str(row["name"]) for row in theirs if row["name"] in ours and ours[row["name"]] != row)
    if moved:
        raise UserError(
            f"Model {model.label} was trained on other features than the catalog declares ({', '.join(moved)}): "
            "train it again."
        )


def _check_scores(model: Model, catalog: Catalog) -> None:
    """Probabilities where there should be some; and not the same for everybody and everything."""
    offers = tuple(catalog.offers)
    for row in model.golden:
        _check_probabilities(model, model.score(row.features, row.surface, row.offers))
    for surface in catalog.surfaces:
        _check_probabilities(model, model.score({}, surface, offers))
        _check_probabilities(model, model.prior(surface, offers))
    if model.shrinkage > 0.0 and model.predictor.kind != Constant.kind:
        _check_learned([p for row in model.golden for p in _learned(model, row)], model)


def _check_learned(learned: Sequence[float], model: Model) -> None:
    """Something to say of somebody, and not the same of everybody."""
    known = [p for p in learned if p == p]
    if learned and not known:
        raise UserError(f"Model {model.label} gives no number for anybody: train it again.")
    if len(known) > 1 and max(known) - min(known) <= ALIKE:
        raise UserError(f"Model {model.label} scores every user and every offer alike: train it again.")


def _learned(model: Model, row: Golden) -> Sequence[float]:
    """What the learner itself says of each offer, calibrated; NaN where it has nothing to say."""
    return model.calibration.each(list(model.raw(row.features, row.surface, row.offers).values()))


def _check_probabilities(model: Model, scores: Scores) -> None:
    if not (all(0.0 <= p <= 1.0 for p in scores.p_convert) and _all_finite(scores.effect)):  # NaN fails, too
        raise UserError(f"Model {model.label} gives scores that are no probabilities: train it again.")


def _visits(release: Release, models: Iterable[Model]) -> Iterator[tuple[Request, Facts]]:
    """A stranger on every surface; then the users of the golden rows."""
    catalog, now = release.catalog, time.time()
    for surface in catalog.surfaces:
        yield Request("trial", "trial", surface, now), Facts()
    for row in (row for model in models for row in model.golden if row.surface in catalog.surfaces):
        known = {name: value for name, value in row.features.items() if name in catalog.features}
        context = {name: value for name, value in known.items() if catalog.features[name].from_context}
        kept = {name: value for name, value in known.items() if name not in context}
        yield Request("trial", "trial", row.surface, now, context), Facts(features=kept, as_of=now)


def _check_decision(decision: Decision) -> None:
    if not _all_finite(decision.p_convert) or not _all_finite(decision.scores):
        raise UserError(f"On surface {decision.surface} it decides by scores that are no numbers.")


def _all_finite(numbers: Iterable[float]) -> bool:
    return all(math.isfinite(number) for number in numbers)

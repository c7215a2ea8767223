"""Many users at once are scored as each of them would be alone, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Offer, Score, Surface
from decisioning.domain import NOTHING, Facts, Request
from decisioning.knowledge import Knowledge
from features.schema import Schema
from models.artifact import Model
from models.batch import Ahead, Users, encode_users, score_matrix
from models.calibration import Isotonic
from models.learners import LEARNERS

OFFERED = ("vinyl", "annual", "brand_new", "monthly")
DECLARED = {
    spec.name: spec
    for spec in (
        FeatureSpec("age", FeatureType.INT, default=33),
        FeatureSpec("likes", FeatureType.SET, ("jazz", "metal", "opera", "pop")),
        FeatureSpec("minutes", FeatureType.FLOAT, max_age=3600.0),
        FeatureSpec("tier", FeatureType.ENUM, ("basic", "family", "free", "premium"), default="free"),
        FeatureSpec("paying", FeatureType.BOOL, from_context=True),
        FeatureSpec("joined", FeatureType.TIME),
    )
}
"""What a catalog says by now: other values and defaults than the model was trained with."""
SCHEMA = Schema.of(DECLARED)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "age": st.integers(-5, 2**30),
        "likes": st.frozensets(st.sampled_from(("jazz", "metal", "opera", "pop"))),
        "minutes": st.floats(allow_nan=False, allow_infinity=False) | st.just(0.0),
        "tier": st.sampled_from(("basic", "family", "free", "premium")),
        "joined": st.floats(0, 2e9),
    },
)
VISITORS = st.lists(st.tuples(VALUES, st.sampled_from((True, False, None))), max_size=12)


def alone(model: Model, rows, now: float, surface: str, offers=OFFERED):
    """Each user on their own, on the way of a request: store, knowledge, model."""
    catalog = Catalog(
        "c", features=DECLARED, offers={"annual": Offer("annual", "o", "plans", ("home",), Score("m", 1.0))},
        surfaces={"home": Surface("home")},
    )  # fmt: skip
    knowledge = Knowledge(catalog)
    for values, paying in rows:
        context = {} if paying is None else {"paying": paying}
        facts = Facts(SCHEMA.unpack(SCHEMA.pack(values)), as_of=0.0)
        known = knowledge.values(Request("d", "u", surface, now, context), facts)
        yield known, model.score(known, surface, offers)


def together(rows, now: float) -> Users:
    vectors = np.array([SCHEMA.vector(values) for values, _ in rows], np.float32).reshape(len(rows), SCHEMA.width)
    defaults = {name: spec.default for name, spec in DECLARED.items() if spec.default is not None}
    stale = frozenset({"minutes"} if now > 3600.0 else ())
    return Users(SCHEMA, vectors, defaults, stale, {"paying": [paying for _, paying in rows]})


@pytest.mark.parametrize("learner", sorted(LEARNERS))
@settings(max_examples=25, deadline=None)
@given(rows=VISITORS, now=st.sampled_from((60.0, 7200.0)), surface=st.sampled_from(("home", "shelf", "elsewhere")))
def test_many_users_are_scored_as_each_alone_to_the_last_bit(models, learner, rows, now, surface):
    model = models[learner]
    contexts = encode_users(model.encoding, together(rows, now), surface)
    p, effect = score_matrix(model, contexts, surface, OFFERED)
    for row, (known, scores) in enumerate(alone(model, rows, now, surface)):
        assert np.array_equal(contexts[row], model.encoding.context(known, surface), equal_nan=True)
        assert p[row].tolist() == list(scores.p_convert)
        assert effect[row].tolist() == list(scores.effect)


@pytest.mark.parametrize(
    "change",
    [
        {"uplift": False},
        {"shrinkage": 0.0},
        {"shrinkage": 1.0, "calibration": Isotonic((-3.0, -1.0, 0.5), (0.01, 0.2, 0.9))},
    ],
    ids=["without uplift", "shrunk to the mean", "isotonic"],
)
def test_every_way_from_log_odds_to_scores_is_the_same(models, change):
    model = replace(models["lightgbm"], **change)
    rows = [({"age": age, "minutes": 10.0 * age, "tier": "basic"}, True) for age in range(10, 60)]
    offers = (*OFFERED, NOTHING)
    p, effect = score_matrix(model, encode_users(model.encoding, together(rows, 60.0), "home"), "home", offers)
    wanted = [scores for _, scores in alone(model, rows, 60.0, "home", offers)]
    assert p.tolist() == [list(scores.p_convert) for scores in wanted]
    assert effect.tolist() == [list(scores.effect) for scores in wanted]


def test_scores_that_were_computed_ahead_are_those_of_whose_turn_it_is(models):
    model = models["dr_learner"]
    rows = [({"age": age, "minutes": 100.0, "tier": "free"}, age % 2 == 0) for age in (20, 31, 44)]
    ahead = Ahead(model, "home", OFFERED)
    ahead.foresee(together(rows, 60.0))
    for turn, (known, _) in enumerate(alone(model, rows, 60.0, "home")):
        ahead.turn = turn
        assert ahead.score(known, "home", ("monthly", "vinyl")) == model.score(known, "home", ("monthly", "vinyl"))
        assert ahead.prior("home", OFFERED) == model.prior("home", OFFERED)
    assert ahead.label == model.label


def test_what_was_not_foreseen_is_asked_of_the_model(models):
    model = models["lightgbm"]
    rows = [({"age": 20}, True)]
    ahead = Ahead(model, "home", ("annual",))
    ahead.foresee(together(rows, 60.0))
    ahead.turn = 0
    known, _ = next(alone(model, rows, 60.0, "home"))
    for surface, offers in (("home", ("annual", "vinyl")), ("shelf", ("annual",))):
        assert ahead.score(known, surface, offers) == model.score(known, surface, offers)


def test_a_user_who_was_not_foreseen_is_asked_of_the_model(models):
    model = models["lightgbm"]
    ahead = Ahead(model, "home", OFFERED)
    ahead.foresee(together([({"age": 20}, True)], 60.0))
    known, _ = next(alone(model, [({"age": 71, "tier": "premium"}, False)], 60.0, "home"))
    assert ahead.score(known, "home", OFFERED) == model.score(known, "home", OFFERED)

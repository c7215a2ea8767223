"""Columns that a user and an offer make together: what they hold, and what they are good for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from models.artifact import ArtifactError, Means, Model, load, record_golden, save
from models.batch import score_matrix
from models.crossing import Cross, Traits
from models.encoding import Encoding
from models.fitting.reference import by_lightgbm
from models.inputs import reading
from models.learners import LEARNERS, Sample, fit
from models.trees import parse

FEATURES = (
    FeatureSpec("budget", FeatureType.FLOAT),
    FeatureSpec("country", FeatureType.ENUM, ("BR", "SE")),
    FeatureSpec("likes", FeatureType.SET, ("jazz", "metal", "pop")),
)
OFFERS = (
    Traits("jazz_club", "live", {"genre": "jazz", "price": 9.9, "home": "SE"}),
    Traits("metal_fest", "live", {"genre": "metal", "price": 3e38, "home": "BR"}),
    Traits("opera", "live", {"genre": "opera", "price": 0.0}),
    Traits("quiz", "fun", {}),
)
CROSSES = (Cross("budget", "price"), Cross("country", "home"), Cross("likes", "genre"))
ENCODING = Encoding(FEATURES, ("home",), OFFERS, CROSSES)
SOMEBODY = {"budget": 20.0, "country": "SE", "likes": frozenset({"jazz", "pop"})}


def crossed(known):
    """By column, what each offer has."""
    context = np.array([ENCODING.context(known, "home")])
    values = [crossing.of(context, range(4))[0].tolist() for crossing in ENCODING.crossings]
    return dict(zip((cross.column for cross in CROSSES), values, strict=True))


def test_a_number_is_multiplied_and_a_word_is_compared():
    found = crossed(SOMEBODY)
    assert ENCODING.columns[-3:] == tuple(found)
    assert found["budget × attribute.price"][:3] == pytest.approx([198.0, math.nan, 0.0], nan_ok=True)
    assert found["country × attribute.home"][:2] == [1.0, 0.0]
    assert found["likes × attribute.genre"][:3] == [1.0, 0.0, 0.0]


def test_what_either_side_lacks_is_missing():
    assert [values[3] for values in crossed(SOMEBODY).values()] == pytest.approx([math.nan] * 3, nan_ok=True)
    assert all(math.isnan(value) for values in crossed({}).values() for value in values)
    assert math.isnan(crossed(SOMEBODY)["country × attribute.home"][2])


def test_the_product_is_that_of_float32():
    context = np.array([ENCODING.context({"budget": 0.1}, "home")])
    assert ENCODING.crossings[0].of(context, [0])[0, 0] == float(np.float32(0.1) * np.float32(9.9))


def test_the_columns_of_a_sample_are_those_of_each_pair():
    contexts = np.array([ENCODING.context(known, "home") for known in (SOMEBODY, {}, SOMEBODY)], np.float32)
    shown = np.array([2, 0, 1])
    for crossing in ENCODING.crossings:
        one_by_one = crossing.of(contexts, range(4))[np.arange(3), shown]
        np.testing.assert_array_equal(crossing.shown(contexts, shown), one_by_one)


@pytest.fixture(scope="module")
def liked():
    """4,000 rows: who likes an offer's genre takes it half of the time, others one time in ten. No opera was shown."""
    rng = np.random.default_rng(3)
    known = [
        {
            "budget": float(rng.exponential(20.0)),
            "country": ("BR", "SE")[rng.integers(2)],
            "likes": frozenset(word for word in ("jazz", "metal", "pop") if rng.random() < 0.4),
        }
        for _ in range(4000)
    ]
    offers = rng.choice([0, 1, 3], 4000)
    liked = [OFFERS[offer].attributes.get("genre") in row["likes"] for row, offer in zip(known, offers, strict=True)]
    outcome = rng.random(4000) < np.where(liked, 0.5, 0.1)
    contexts = np.array([ENCODING.context(row, "home") for row in known], np.float32)
    return Sample(contexts, offers, outcome.astype(float), np.ones(4000))


@pytest.fixture(scope="module")
def model(liked):
    predictor = fit("lightgbm", ENCODING, liked, {"num_trees": 40, "min_data_in_leaf": 20, "num_threads": 1}, 0)
    made = Model("m", 1, "lightgbm", "convert", ENCODING, Means({}, {}, {}, 0.2), False, 1.0, predictor)
    return record_golden(made, [({}, "home"), (SOMEBODY, "home")], by_lightgbm(predictor, ENCODING))


def test_a_cross_carries_over_to_an_offer_that_nobody_was_shown(model, liked):
    """The opera moves to a genre that users like: with the cross, those who like it take it; without, nobody knows."""
    moved = (*OFFERS[:2], replace(OFFERS[2], attributes={**OFFERS[2].attributes, "genre": "pop"}), OFFERS[3])
    fan, other = {**SOMEBODY, "likes": frozenset({"pop"})}, {**SOMEBODY, "likes": frozenset()}
    gains = []
    for crosses in (CROSSES, ()):
        encoding = Encoding(FEATURES, ("home",), moved, crosses)
        predictor = fit("lightgbm", encoding, liked, {"num_trees": 40, "min_data_in_leaf": 20, "num_threads": 1}, 0)
        yes, no = (predictor.raw(encoding.context(known, "home"), [2])[0] for known in (fan, other))
        gains.append(yes - no)
    assert gains[0] > 1.0
    assert abs(gains[1]) < 0.5


@pytest.mark.parametrize("way", ["", "numpy"])
def test_a_model_with_crosses_is_saved_and_scores_as_lightgbm_does(model, way, monkeypatch):
    monkeypatch.setenv("SEGUE_SCORER", way)
    again = load(save(model))
    assert again.encoding == ENCODING
    reference = replace(model, predictor=by_lightgbm(model.predictor, ENCODING))
    names = [offer.name for offer in OFFERS]
    for known in ({}, SOMEBODY, {"budget": 1e30}, {"likes": frozenset({"metal"}), "country": "BR"}):
        assert again.raw(known, "home", names) == reference.raw(known, "home", names)
        rows = np.array([ENCODING.context(known, "home")] * 3, np.float32)
        p, _ = score_matrix(again, rows, "home", names)
        assert p.tolist() == [again.score(known, "home", names).p_convert] * 3


def test_the_catalogue_counts_a_feature_where_it_is_crossed(model):
    place = ENCODING.columns.index("likes × attribute.genre")
    asked = [column for tree in parse(model.predictor.text).trees for column in tree.feature]
    own = sum(ENCODING.columns[column].startswith("likes has") for column in asked)
    assert reading(model, "likes").splits == own + asked.count(place) > own


def test_the_hash_changes_with_the_crosses():
    assert Encoding(FEATURES, ("home",), OFFERS, CROSSES[:1]).hash != ENCODING.hash
    assert Encoding(FEATURES, ("home",), OFFERS).hash != ENCODING.hash


def test_an_artifact_whose_crosses_name_nothing_is_refused(model):
    files = save(model)
    damaged = files["model.json"].replace(b'"likes",\n   "genre"', b'"hates",\n   "genre"')
    assert damaged != files["model.json"]
    with pytest.raises(ArtifactError, match="damaged"):
        load({**files, "model.json": damaged})


def test_learners_that_know_no_crosses_say_so(liked):
    for learner in sorted(set(LEARNERS) - {"lightgbm"}):
        with pytest.raises(UserError, match=rf"{learner} knows no crosses .* use lightgbm"):
            fit(learner, ENCODING, liked, {}, 0)


CATALOG = load_catalog(
    {
        "all.yaml": b"""
features:
  budget: {type: float}
  likes: {type: set, values: [jazz, pop]}
  joined: {type: time}
surfaces:
  home: {slots: 1, fallback: null, allow_nothing: true}
groups:
  live: {within: 7d}
offers:
  club: {owner: o, group: live, surfaces: [home], score: {model: m, value: 1}, attributes: {genre: jazz, price: 3}}
"""
    }
)


def test_crosses_of_what_does_not_go_together_are_refused_with_the_reason():
    for feature, attribute, reason in [
        ("hates", "genre", "no model sees such a feature"),
        ("joined", "price", "no model sees such a feature"),
        ("likes", "mood", "no offer has an attribute mood"),
        ("likes", "price", "likes is of the type set, so the attribute price has to be a text"),
        ("budget", "genre", "budget is of the type float, so the attribute genre has to be a number"),
    ]:
        with pytest.raises(UserError, match=reason):
            Encoding.of(CATALOG, ["home"], ["club"], [Cross(feature, attribute)])
    made = Encoding.of(CATALOG, ["home"], ["club"], [Cross("likes", "genre"), Cross("budget", "price")])
    assert made.crosses == (Cross("budget", "price"), Cross("likes", "genre"))

import json
import math
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.domain import NOTHING
from models.artifact import JSON, TEXT, ArtifactError, load, save, stamp
from models.by_c import NOT_BUILT, ByC
from models.by_numpy import ByNumpy
from models.learners import LEARNERS
from models.scorer import NUMPY, Way, fastest

NAMES = ["annual", "monthly", NOTHING, "vinyl", "brand_new"]
QUESTION = {"age": 41, "paying": True, "tier": "free", "likes": frozenset({"jazz"})}


@pytest.fixture(params=sorted(LEARNERS))
def model(models, request):
    return models[request.param]


def test_what_is_saved_scores_the_same_when_loaded(model):
    again = load(save(model))
    assert again.label == "upsell/3"
    for surface in ("home", "shelf", "elsewhere"):
        for features in ({}, QUESTION):
            assert again.score(features, surface, NAMES) == model.score(features, surface, NAMES)
            assert again.prior(surface, NAMES) == model.prior(surface, NAMES)
    assert save(again) == save(model)


@given(order=st.permutations(NAMES), size=st.integers(1, len(NAMES)))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("learner", ["logistic", "lightgbm", "t_learner", "dr_learner"])
def test_an_offers_score_does_not_depend_on_the_others_asked(models, learner, order, size):
    everything = models[learner].score(QUESTION, "home", NAMES)
    asked = order[:size]
    found = models[learner].score(QUESTION, "home", asked)
    assert found.p_convert == [everything.p_convert[NAMES.index(name)] for name in asked]
    assert found.effect == [everything.effect[NAMES.index(name)] for name in asked]


def test_scores_are_plain_probabilities(model):
    found = model.score(QUESTION, "home", NAMES)
    assert all(type(value) is float for value in (*found.p_convert, *found.effect))
    assert all(0.0 <= value <= 1.0 for value in found.p_convert)


def test_the_effect_is_the_uplift_over_nothing(model):
    found = model.score(QUESTION, "home", NAMES)
    nothing = found.p_convert[2]
    assert found.effect == [
        p - nothing if name != NOTHING else 0.0 for name, p in zip(NAMES, found.p_convert, strict=True)
    ]


def test_without_nothing_logged_the_effect_is_the_probability(models):
    plain = replace(models["lightgbm"], uplift=False, golden=())
    found = plain.score(QUESTION, "home", ["annual", NOTHING])
    assert found.effect == [found.p_convert[0], 0.0]


def test_shrinkage_moves_from_the_mean_to_the_learner(models):
    model = models["lightgbm"]
    at = {
        weight: replace(model, shrinkage=weight).score(QUESTION, "home", ["annual"]).p_convert[0]
        for weight in (0, 0.5, 1)
    }
    assert at[0] == model.prior("home", ["annual"]).p_convert[0] == 0.31
    raw = model.raw(QUESTION, "home", ["annual"])["annual"]
    assert at[1] == pytest.approx(1 / (1 + math.exp(-raw)))
    assert at[0.5] == pytest.approx((at[0] + at[1]) / 2)


def test_means_fall_back_from_the_surface_to_all_surfaces_to_the_group_to_everything(models):
    model = replace(models["lightgbm"], groups={"new_plan": "plans", "odd": "unheard_of"})
    rates = model.prior("shelf", ["annual", "new_plan", "odd", "stranger"]).p_convert
    assert model.prior("home", ["annual"]).p_convert == [0.31]
    assert rates == [0.3, 0.25, 0.24, 0.24]


def test_a_new_offer_starts_at_its_groups_rate_when_loaded_with_the_catalogs_groups(models):
    model = load(save(models["lightgbm"]), groups={"brand_new": "merch"})
    assert model.score(QUESTION, "home", ["brand_new"]).p_convert == [0.3]


def test_any_changed_byte_of_the_trees_is_refused(models):
    files = save(models["lightgbm"])
    for at in (10, len(files[TEXT]) // 2, len(files[TEXT]) - 5):
        damaged = files[TEXT][:at] + b"7" + files[TEXT][at + 1 :]
        with pytest.raises(ArtifactError, match="sha256"):
            load({**files, TEXT: damaged})
    with pytest.raises(ArtifactError, match="sha256"):
        load({JSON: files[JSON]})


def test_every_text_model_is_checked(models):
    """The T-learner has one for each offer, and the DR-learner one more for its baseline."""
    for learner, count in (("t_learner", 4), ("dr_learner", 4)):
        files = save(models[learner])
        texts = [name for name in files if name != JSON]
        assert len(texts) == count
        for name in texts:
            damaged = files[name].replace(b"leaf_value=", b"leaf_value=9", 1)
            with pytest.raises(ArtifactError, match=name):
                load({**files, name: damaged})
            with pytest.raises(ArtifactError, match=name):
                load({other: content for other, content in files.items() if other != name})


def test_a_model_of_the_first_format_still_loads(models):
    files = save(models["lightgbm"])
    obj = json.loads(files[JSON])
    first = {**obj, "format": 1, "model_sha256": obj.pop("files")[TEXT]}
    again = load({**files, JSON: json.dumps(first).encode()})
    assert again.score(QUESTION, "home", NAMES) == models["lightgbm"].score(QUESTION, "home", NAMES)


def test_a_model_that_scores_golden_rows_differently_is_refused(models):
    files = save(models["lightgbm"])
    for change in (
        lambda obj: obj.update(shrinkage=0.5),
        lambda obj: obj["golden"][1]["raw"].__setitem__(0, float(np.nextafter(obj["golden"][1]["raw"][0], 9))),
        lambda obj: obj["calibration"].update(slope=1.1),
    ):
        obj = json.loads(files[JSON])
        change(obj)
        with pytest.raises(ArtifactError, match="golden row"):
            load({**files, JSON: json.dumps(obj).encode()})


def test_the_way_it_is_scored_in_is_told(models, monkeypatch):
    monkeypatch.delenv("SEGUE_SCORER", raising=False)
    assert load(save(models["lightgbm"])).way == load(save(models["dr_learner"])).way == fastest()
    assert load(save(models["logistic"])).way is None
    monkeypatch.setenv("SEGUE_SCORER", "numpy")
    assert load(save(models["t_learner"])).way == Way(NUMPY, "SEGUE_SCORER=numpy")


@pytest.mark.skipif(bool(NOT_BUILT), reason=NOT_BUILT)
@pytest.mark.parametrize("learner", ["lightgbm", "t_learner", "dr_learner"])
def test_where_c_misses_a_golden_row_numpy_takes_over_and_where_both_do_the_model_is_refused(
    models, learner, monkeypatch
):
    monkeypatch.delenv("SEGUE_SCORER", raising=False)
    files, wanted = save(models[learner]), models[learner].score(QUESTION, "home", NAMES)
    monkeypatch.setattr("models.scorer.ByC", a_bit_off(ByC))
    model = load(files)
    assert model.way == Way(NUMPY, "by C it scores golden row 0 differently from LightGBM")
    assert model.score(QUESTION, "home", NAMES) == wanted
    monkeypatch.setattr("models.scorer.ByNumpy", a_bit_off(ByNumpy))
    with pytest.raises(ArtifactError, match="golden row 0 differently from when it was trained"):
        load(files)


def a_bit_off(engine):
    """The engine with scores that are too large, by more than `exp` and `log` may differ between machines."""

    class Off(engine):
        def __init__(self, parts):
            super().__init__(parts)
            right = self.scores
            self.scores = lambda context, asked: [s + 1e-11 for s in right(context, asked)]

    return Off


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_no_damage_to_the_json_gets_past_loading_as_another_error(models, data):
    files = save(models["logistic"])
    at = data.draw(st.integers(0, len(files[JSON]) - 2))
    damaged = files[JSON][:at] + data.draw(st.binary(max_size=3)) + files[JSON][at + 1 :]
    with suppress(ArtifactError):
        load({JSON: damaged}).score(QUESTION, "home", NAMES)


def test_missing_files_and_other_formats_are_refused(models):
    with pytest.raises(ArtifactError, match=r"model\.json"):
        load({})
    obj = json.loads(save(models["constant"])[JSON])
    with pytest.raises(ArtifactError, match="format"):
        load({JSON: json.dumps({**obj, "format": 99}).encode()})


def test_the_registrys_number_is_stamped_in(models):
    assert load(stamp(save(models["lightgbm"]), 12)).label == "upsell/12"


def test_loading_and_scoring_needs_numpy_alone():
    program = (
        "import sys, models.artifact; "
        "print([m for m in ('pandas', 'sklearn', 'lightgbm', 'scipy', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

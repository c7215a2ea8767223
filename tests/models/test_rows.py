"""The two ends of a score by C are those by Python, to the last bit."""

import math
import subprocess
import sys
from collections import ChainMap
from dataclasses import replace
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import NOTHING
from models import by_c
from models.artifact import load, save
from models.calibration import Platt
from models.encoding import Encoding
from models.scorer import NUMPY

pytestmark = pytest.mark.skipif(bool(by_c.NOT_BUILT), reason=by_c.NOT_BUILT)


class Word(StrEnum):
    POP = "pop"


class Weight(float):
    def __float__(self):
        return 7.0


VALUES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.integers(-(2**130), 2**130)
    | st.sampled_from(["pop", "jazz", "free", "basic", "", Word.POP, Weight(2.5), b"pop", (), [1.0], {"pop"}, 1j])
    | st.sampled_from([np.float64(1.5), np.float32(0.1), np.int64(3), np.bool_(True), np.nan, 3.4028235e38, 3.5e38])
    | st.frozensets(st.sampled_from(["pop", "jazz", "polka"]))
)
KNOWN = st.dictionaries(st.sampled_from(["age", "likes", "minutes", "paying", "tier", "shoe_size"]), VALUES)


@given(known=KNOWN, surface=st.sampled_from(["home", "shelf", "elsewhere", ""]))
@settings(max_examples=400, deadline=None)
def test_whatever_is_known_makes_the_same_row(encoding, known, surface):
    row = encoding.context(known, surface)
    for mapping in (known, ChainMap({}, known)):
        np.testing.assert_array_equal(np.frombuffer(by_c.packer(encoding)(mapping, surface)), row)


@given(
    kinds=st.lists(st.sampled_from([FeatureType.BOOL, FeatureType.INT, FeatureType.ENUM, FeatureType.SET]), max_size=6),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_defaults_stand_where_nothing_fits(kinds, data):
    specs = []
    for number, kind in enumerate(kinds):
        named = kind in (FeatureType.ENUM, FeatureType.SET)
        default = data.draw(st.sampled_from([None, True, 3, "b", frozenset({"a"}), 2**60]))
        specs.append(FeatureSpec(f"f{number}", kind, ("a", "b") if named else (), default))
    encoding = Encoding(tuple(specs), ("home",), ())
    known = {spec.name: data.draw(st.none() | st.sampled_from([True, 4, "a", "c", frozenset({"b"})])) for spec in specs}
    np.testing.assert_array_equal(np.frombuffer(by_c.packer(encoding)(known, "home")), encoding.context(known, "home"))


NUMBERS = st.floats() | st.floats(-40, 40)


@given(st.lists(st.tuples(NUMBERS, st.floats(0, 1)), max_size=40), st.floats(-3, 3), st.floats(-9, 9), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_probabilities_are_calibrated_and_shrunk_the_same(models, rows, slope, intercept, weight):
    platt = Platt(slope, intercept)
    raw, means = [raw for raw, _ in rows], [mean for _, mean in rows]
    plain = replace(models["logistic"], calibration=platt, shrinkage=weight, golden=())
    assert by_c.blend(raw, means, platt, weight) == plain._blend(raw, means)


@given(known=KNOWN, surface=st.sampled_from(["home", "elsewhere"]), data=st.data())
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("learner", ["lightgbm", "t_learner", "dr_learner"])
@pytest.mark.parametrize("uplift", [True, False])
def test_a_model_scores_the_same_by_c_and_by_numpy(models, learner, uplift, known, surface, data):
    native = replace(models[learner], uplift=uplift, golden=())
    plain = by_numpy(native)
    offers = data.draw(st.lists(st.sampled_from(["annual", "monthly", NOTHING, "vinyl", "new"]), unique=True))
    assert native.score(known, surface, offers) == plain.score(known, surface, offers)
    assert native.prior(surface, offers) == plain.prior(surface, offers)


@pytest.mark.parametrize("known", [{}, ChainMap(), 5])
def test_what_is_no_sequence_of_offers_is_refused(models, known):
    with pytest.raises(TypeError):
        models["lightgbm"]._ask(known, "home", 5)


def test_only_what_it_knows_is_made_ready_for_other_extensions(models):
    asker = models["lightgbm"]._asker
    assert asker.ready("home", ("annual", "new", "annual"), NOTHING)
    assert asker.ready("home", (), None)
    assert asker.ready("elsewhere", ("annual",), NOTHING) is None
    assert asker.ready("home", ("annual",), "new") is None
    for args in ((), ("home", ["annual"], None), ("home", ("annual",)), ([], (), None), ("home", ([],), None)):
        with pytest.raises(TypeError):
            asker.ready(*args)


@pytest.mark.parametrize("odd", [{"shrinkage": 0.0}, {"calibration": None}])
def test_a_model_out_of_the_ordinary_is_asked_by_python(models, odd):
    assert models["lightgbm"].ready("home", ("annual",)) is not None
    assert models["lightgbm"].ready("home", ("annual", NOTHING)) is None
    assert replace(models["lightgbm"], golden=(), **odd).ready("home", ("annual",)) is None


@pytest.mark.parametrize("gone", ["", "models._rows", "models._bits"])
def test_what_rests_on_others_finds_them_by_itself_or_says_that_they_are_not_there(gone):
    program = f"import sys; sys.modules.update({{name: None for name in [{gone!r}] if name}}); import models._score"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) is (not gone)
    assert f"ImportError: there is no {gone}" in done.stderr or not gone


def by_numpy(model):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEGUE_SCORER", NUMPY)
        made = load(save(model))
    assert made.way.name == NUMPY
    return made


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (("age", 0, 1, 1, (), abs), "columns are not of the row"),
        (("age", 0, -1, 1, (), abs), "columns are not of the row"),
        (("age", 0, 0, 2**62, (), abs), "columns are not of the row"),
        (("age", 0, 0, 0, (), abs), "a number has one column"),
        (("age", 9, 0, 1, (), abs), "no such kind"),
        (("tier", 2, 0, 1, {"a": 1}, abs), "values are not in its columns"),
        (("tier", 2, 0, 1, {"a": "x"}, abs), "values are not in its columns"),
        (("likes", 3, 0, 1, ("a", "b"), abs), "members are not in its columns"),
        (("age", 0), "six parts"),
        (None, "six parts"),
    ],
)
def test_fields_that_lead_out_of_the_row_are_refused(field, reason):
    packer = type(by_c.packer(Encoding((), (), ())))
    with pytest.raises(ValueError, match=reason):
        packer(fields=[field], missing=bytes(8), surfaces={})


def test_fields_that_become_more_meanwhile_are_those_that_were_told():
    class Zero:
        def __index__(self):
            fields.extend([("age", 0, 0, 1, (), abs)] * 100)
            return 0

    fields = [("age", 0, Zero(), 1, (), abs)]
    packer = type(by_c.packer(Encoding((), (), ())))(fields=fields, missing=bytes(8), surfaces={})
    assert len(fields) == 101
    assert packer({"age": 1.0}, "home") == np.float64(1.0).tobytes()


def test_an_encoder_that_gives_something_else_is_refused():
    packer = type(by_c.packer(Encoding((), (), ())))
    for odd in (lambda value: (1.0, 2.0), lambda value: 3.0, lambda value: ("a",), lambda value: 1 / 0):
        made = packer(fields=[("age", 0, 0, 1, (), odd)], missing=bytes(8), surfaces={})
        with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
            made({"age": "old"}, "home")
    with pytest.raises(ValueError, match="a surface"):
        packer(fields=[], missing=bytes(8), surfaces={"home": 1})
    with pytest.raises(TypeError):
        made(None, "home")


def test_a_row_without_columns_is_empty():
    assert by_c.packer(Encoding((), (), ()))({"age": 3}, "home") == b""
    assert math.isnan(np.frombuffer(by_c.packer(Encoding((FeatureSpec("x", FeatureType.INT),), (), ()))({}, ""))[0])

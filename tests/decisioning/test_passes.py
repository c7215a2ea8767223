"""What a ranking does to all offers, what is known of a user, and their buckets: by C as by Python, to the last bit."""

import importlib.util
import math
from collections import ChainMap
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning import experiments, knowledge, passes
from decisioning.catalog import Catalog
from decisioning.native import missing, native

REASON = missing("decisioning._rank", passes.VERSION) or missing("decisioning._user", knowledge.VERSION)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def by_python(name):
    """A module as it is where no extension is built."""
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("decisioning.native.native", lambda *_: None)
        spec.loader.exec_module(module)
    return module


TWIN = by_python("decisioning.passes")
RANK, USER = native("decisioning._rank", passes.VERSION), native("decisioning._user", knowledge.VERSION)
BITS = st.integers(0, 2**70) | st.integers(0, 2**9) | st.sampled_from([2**63, 2**63 - 1, 2**64, 2**200 + 1])
NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 1.5, 1.5, math.inf, -math.inf])
ODD = NUMBERS | st.integers(-3, 3) | st.booleans() | st.just(Fraction(1, 3))


def told(call, *args):
    """What a call gives, to the last bit, or the type of what it raises."""
    try:
        return repr(call(*args))
    except (ArithmeticError, TypeError, ValueError) as error:
        return type(error)


@given(BITS, st.integers(0, 80))
@settings(max_examples=300, deadline=None)
def test_the_offers_of_a_bit_set_are_the_same(left, offers):
    names = tuple(f"offer_{n}" for n in range(offers))
    assert RANK.pick(left, names) == TWIN.pick(left, names)


@given(
    st.lists(ODD, max_size=12), st.lists(ODD, max_size=12).map(tuple), st.lists(st.sampled_from([0, 1]), max_size=14)
)
@settings(max_examples=300, deadline=None)
def test_scores_are_the_same(effect, worth, flags):
    for sequence in (effect, tuple(effect)):
        assert told(RANK.weigh, sequence, worth, bytes(flags)) == told(TWIN.weigh, sequence, worth, bytes(flags))


@given(st.lists(NUMBERS, max_size=6) | st.lists(ODD, max_size=6) | st.lists(st.sampled_from([1.0, 2.0]), max_size=5))
@settings(max_examples=400, deadline=None)
def test_the_one_best_is_the_same(scores):
    for sequence in (scores, tuple(scores)):
        assert RANK.best(sequence) == TWIN.best(sequence)


@pytest.mark.parametrize("args", [(), (1,), (-1, ()), (-(2**70), ()), (True, ()), ("1", ()), (1, [])])
def test_what_is_no_bit_set_is_refused(args):
    with pytest.raises((TypeError, ValueError)):
        RANK.pick(*args)


NAMES = st.sampled_from(["tier", "sessions", "device", "locale", "zone"])
KNOWN = st.dictionaries(NAMES, st.none() | st.integers(0, 3) | st.text(max_size=2), max_size=5)
DEFAULTS = st.dictionaries(NAMES, st.integers(0, 3), max_size=3)


@given(DEFAULTS, st.lists(KNOWN, max_size=4), KNOWN, st.frozensets(NAMES))
@settings(max_examples=300, deadline=None)
def test_what_is_known_is_the_same_or_left_to_python(defaults, users, context, allowed):
    merger = USER.Merger(defaults, allowed)
    for features in (*users, *users[-1:] * 70, *users):  # other features than before, and the same
        before = dict(defaults), dict(features), dict(context)
        found = merger.merge(features, context)
        usual = None not in [*features.values(), *context.values()] and context.keys() <= allowed
        assert found is not None or not usual
        assert found in (None, knowledge.merged(defaults, features, context, allowed))
        assert (defaults, features, context) == before
        assert merger.merge(ChainMap(features), context) is None


@given(st.text(max_size=40), st.text() | st.text(min_size=200, max_size=300), st.integers(1, 2**62))
@settings(max_examples=400, deadline=None)
def test_users_fall_into_the_same_buckets(salt, user, buckets):
    assert told(USER.bucket, salt, user, buckets) == told(experiments.bucket, salt, user, buckets)


def test_lone_surrogates_are_refused_alike():
    assert told(USER.bucket, "salt", "\ud800", 10) == told(experiments.bucket, "salt", "\ud800", 10)
    for args in (("salt", "user", 0), ("salt", "user", -5), ("salt", "user", 2**70), ("salt", b"user", 1), ("salt",)):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            USER.bucket(*args)


@pytest.mark.parametrize("audiences", [0, 2, -2])
def test_who_is_in_no_audience_may_have_any_name(audiences):
    assert USER.Seats((GOOD,), 10, 0).arms("\ud800", audiences) == {}
    assert experiments.Assignment(Catalog("h")).arms("\ud800", audiences) == {}


SEATS = st.tuples(
    st.sampled_from(["price", "calmer", "price"]),
    st.sampled_from(["layer:a", "layer:b", "layer:ü"]),
    st.integers(0, 10),
    st.integers(0, 10),
    st.text(max_size=3),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["on", "off"])), max_size=3).map(tuple),
)


@given(
    st.lists(SEATS, max_size=8),
    st.integers(0, 3),
    st.text(max_size=40),
    st.integers(-(2**9), 2**9) | st.integers(0, 2**90),
)
@settings(max_examples=400, deadline=None)
def test_users_are_in_the_same_arms(told_seats, everyone, user, audiences):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(experiments, "BUCKETS", 10)
        patched.setattr(experiments, "bucket_of", experiments.bucket)
        assignment = experiments.Assignment(Catalog("h"))
        assignment.by_c, assignment._seats = None, tuple(experiments._Seats(*seat) for seat in told_seats)
        assignment._everyone = min(everyone, len(told_seats))
        arms = USER.Seats(tuple(told_seats), 10, assignment._everyone).arms(user, audiences)
        assert list(arms.items()) == list(assignment.arms(user, audiences).items())


GOOD = ("name", "layer:a", 0, 5, "salt", ((5, "on"),))


@pytest.mark.parametrize(
    ("seats", "buckets", "everyone"),
    [
        ((GOOD,), 0, 0),
        ((GOOD,), 10, 2),
        ((GOOD,), 10, -1),
        ((GOOD,) * 64, 10, 64),
        ((GOOD,) * 65, 10, 0),
        (((),), 10, 0),
        ((GOOD[:5],), 10, 0),
        (((*GOOD[:5], []),), 10, 0),
        (((*GOOD[:5], ((5,),)),), 10, 0),
        (((*GOOD[:5], (("5", "on"),)),), 10, 0),
        (((*GOOD[:5], ((2**70, "on"),)),), 10, 0),
        ((("name", b"layer", *GOOD[2:]),), 10, 0),
        ([GOOD], 10, 0),
    ],
)
def test_seats_that_are_none_are_refused(seats, buckets, everyone):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        USER.Seats(seats, buckets, everyone)
    with pytest.raises((TypeError, UnicodeEncodeError)):
        USER.Seats((GOOD,), 10, 0).arms("\ud800" if buckets else 3, 1)

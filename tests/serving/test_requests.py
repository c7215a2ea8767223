"""Requests for decisions, from what is sent: by the extension as by its twin."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Surface
from decisioning.domain import Request
from features.context import MAX_INT, ContextReader
from serving.deciding import requests
from serving.deciding.ids import RandomIds
from serving.deciding.requests import made, requested
from serving.errors import ApiError
from serving.schemas import DecisionRequest

SPECS = [
    FeatureSpec("device", FeatureType.ENUM, values=("phone", "tv"), from_context=True),
    FeatureSpec("genres", FeatureType.SET, values=("jazz", "folk"), from_context=True),
    FeatureSpec("is_roaming", FeatureType.BOOL, from_context=True),
    FeatureSpec("queue", FeatureType.INT, from_context=True),
    FeatureSpec("battery", FeatureType.FLOAT, from_context=True),
    FeatureSpec("started", FeatureType.TIME, from_context=True),
    FeatureSpec("locale", FeatureType.TEXT, from_context=True),
    FeatureSpec("sessions", FeatureType.INT),
]
READER = ContextReader(Catalog("c", features={one.name: one for one in SPECS}))
SECRET = b"sixteen bytes or"

NUMBERS = st.sampled_from([0, 7, MAX_INT, -MAX_INT, MAX_INT + 1, 2**70, 0.5, -0.0, float("inf")]) | st.integers()
WORDS = st.sampled_from(["phone", "tv", "jazz", "fridge", "", "é", "x" * 256, "x" * 257, "2026-01-01T00:00:00Z"])
VALUES = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | WORDS | st.lists(WORDS, max_size=2)
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["phone", "tv", "fridge"]) | st.none(),
        "is_roaming": st.booleans(),
        "queue": st.integers(-9, 9),
        "battery": st.integers(-9, 9) | st.floats(0, 1),
        "locale": st.text(max_size=9),
        "sessions": st.integers(0, 9),
        "hat": st.none() | st.booleans(),
    },
)
CONTEXTS = PLAIN | st.dictionaries(st.sampled_from([one.name for one in SPECS] + ["hat", "é"]), VALUES, max_size=6)
SURFACES = st.builds(Surface, st.sampled_from(["banner", "bännër"]), sticky=st.sampled_from([0.0, 0, 86_400.0]))
SENT = st.builds(
    DecisionRequest,
    st.text(min_size=1, max_size=300) | st.sampled_from(["u" * 128, "u" * 129, "\udc80"]),
    st.just("banner"),
    CONTEXTS,
    st.none() | st.integers(1, 3),
    exclude=st.lists(st.sampled_from("abé"), max_size=3).map(tuple),
)


def outcome(make: Callable, surface: Surface, sent: DecisionRequest, secret: bytes) -> object:
    ids = iter(["1" * 32])
    try:
        request, ignored = make(secret, READER, surface, sent, 1.8e9, lambda: next(ids))
    except ApiError as error:
        return error.status, error.body()
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    typed = [(name, type(value), repr(value)) for name, value in request.context.items()]
    return request, typed, type(request.exclude), ignored


@given(SURFACES, SENT, st.sampled_from([SECRET, b"", b"k" * 64, b"k" * 65]))
def test_the_extension_makes_the_request_that_its_twin_makes(surface, sent, secret):
    before = dict(sent.context)
    assert outcome(requested, surface, sent, secret) == outcome(made, surface, sent, secret)
    assert sent.context == before, "what was sent stays as it is"
    assert list(sent.context) == list(before)


def test_a_plain_request_has_all_that_was_sent_and_an_id_of_its_surface():
    sent = DecisionRequest("u1", "banner", {"device": "tv", "battery": 1, "hat": 3}, 2, exclude=("annual",))
    request, ignored = requested(SECRET, READER, Surface("banner"), sent, 5.0, RandomIds())
    assert isinstance(request, Request)
    assert (request.surface, request.now, request.slots, request.exclude) == ("banner", 5.0, 2, {"annual"})
    assert request.context == {"device": "tv", "battery": 1.0}
    assert type(request.context["battery"]) is float
    assert ignored == ("context:unknown_names:1",)
    digits, _, name = request.decision_id.partition(".")
    assert (len(digits), name) == (32, "banner")


def test_every_request_gets_an_id_of_its_own_also_where_new_ones_have_to_be_drawn():
    fresh, sent = RandomIds(), DecisionRequest("u1", "banner")
    found = [requested(SECRET, READER, Surface("banner"), sent, 5.0, fresh)[0].decision_id for _ in range(400)]
    assert len({*found}) == 400


def test_a_source_of_ids_that_fails_is_told_of():
    sent = DecisionRequest("u1", "banner")

    def broken() -> str:
        raise OSError("no randomness")

    with pytest.raises(OSError, match="no randomness"):
        requested(SECRET, READER, Surface("banner"), sent, 5.0, broken)


def test_a_user_has_the_same_hash_where_bytes_are_in_another_order(monkeypatch):
    monkeypatch.setattr("sys.byteorder", "big")
    assert requests._by_c() is None, "its hash is made of words in the order of this machine"

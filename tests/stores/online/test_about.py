"""What C asks about a user, and the facts that it makes of the answers, are those of Python, to the last bit."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Event, Facts
from decisioning.native import missing, native
from features.schema import Schema
from stores.online import about as module
from stores.online.about import VERSION, about
from stores.online.fresh import pack_fresh
from stores.online.layout import Keys, pack_event
from stores.online.layout import Version as OfFeatures
from stores.online.questions import Questions
from stores.online.reading import Shared

NATIVE = "stores.online._about"
pytestmark = pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))

PLAIN = (
    FeatureSpec("age", FeatureType.INT),
    FeatureSpec("seen", FeatureType.TIME),
    FeatureSpec("tastes", FeatureType.SET, values=("jazz", "pop")),
)
COUNTING = (*PLAIN, FeatureSpec("clicks", FeatureType.INT, counts="click"))
SCHEMAS = (Schema(PLAIN), Schema(COUNTING), Schema(()))
SHARED = Shared(frozenset({"old"}), {"push": 3}, frozenset({"budgets"}), ("budgets:unread",))

KEYS = st.binary(min_size=16, max_size=16).map(bytes.hex)
USERS = (
    KEYS
    | KEYS.map(str.upper)
    | KEYS.map(lambda key: key[:-1] + "g")
    | KEYS.map(lambda key: key[:30] + " \t")
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
BUCKETS = st.sampled_from([1, 2, 9, 10, 11, 99, 3125, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40]) | st.integers(
    1, 10**6
)
NAMES = st.sampled_from(["segue", "100%", "%d%b", "", "ü"])

EVENTS = st.builds(
    Event,
    st.just("e"),
    st.sampled_from(["click", "impression", "å"]),
    st.just("d"),
    st.sampled_from(["annual", "duo"]),
    st.just("u"),
    st.just("home"),
    st.floats(0.0, 100.0),
    st.none(),
).map(pack_event)
ODD = st.sampled_from(
    [None, ResponseError("WRONGTYPE"), ResponseError("LOADING"), TimeoutError("late"), OSError(), b"?", 7]
)
HISTORIES = st.lists(EVENTS, max_size=5) | st.lists(EVENTS | st.binary(max_size=3), max_size=2) | ODD
FRESH = st.just([]) | st.just([b"age", pack_fresh(31, 60.0), b"?", b"?"]) | ODD | st.just([b"age"])


def version(buckets: int = 32, as_of: float = 50.0) -> OfFeatures:
    return OfFeatures("v7", buckets, as_of, "schema", 1000)


def shape(value):
    """A value with the types of all that it holds, and mappings in their order."""
    if isinstance(value, dict):
        return dict, [(name, shape(one)) for name, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [shape(one) for one in value]
    return type(value), repr(value)


def told(way, *question):
    """What it gives, or what it raises."""
    try:
        found = way(*question)
    except Exception as error:  # noqa: BLE001  whatever it is, both raise it
        return type(error), str(error)
    return [shape(getattr(found, name)) for name in Facts.__slots__] if isinstance(found, Facts) else found


def caught(monkeypatch, schema=SCHEMAS[0], of=None, namespace="segue"):
    """What the extension is told."""
    words = {}

    def catch(**told):
        words.update(told)
        return SimpleNamespace(question=None, facts=None)

    with monkeypatch.context() as patched:
        patched.setattr(module, "native", lambda *_: SimpleNamespace(About=catch))
        about(Questions(Keys(namespace)), of or version(), schema)
    return words


@pytest.fixture(scope="module")
def told_of():
    """By schema, buckets and namespace, what C and what Python say."""

    def ways(schema=SCHEMAS[0], of=None, namespace="segue"):
        with pytest.MonkeyPatch.context() as monkeypatch:
            words = caught(monkeypatch, schema, of, namespace)
        return native(NATIVE, VERSION).About(**words), words["question"], words["found"]

    return ways


@given(USERS, BUCKETS, NAMES)
@settings(max_examples=400, deadline=None)
def test_the_same_is_asked(told_of, user, buckets, namespace):
    by_c, question, _ = told_of(of=version(buckets), namespace=namespace)
    assert told(by_c.question, user) == told(question, user)


@given(st.data(), st.sampled_from(SCHEMAS), HISTORIES, FRESH, st.sampled_from([50.0, 0.0]))
@settings(max_examples=600, deadline=None)
def test_the_same_is_found(told_of, data, schema, history, fresh, as_of):
    by_c, _, found = told_of(schema, version(as_of=as_of))
    size = 4 * schema.width
    vectors = st.binary(min_size=size, max_size=size) | st.binary(max_size=size + 2)
    packed = data.draw(vectors.map(schema.tag.__add__) | st.binary(max_size=9) | ODD)
    more = data.draw(st.sampled_from([(), (1,)]) if packed is None else st.just(()))
    answers = [history, fresh, packed, *more]
    assert told(by_c.facts, answers, SHARED) == told(found, answers, SHARED)


def test_all_that_is_usual_is_answered_without_asking_python(monkeypatch):
    for schema in SCHEMAS:
        words = caught(monkeypatch, schema) | {"question": None, "found": None}
        by_c = native(NATIVE, VERSION).About(**words)
        assert b"0123456789abcdef0123456789abcdef" in by_c.question("0123456789abcdef" * 2)
        event = pack_event(Event("e", "click", "d", "annual", "u", "home", 60.0))
        packed = schema.tag + bytes(4 * schema.width)
        for history in ([], [event]):
            found = by_c.facts([history, [], packed], SHARED)
            assert type(found) is Facts
            assert len(found.history) == len(history)
            assert found.features.get("clicks", 0) == (len(history) if schema.counting else 0)


def test_the_facts_of_one_user_are_nobody_elses(told_of):
    by_c, *_ = told_of(SCHEMAS[1])
    answers = [[], [], SCHEMAS[1].tag + bytes(16)]
    one, other = by_c.facts(answers, SHARED), by_c.facts(answers, SHARED)
    assert one == other
    assert one.features is not other.features
    assert one.fresh is not other.fresh


@pytest.mark.parametrize("shared", [None, (), Facts()])
def test_what_is_not_as_usual_is_pythons_to_answer(told_of, shared):
    by_c, _, found = told_of()
    answers = [[], [], SCHEMAS[0].tag + bytes(12)]
    assert told(by_c.facts, answers, shared) == told(found, answers, shared)
    for args in ((), (answers,), (answers, SHARED, 1), ([], SHARED), (tuple(answers), SHARED)):
        assert told(by_c.facts, *args) == told(found, *args)
    half = Shared(frozenset(), {}, frozenset(), ())
    del half.budgets
    with pytest.raises(AttributeError):
        by_c.facts(answers, half)
    with pytest.raises((AttributeError, TypeError)):
        by_c.question(b"user")


WRONG = {
    "facts": [Shared, None],
    "shared": [Facts, 5],
    "digits": [31, None],
    "pieces": [(), (b"", b"", (), b""), (b"", b"", ("",), b"", b""), (b"", b"", (), "", b""), None],
    "buckets": [0, 2**32 + 1, None],
    "tag": ["tag", None],
    "width": [-1, 2**62, None],
    "start": ["4"],
    "counting": [[], None],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_none_is_refused(monkeypatch, name):
    make, words = native(NATIVE, VERSION).About, caught(monkeypatch)
    for wrong in WRONG[name]:
        with pytest.raises((TypeError, ValueError)):
            make(**{**words, name: wrong})
    with pytest.raises(TypeError):
        make(**{one: told for one, told in words.items() if one != name})


def test_whatever_goes_wrong_on_the_way_python_is_asked(monkeypatch):
    answers = [[b"x"], [], SCHEMAS[1].tag + bytes(16)]
    for name in ("unpack", "unpack_history", "freshen"):
        for wrong in (lambda *_: 1 / 0, lambda *_: (), lambda *_: None) if name == "freshen" else [lambda *_: 1 / 0]:
            past = {"unpack_history": lambda _: (1,)} if name == "freshen" else {}
            words = caught(monkeypatch, SCHEMAS[1]) | past | {name: wrong, "found": lambda *args: args}
            assert native(NATIVE, VERSION).About(**words).facts(answers, SHARED) == (answers, SHARED)


def test_what_a_call_changes_underneath_is_held(monkeypatch):
    schema, shared = SCHEMAS[0], Shared(frozenset({"a"}), {"b": 1}, frozenset(), ())
    answers = [[b"x" * 50], [], schema.tag + bytes(12)]

    def emptied(packed):
        answers.clear()
        for name in Shared.__slots__:
            setattr(shared, name, None)
        return (len(packed[0]),)

    words = caught(monkeypatch, schema) | {"unpack_history": emptied}
    assert native(NATIVE, VERSION).About(**words).facts(answers, shared).history == (50,)

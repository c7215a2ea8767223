"""What is known and what the rules leave, by C and by Python: the same cases, whatever the catalog and the facts."""

from collections import ChainMap
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_catalogs import NOW, documents, files_of, loaded, release_of, visits

from decisioning import by_examiner
from decisioning.by_examiner import VERSION
from decisioning.catalog import Arm, Catalog, Experiment, FeatureSpec, FeatureType, Holdout, Offer, Surface
from decisioning.conditions import Op, Test
from decisioning.domain import Facts, HistoryEvent, Request
from decisioning.engine import Release, examine, examined
from decisioning.native import missing, native
from decisioning.rules import Budget, Cap, CapBy, ContextWeight, Guard, Invariant, Scope

NATIVE = "decisioning._examine"
pytestmark = pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))


def shape(value):
    """A value with the types of all that it holds, and mappings in their order."""
    if isinstance(value, dict):
        return dict, [(name, shape(one)) for name, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [shape(one) for one in value]
    return type(value), repr(value)


def told(way, *question):
    """All that a case says, or what was raised."""
    try:
        case = way(*question)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return type(error), str(error)
    screen = case.screen
    parts = [screen.left, screen.word, screen.drops, screen.weights, screen.audiences]
    same = case.release is question[0], case.plan is question[0].plans[case.request.surface]
    return (
        same,
        case.request is question[1],
        case.facts is question[2],
        shape([case.values, parts, case.arms, case.holdout]),
    )


def agree(release, request, facts):
    assert told(examine, release, request, facts) == told(examined, release, request, facts)


@given(documents(), visits)
@settings(max_examples=200, deadline=None)
def test_the_same_case_by_c_and_by_python(document, some_visits):
    catalog = loaded(files_of(document))
    for request, facts in some_visits if catalog is not None else []:
        release = release_of(catalog)
        for _ in range(2):  # by what was remembered, too
            agree(release, request, facts)
            agree(release, request, replace(facts, fresh={"sessions": NOW - 40 * 3600.0, "minutes": NOW}))


class Odd(str):
    pass


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**70), st.floats(), st.just("x"), st.just(Odd("history")), st.just(()),
    st.just(frozenset({"annual", "nobody"})), st.just({"annual"}), st.just(["annual"]), st.just({"hard": 2.5}),
    st.just(ChainMap({"hard": 9})), st.just({"hard": None, "paced": 2**80}), st.just({"sessions": NOW - 1.0}),
    st.just({"tier": float("nan"), "sessions": 2**60}), st.just({1: 2}),
    st.just((HistoryEvent("click", "duo", "home", 5),)),
)  # fmt: skip
READ = [(Request, "user"), (Request, "now"), (Request, "context"), (Request, "exclude")] + [
    (Facts, name) for name in ("features", "as_of", "history", "budgets", "killed", "unread", "fresh")
]


@given(documents(quiet_hours={}), visits, st.lists(st.tuples(st.sampled_from(READ), ODD), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_what_is_of_other_types_is_answered_or_refused_alike(document, some_visits, changes):
    catalog = loaded(files_of(document))
    if catalog is None:
        return
    release = release_of(catalog)
    for request, facts in some_visits:
        for (kind, name), value in changes:
            one = replace(request, **{name: value}) if kind is Request else request
            other = replace(facts, **{name: value}) if kind is Facts else facts
            agree(release, one, other)


def large(random, offers, rules, experiments):
    """A catalog whose sets of bits take several words, with a fallback from another surface."""
    names = [f"offer_{n:03d}" for n in range(offers)]
    elsewhere = Offer("last", "pm", "group_9", ("push",))

    def some(share=0.5):
        return Scope(only_offers=frozenset(name for name in names if random.random() < share) | {"last"})

    def asks():
        return Test("sessions", random.choice([Op.MIN, Op.BELOW]), random.randrange(9))

    def moment():
        return random.choice([None, NOW + random.randrange(-9, 9)])

    def offer(name, n):
        live = {"live_from": moment(), "live_until": moment()} if n % 7 == 0 else {}
        return Offer(name, "pm", f"group_{n % 3}", ("home",), eligible=random.choice([None, asks()]), **live)

    def budget(n):
        numbers = {"impressions": random.randrange(12), "starts": moment(), "until": moment()}
        return Budget(f"budget_{n}", some().only_offers, **numbers, even=n % 2 == 0, hard=n % 3 == 0)

    return Catalog(
        "h",
        features={"sessions": FeatureSpec("sessions", FeatureType.INT, default=0)},
        surfaces={"home": Surface("home", fallback="last"), "push": Surface("push")},
        offers={name: offer(name, n) for n, name in enumerate(names)} | {"last": elsewhere},
        guards=tuple(Guard(f"guard_{n}", some(), asks()) for n in range(rules)),
        invariants=tuple(Invariant(f"never_{n}", asks(), some(0.1)) for n in range(rules // 9)),
        context_weights=tuple(ContextWeight(f"weight_{n}", some(), asks(), 1.1, "pm", "") for n in range(rules)),
        caps=tuple(Cap(f"cap_{n}", n, 60.0, CapBy.GROUP, scope=some()) for n in range(3)),
        experiments=tuple(
            Experiment(f"e{n}", f"l{n % 9}", (Arm("on", 50.0), Arm("off", 50.0)), asks(), 20.0, 60.0)
            for n in range(experiments)
        ),
        holdouts=tuple(Holdout(f"held_{n}", 10.0, f"s{n}", frozenset({"home"} if n else {"push"})) for n in range(3)),
        budgets=tuple(map(budget, range(6))),
    )


@pytest.mark.parametrize("offers", [0, 1, 63, 64, 65, 130])
@pytest.mark.parametrize(("rules", "experiments"), [(0, 0), (9, 64), (61, 65), (64, 1), (140, 70)])
def test_sets_of_any_size(offers, rules, experiments):
    random = Random(offers)
    catalog = large(random, offers, rules, experiments)
    release, names = Release("r", catalog), [*catalog.offers, "nobody"]
    for n in range(40):
        history = [
            HistoryEvent("impression", random.choice(names), "home", NOW - random.randrange(90)) for _ in range(n % 5)
        ]
        request = Request(f"d{n}", f"u{n}", "home", NOW + n % 21 - 10, exclude=frozenset(random.sample(names, n % 2)))
        facts = Facts(
            {"sessions": random.choice([None, *range(9)])},
            random.choice([None, NOW]),
            tuple(history),
            {f"budget_{n}": random.randrange(12) for n in range(6) if random.random() < 0.9},
            killed=frozenset(random.sample(names, n % 3 // 2)),
            unread=frozenset({"history"} if n % 10 == 0 else ()),
        )
        agree(release, request, facts)


TOLD = {
    "budgets": [(("b",),), ((1, (), 0.0, 0.0, 0.0, True, True),), [], (("b", (), 0.0, 0.0, 0.0, True, True),) * 300],
    "counts": [(), (1, 0, 0, 0, 9), (-1, 9, 0, 0, 9), (1, 2, 3, 4, 9), (1, 1, 1, 1, 2**62), (1, 2**62, 2**62, 0, 9)],
    "rule_drops": [((),), (1,), []],
    "live_drops": [(), (None, None), ((1,),)],
    "live_starts": [b"x" * 8, None],
    "holdouts": [((),), (None,), 5],
    "wanted": [2**70, -1, None],
    "killed": [(), None],
    "case": [Request, None, Holdout],
    "freshest": [None, "x"],
    "twin": [],
}


@pytest.mark.parametrize("name", TOLD)
def test_what_makes_no_examiner_is_refused(name, monkeypatch):
    class Caught(Exception):
        pass

    def catch(**words):
        raise Caught(words)

    release = Release("r", large(Random(1), 3, 0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(by_examiner, "native", lambda *_: SimpleNamespace(Examiner=catch))
        with pytest.raises(Caught) as caught:
            _ = release.examiners
    words = caught.value.args[0]
    make = native(NATIVE, VERSION).Examiner
    make(**words)
    for wrong in TOLD[name]:
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            make(**{**words, name: wrong})
    with pytest.raises(TypeError):
        make(**{one: told for one, told in words.items() if one != name})
    for args in ((), (1, 2), (1, 2, 3, 4)):
        with pytest.raises(TypeError):
            make(**words).examine(*args)


def test_words_in_another_order_of_bytes_are_left_to_python(monkeypatch):
    monkeypatch.setattr("sys.byteorder", "big")
    release = Release("r", Catalog("c", surfaces={"s": Surface("s")}))
    assert release.examiners["s"] is examined

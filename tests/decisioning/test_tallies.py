"""What a user's past drops, by C and by Python: the same drops in the same order, whatever the rules and the events."""

from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning import tallies as counting
from decisioning.catalog import Catalog, Offer, Surface
from decisioning.domain import HistoryEvent
from decisioning.native import missing, native
from decisioning.reach import Reach, Tally
from decisioning.rules import Cap, CapBy, Exclusive, Same, Scope, Suppression
from decisioning.tallies import VERSION, Tallies

NATIVE = "decisioning._tallies"
pytestmark = pytest.mark.skipif(bool(missing(NATIVE, VERSION)), reason=missing(NATIVE, VERSION))

NOW = 1_800_000_000.0
NAMES = [f"offer_{n}" for n in range(70)]
OFFERS = {name: Offer(name, "pm", f"group_{n % 3}", ("home",)) for n, name in enumerate(NAMES)}


class Kind(StrEnum):
    CLICK = "click"


SECONDS = st.sampled_from([1.0, 60.0, 3600.0, 86_400.0, 7 * 86_400.0])
FEW = st.sampled_from(NAMES[:6] + NAMES[-2:])
SCOPES = st.sampled_from(
    [Scope(), Scope(only_groups=frozenset({"group_1"})), Scope(except_offers=frozenset(NAMES[:4]))]
)
KINDS = st.sampled_from(["impression", "click", "dismiss", "decision"])
RULES = st.fixed_dictionaries(
    {
        "suppressions": st.lists(
            st.builds(
                Suppression,
                name=st.just("quiet"),
                after=KINDS,
                same=st.sampled_from(Same),
                lasts=SECONDS,
                count=st.integers(1, 3),
                within=st.none() | SECONDS,
                scope=SCOPES,
            ),
            max_size=4,
        ).map(tuple),
        "exclusives": st.lists(
            st.builds(Exclusive, st.just("either"), st.frozensets(FEW, min_size=2), SECONDS), max_size=3
        ).map(tuple),
        "caps": st.lists(
            st.builds(
                Cap,
                name=st.just("cap"),
                max=st.integers(0, 4),
                per=SECONDS,
                by=st.sampled_from(CapBy),
                counts=KINDS,
                scope=SCOPES,
            ),
            max_size=5,
        ).map(tuple),
    }
)
AGES = SECONDS.flatmap(lambda least: st.sampled_from([least, least - 1e-6, least + 1e-6, 2 * least, -least, 0.0]))
TEXTS = KINDS | st.just("spend")
EVENTS = st.builds(
    lambda kind, offer, surface, age: HistoryEvent(kind, offer, surface, NOW - age),
    TEXTS,
    FEW | st.just("gone"),
    st.sampled_from(["home", "push"]),
    AGES,
)
UNUSUAL = st.builds(
    HistoryEvent,
    st.just(Kind.CLICK) | TEXTS,
    FEW,
    st.just("home"),
    st.sampled_from([NOW, int(NOW), float("nan"), float("inf"), -float("inf"), True]),
)


def both(rules, limit=counting.MEMO_LIMIT):
    catalog = Catalog("h", offers=OFFERS, surfaces={"home": Surface("home"), "push": Surface("push")}, **rules)
    one, other = (Reach(catalog, "home", catalog.offers_on("home")) for _ in range(2))
    return Tallies(one), native(NATIVE, VERSION).Tallies(Tallies(other), HistoryEvent, limit), one


@given(
    RULES, st.lists(st.lists(EVENTS, max_size=40) | st.lists(EVENTS | UNUSUAL, max_size=8), max_size=4), st.booleans()
)
@settings(max_examples=400, deadline=None)
def test_the_same_drops_and_the_same_counts(rules, histories, unread):
    twin, by_c, reach = both(rules)
    shut = tuple(rule.covers if rule.need == 0 or unread else None for rule in reach.rules)
    for history in histories:
        for events in (tuple(history), tuple(history[::-1]), history):
            for now in (NOW, int(NOW)):
                drops = twin.drops(events, now, shut)
                assert by_c.drops(events, now, shut) == drops
                assert [list(map(type, one)) for one in by_c.drops(events, now, shut)] == [
                    list(map(type, one)) for one in drops
                ]
                assert by_c.added(events, now) == twin.added(events, now)


@given(RULES, st.lists(EVENTS, max_size=40))
@settings(max_examples=50, deadline=None)
def test_more_kinds_than_are_remembered_are_counted_too(rules, history):
    twin, by_c, reach = both(rules, limit=2)
    shut = (None,) * len(reach.rules)
    for _ in range(2):
        assert by_c.drops(tuple(history), NOW, shut) == twin.drops(tuple(history), NOW, shut)


def test_many_kinds_find_their_own_bearings_again():
    rules = {"caps": (Cap("cap", 2, 86_400.0, CapBy.OFFER), Cap("most", 3, 86_400.0, CapBy.GROUP))}
    twin, by_c, _ = both(rules)
    for n in range(400):
        kind = f"impression-{n}" if n % 3 else "impression"
        history = tuple(HistoryEvent(kind, NAMES[k % 70], f"s{n % 7}", NOW - k) for k in range(n % 11))
        assert by_c.drops(history, NOW, (None, None)) == twin.drops(history, NOW, (None, None))


def test_what_fails_in_a_look_up_is_told_and_spoils_nothing():
    twin, _, _ = both({"caps": (Cap("cap", 1, 60.0, CapBy.OFFER),)})
    found = twin.look_up
    told: list[object] = [(), (1, 2), ((60.0,), ((9,), ())), ((60.0,), ((0,),)), (("x",), ((), ())), ((), ((0.5,),))]

    def look_up(*kind):
        if not told:
            return found(*kind)
        raise ValueError if told[-1] is None else TypeError

    def answers(*kind):
        return told.pop() if told else found(*kind)

    history = (HistoryEvent("impression", NAMES[0], "home", NOW),)
    for way, wrong in ((look_up, [None]), (answers, told)):
        told = wrong
        twin.look_up = way
        by_c = native(NATIVE, VERSION).Tallies(twin, HistoryEvent, 100)
        while told:
            with pytest.raises((TypeError, ValueError, SystemError)):
                by_c.drops(history, NOW, (None,))
            told = told if way is answers else []
        assert by_c.drops(history, NOW, (None,)) == twin.drops(history, NOW, (None,))


@pytest.mark.parametrize("need", [0, -1, -(2**62)])
def test_a_silence_of_no_events_is_refused(need):
    twin, _, _ = both({"caps": (Cap("cap", 1, 60.0, CapBy.OFFER),)})
    silence = Suppression("quiet", "click", 60.0, count=2)
    twin.tallies[:], twin.look_up = [Tally(need, 0, 1, silence)], lambda *_: ((60.0,), ((0,), ()))
    by_c = native(NATIVE, VERSION).Tallies(twin, HistoryEvent, 100)
    with pytest.raises(ValueError, match="needs events"):
        by_c.drops((HistoryEvent("click", NAMES[0], "home", NOW),) * 2, NOW, (None,))


@pytest.mark.parametrize("args", [(), ((), NOW), ((), NOW, [None]), ((), NOW, ()), ((), NOW, (None, None))])
def test_other_arguments_are_refused(args):
    _, by_c, _ = both({"caps": (Cap("cap", 1, 60.0, CapBy.OFFER),)})
    with pytest.raises(TypeError):
        by_c.drops(*args)

"""What is chosen, by C as by Python: the same decision to the last bit, and the same kept of what the model said."""

import gc
import weakref
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_catalogs import NAMES, NOW, SURFACES, Fickle, documents, files_of, loaded, visits

from decisioning import by_decider
from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.catalog_yaml import load_catalog
from decisioning.domain import NOTHING, Facts, Request, Scores
from decisioning.engine import Case, Release, decide, decided, examine
from decisioning.native import missing, native
from models import by_c
from models.artifact import Means, Model
from models.crossing import Traits
from models.encoding import Encoding
from models.learners import Sample, fit
from serving.deciding.score_cache import Noted, ScoreCache

REASON = missing("decisioning._decide", by_decider.VERSION) or by_c.NOT_BUILT
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

FEATURES = (FeatureSpec("minutes", FeatureType.FLOAT), FeatureSpec("sessions", FeatureType.INT, default=0))
SHOWN_ON = (*SURFACES, "bare")


@cache
def fitted(uplift: bool, known: int = len(NAMES)) -> Model:
    """A model of the first so many offers of random catalogs. Its trees are few, so that scores are often equal."""
    names = [*NAMES[:known], NOTHING] if uplift else NAMES[:known]
    encoding = Encoding(FEATURES, SHOWN_ON, tuple(Traits(name, "upgrade") for name in names))
    rng, n = np.random.default_rng(known + uplift), 600
    users = [{"sessions": int(rng.integers(0, 8)), "minutes": float(rng.uniform(0, 99))} for _ in range(n)]
    contexts = np.array([encoding.context(one, SHOWN_ON[k % 3]) for k, one in enumerate(users)], np.float32)
    offers = rng.integers(0, len(encoding.offers), n)
    outcome = rng.random(n) < 0.02 + 0.06 * (offers % 3 == 1) + 0.01 * np.array([one["sessions"] for one in users])
    sample = Sample(contexts, offers, outcome.astype(float), np.ones(n), np.full(n, 0.25))
    trees = fit("lightgbm", encoding, sample, {"num_trees": 4, "min_data_in_leaf": 20, "num_threads": 1}, 0)
    means = Means({}, {name: 0.02 + place / 300 for place, name in enumerate(NAMES[:5])}, {}, 0.02)
    return Model("upsell", 2, "lightgbm", "convert", encoding, means, uplift, 0.75, trees)


class Broken(Fickle):
    """Scores no offer that anybody has ever heard of."""

    def score(self, features, surface, offers):
        return Scores([1e308] * len(offers), [float("nan")] * len(offers))


models = st.builds(fitted, st.booleans(), st.sampled_from([len(NAMES)] * 3 + [4])) | st.builds(
    lambda: replace(fitted(True), uplift=False)  # was trained on NOTHING, and is asked for no uplift
)
challengers = st.sampled_from([{}, {}, {"upsell": Fickle()}, {"upsell": Broken()}, {"other": Fickle()}])


def to_the_last_bit(value):
    """With the types of everything in it: 1 is not 1.0, and -0.0 is not 0.0."""
    if is_dataclass(value):
        return type(value), [to_the_last_bit(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple):
        return tuple, [to_the_last_bit(one) for one in value]
    if isinstance(value, dict):
        return dict, [(to_the_last_bit(key), to_the_last_bit(one)) for key, one in value.items()]
    return type(value), repr(value)


def noted(release, model):
    """The release with this model, and what it said."""
    scores = ScoreCache()
    return replace(release, scorers={"upsell": Noted(model, scores, model.label)}), scores.said


def held_together(release, model, request, facts):
    """Decides by both, and gives what they made of it."""
    ours, said = noted(release, model)
    found, noticed = decide(ours, request, facts), dict(said)
    said.clear()
    assert to_the_last_bit(found) == to_the_last_bit(decided(examine(ours, request, facts)))
    assert noticed == said
    return found


@given(documents(), visits, models, challengers, st.sampled_from(["s", "ß"]), st.sampled_from([0, 1, 1]))
@settings(max_examples=300, deadline=None)
def test_decisions_are_the_same(document, some_visits, model, rivals, salt, usual):
    document["exploration"]["challenger"] = 0.0 if document["exploration"]["uniform"] == 1 else 0.1
    catalog = loaded(files_of(document))
    assume(catalog is not None)
    for request, facts in some_visits:
        if usual:
            request = replace(request, slots=1)
            facts = replace(facts, unread=frozenset(), history=(), features={**facts.features, "consent": True})
        held_together(Release("r", catalog, challengers=rivals, salt=salt), model, request, facts)


CATALOG = """
features: {minutes: {type: float}, locale: {type: text, from: context}}
surfaces:
  home: {slots: 2, fallback: null}
  bare: {slots: 1, fallback: null, allow_nothing: false}
exploration: {uniform: 0.25}
levers:
  down: {only: {offer: annual}, times: 0.5, until: "2027-12-31", owner: pm, why: a test}
offers:
  annual:
    {owner: pm, group: upgrade, surfaces: [home, bare], score: {model: upsell, value: 40, cost: 2.5},
     creative: {key: long, locales: [sv, pt-BR, de], fallback_locale: de}}
  duo: {owner: pm, group: upgrade, surfaces: [home, bare], score: {model: upsell, value: 30}, creative: {key: two}}
  family: {owner: pm, group: upgrade, surfaces: [home, bare], score: {model: upsell, value: 35}, priority: 1}
"""


def plain(**changes):
    catalog = load_catalog({"all.yaml": CATALOG.encode()})
    return Release("r", catalog, salt="s", **changes)


def asked(**changes):
    return Request(**{"decision_id": "d.bare", "user": "u", "surface": "bare", "now": NOW} | changes)


class Told(str):
    """A text of another type."""


LOCALES = [None, "", "_", "de_AT", "-sv", "sv", "sv-SE", "pt-BR", "pt", "xx", "\ud800", Told("sv-SE"), 3, 1.5, True]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("uplift", [False, True])
def test_texts_are_in_the_same_language(locale, uplift):
    shown = set()
    for number in range(40):
        request = asked(decision_id=f"d{number}", context={"locale": locale})
        shown.add(held_together(plain(), fitted(uplift), request, Facts()).slate[0].creative)
    assert len(shown) == 3


@given(st.text(max_size=40) | st.text(min_size=100, max_size=300) | st.just("\ud800"), st.text(max_size=300))
@settings(deadline=None)
def test_the_draw_is_the_same(name, salt):
    assume(salt.isprintable())
    release, request = replace(plain(), salt=salt), asked(decision_id=name)
    if name == "\ud800":
        with pytest.raises(UnicodeEncodeError):
            held_together(release, fitted(False), request, Facts())
    else:
        held_together(release, fitted(False), request, Facts())


def told(surface="bare", **changes):
    """The extension's own type, and what it is told of a surface."""
    release, _ = noted(plain(**changes), fitted(False))
    kept = {}
    found = native("decisioning._decide", by_decider.VERSION)
    with pytest.MonkeyPatch.context() as patched:
        spy = SimpleNamespace(Decider=lambda **given: kept.update(given) or found.Decider(**given))
        patched.setattr(by_decider, "native", lambda *_: spy)
        by_decider.decider(release, release.plans[surface], Case, decided, lambda case: "duo")
    return found.Decider, kept


def chosen(case, surface="home", twin=lambda case: case):
    """What a decider makes of a case; the case itself where it is the twin's."""
    make, kept = told(surface)
    return make(**kept | {"examine": lambda *_: case, "twin": twin}).decide(None, None, None)


def test_usual_cases_are_decided_without_the_twin():
    for surface, slots in (("bare", None), ("bare", 3), ("home", 1)):
        make, kept = told(surface, challengers={"upsell": Fickle()})
        decide = make(**kept | {"twin": lambda case: pytest.fail("the twin was asked")}).decide
        found = decide(plain(), asked(surface=surface, slots=slots), Facts({"minutes": 3.0}))
        assert found.policy.challenger == "duo"


UNUSUAL = {
    "held out": lambda case: replace(case, holdout="h"),
    "no offers left": lambda case: replace(case, screen=replace(case.screen, left=0)),
    "unread": lambda case: replace(case, facts=replace(case.facts, unread=frozenset({"budgets"}))),
    "another mapping": lambda case: replace(case, values=SimpleNamespace()),
    "another number": lambda case: replace(case, request=replace(case.request, now=1)),
    "two slots": lambda case: replace(case, request=replace(case.request, slots=2)),
    "all slots": lambda case: replace(case, request=replace(case.request, slots=None)),
    "many slots": lambda case: replace(case, request=replace(case.request, slots=2**70)),
    "another type": lambda case: SimpleNamespace(),
    "no request": lambda case: replace(case, request=None),
    "no screen": lambda case: replace(case, screen=(1, 2, 3)),
    "a flag for a set": lambda case: replace(case, screen=replace(case.screen, left=True)),
    "the arm without a model": lambda case: replace(case, arms={"ablation": "no_model"}),
}


@pytest.mark.parametrize("turn", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_the_twins_as_a_whole(turn):
    case = turn(examine(plain(), asked(surface="home", slots=1), Facts()))
    assert chosen(case) is case


def test_what_lacks_a_field_is_the_twins():
    whole = examine(plain(), asked(), Facts())
    for part in (None, "request", "facts", "screen"):
        for field in fields(whole if part is None else getattr(whole, part)):
            case = examine(plain(), asked(), Facts())
            delattr(case if part is None else getattr(case, part), field.name)
            needed = field.name in NEEDED.get(part, ())
            assert (chosen(case, "bare") is case) == needed, field.name


NEEDED = {
    None: ("request", "facts", "values", "screen", "arms", "holdout"),
    "request": ("decision_id", "surface", "now", "context"),
    "facts": ("unread", "degraded", "shed"),
    "screen": ("left", "word", "weights"),
}


def test_a_release_is_let_go_of_without_the_garbage_collector():
    release, _ = noted(plain(challengers={"upsell": Fickle()}), fitted(False))
    for surface in release.catalog.surfaces:
        decide(release, asked(surface=surface), Facts())
    gone = weakref.ref(release)
    gc.disable()
    try:
        del release
        assert gone() is None
    finally:
        gc.enable()


def test_errors_of_others_are_passed_on():
    def fails(*_):
        raise ZeroDivisionError

    make, kept = told(challengers={"upsell": Fickle()})
    for wrong in ({"examine": fails}, {"rival": fails}, {"worths": fails}):
        with pytest.raises(ZeroDivisionError):
            make(**kept | wrong).decide(plain(), asked(), Facts())
    with pytest.raises(ZeroDivisionError):
        chosen(examine(plain(), asked(surface="home"), Facts()), "home", twin=fails)


def test_a_surface_of_which_the_model_knows_nothing_is_the_twins():
    model = fitted(False)
    for other in (
        replace(model, shrinkage=0.0),
        replace(model, encoding=replace(model.encoding, surfaces=("elsewhere",))),
        Fickle(),
    ):
        decide = plain(scorers={"upsell": other}).deciders["bare"]
        assert decide.__name__ == "by_python"


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": ()},
        {"types": (Case,) * 7},
        {"types": (1,) * 7},
        {"names": ("one",)},
        {"creatives": ()},
        {"creatives": (1, 2, 3)},
        {"creatives": ({}, None, None)},
        {"asks": None},
        {"asks": b"a capsule"},
        {"said": []},
        {"moments": b"123"},
        {"moments": [1.0]},
        {"uniform": -1},
        {"uniform": 10**7},
        {"canary": 10**7},
        {"canary": 2**80},
        {"release": b"r"},
        {"min_p": "no"},
        {"salt": "text"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong):
    make, kept = told()
    assert make(**kept)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        make(**kept | wrong)


@pytest.mark.parametrize("worths", [lambda *_: b"", lambda *_: 3, lambda *_: bytes(8)])
def test_worths_of_other_offers_are_refused(worths):
    make, kept = told()
    with pytest.raises(ValueError, match="one worth"):
        make(**kept | {"worths": worths}).decide(plain(), asked(), Facts())

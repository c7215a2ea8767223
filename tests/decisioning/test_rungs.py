"""A server that is behind puts less work into a decision: fewer scores, the same rules, and the whole story logged."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_catalogs import NAMES, documents, files_of, loaded, release_of, visits
from shop import offer, shop

from decisioning.catalog import Score
from decisioning.domain import MILLION, Facts, Known, Request, Rung, Scores, Shed, Source
from decisioning.engine import decide, examine
from decisioning.explain import OVERLOAD, explain, headline
from stores.log.decision_log import DecisionRecord, canonical, decode, encode

FELL = Shed(Rung.FALLBACK)


class Mute:
    """A model that must not be asked. It still knows its means."""

    label = "upsell/1"

    def score(self, features, surface, offers):
        raise AssertionError("the model was asked")

    def prior(self, surface, offers):
        return scores(0.25, len(offers))


def scores(p, count):
    return Scores((p,) * count, (p,) * count)


def made(document):
    catalog = loaded(files_of(document))
    assume(catalog is not None)
    return release_of(catalog)


def without_models(release):
    """Where every model fails the test that is asked."""
    names = {*release.scorers, *release.catalog.models}
    return replace(release, scorers=dict.fromkeys(names, Mute()), challengers=dict.fromkeys(names, Mute()))


def said(release, request, facts):
    """What the models say of the user, as a server remembers it: of one offer more than is left."""
    case = examine(release, request, facts)
    names = tuple(name for name in release.catalog.offers if name in NAMES)
    found = {label: scorer.score(case.values, request.surface, names) for label, scorer in labelled(release)}
    return {label: Known(names, tuple(one.p_convert), tuple(one.effect)) for label, one in found.items()}


def labelled(release):
    return [(scorer.label, scorer) for scorer in release.scorers.values()]


SOME = settings(max_examples=40)


@SOME
@given(documents(), visits, st.sampled_from([Rung.CACHED, Rung.PRIOR]))
def test_below_the_model_rung_no_model_and_no_challenger_is_asked_and_the_rules_are_the_same(document, some, rung):
    release = without_models(made(document))
    for request, facts in some:
        behind = replace(facts, shed=Shed(rung))
        decision = decide(release, request, behind)
        assert decision.source is not Source.MODEL
        assert decision.model is None
        assert examine(release, request, behind).screen == examine(release, request, facts).screen
        if decision.policy is not None:
            assert decision.policy.challenger is None
            assert sum(decision.policy.weights) == MILLION


@SOME
@given(documents(), visits)
def test_cached_scores_decide_as_the_models_did_where_no_challenger_draws(document, some):
    release = replace(made(document), challengers={})
    for request, facts in some:
        fresh = decide(release, request, facts)
        cached = decide(release, request, replace(facts, shed=Shed(Rung.CACHED, said(release, request, facts))))
        if "features" in facts.unread:
            continue
        assert (cached.slate, cached.policy, cached.ghost) == (fresh.slate, fresh.policy, fresh.ghost)


@SOME
@given(documents(), visits)
def test_the_static_fallback_obeys_guards_and_draws_nothing(document, some):
    release = without_models(made(document))
    for request, facts in some:
        decision = decide(release, request, replace(facts, shed=FELL))
        assert decision.policy is None
        assert decision.eligible == ()
        assert decision.source in (Source.FALLBACK, Source.NONE)
        fallback = release.catalog.surfaces[request.surface].fallback
        assert [one.offer for one in decision.slate] in ([], [fallback])
        for one in decision.slate:
            assert one.offer not in facts.killed | request.exclude
            assert release.plans[request.surface].against_fallback(examine(release, request, facts).screen) is None


@SOME
@given(documents(), visits, st.sampled_from([Rung.CACHED, Rung.PRIOR, Rung.FALLBACK]), st.booleans())
def test_a_decision_of_every_rung_is_made_again_from_its_log_line_to_the_last_bit(document, some, rung, remembers):
    release = made(document)
    for request, facts in some:
        known = said(release, request, facts) if remembers and rung is Rung.CACHED else {}
        behind = replace(facts, shed=Shed(rung, known), degraded=(*facts.degraded, "overload"))
        decision = decide(release, request, behind)
        read = decode(encode(DecisionRecord(request, behind, decision)))
        assert read.facts == behind
        assert canonical(decide(release, read.request, read.facts)) == canonical(decision)
        explanation = explain(release, request, read.facts, decision)
        headline(release.catalog, decision, explanation)
        if rung is Rung.FALLBACK:
            assert all(one.rule == OVERLOAD for one in explanation.outranked)


def scored(name):
    return replace(offer(name), score=Score(value=1.0, model="upsell"))


def test_an_offer_that_nothing_is_known_of_gets_its_prior_and_so_do_all_from_another_version_of_the_model():
    release = replace(shop(scored("mug"), scored("cap")), scorers={"upsell": Mute()})
    request = Request("d", "u", "banner", 0.0)

    def chances(known):
        decision = decide(release, request, Facts(shed=Shed(Rung.CACHED, known)))
        found = dict(zip(decision.eligible, decision.p_convert, strict=True))
        return found["mug"], found["cap"], decision.model

    mug = Known(("mug",), (0.5,))
    assert chances({"upsell/1": mug}) == (0.5, 0.25, "upsell/1")
    assert chances({"upsell/2": mug}) == (0.25, 0.25, None)
    assert chances({}) == (0.25, 0.25, None)

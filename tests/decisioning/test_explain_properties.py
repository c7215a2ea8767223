"""Over random catalogs, users and pasts: every reason is true, and doing what a least change says shows the offer."""

from collections import Counter
from dataclasses import replace

from followed_words import says_no, would_show
from hypothesis import assume, event, given, settings
from naive_screening import against, known
from random_catalogs import documents, files_of, loaded, release_of, visits

from decisioning.domain import NOTHING, HistoryEvent, Stage
from decisioning.engine import decide, examine
from decisioning.explain import decoded, explain

CONDITIONS = (Stage.ELIGIBLE, Stage.INVARIANT, Stage.GUARD)


def decided(document, some_visits):
    catalog = loaded(files_of(document))
    assume(catalog is not None)
    release = release_of(catalog)
    for request, facts in some_visits:
        yield release, request, facts, decide(release, request, facts)


@settings(max_examples=120, deadline=None)
@given(documents(), visits)
def test_doing_what_the_words_of_a_change_say_to_the_letter_shows_the_offer(document, some_visits):
    for release, request, facts, decision in decided(document, some_visits):
        for reason in explain(release, request, facts, decision).fates:
            words = reason.change.words
            event(f"{reason.stage}: {'says no' if says_no(words) else 'done'}")
            assert says_no(words) or would_show(release, request, facts, reason.offer, words), reason


@settings(max_examples=150, deadline=None)
@given(documents(), visits)
def test_every_candidate_that_is_not_shown_is_told_what_is_true_of_it(document, some_visits):
    for release, request, facts, decision in decided(document, some_visits):
        explanation = explain(release, request, facts, decision, changes=False)
        surface, slate = release.catalog.surfaces[request.surface], [one.offer for one in decision.slate]
        slots = min(request.slots or surface.slots, surface.slots)
        standing = {one.offer: (one.priority, one.score) for one in explanation.candidates}
        explored = decision.policy is not None and decision.first != decision.policy.champion
        for reason in explanation.outranked:
            event(f"{reason.stage} {reason.rule}")
            own = standing[reason.offer]
            chosen = slate[1:] if explored else slate
            if reason.stage is Stage.SLATE:
                assert len([one for one in chosen if standing[one] > own]) < slots, "it had its turn"
                assert _leaves_no_room(release, request, facts, reason, slate)
            elif reason.rule == "draw":
                assert explored
                assert decision.first == NOTHING or standing[decision.first] <= own
            elif "no more than showing nothing" in reason.detail:
                assert surface.allow_nothing
                assert own[1] <= 0
            else:
                assert reason.rule == ("priority" if standing[slate[-1]][0] > own[0] else "score")
                assert len(slate) == slots
                assert all(standing[one] >= own for one in chosen), "whatever is shown ranks above it"
                assert reason.detail.endswith((slate[-1], "hash)"))


def _leaves_no_room(release, request, facts, reason, slate) -> bool:
    """Whether the rule that is named forbids the offer beside the others of the slate."""
    offer = release.catalog.offers[reason.offer]
    if reason.rule == "max_per_group":
        groups = Counter(release.catalog.offers[name].group for name in slate)
        return groups[offer.group] == release.catalog.surfaces[request.surface].max_per_group
    for rule in release.catalog.exclusives:
        if rule.name == reason.rule:
            return offer.name in rule.offers and not rule.offers.isdisjoint(slate)
    shown = tuple(HistoryEvent("impression", name, request.surface, request.now) for name in slate)
    then = replace(facts, history=facts.history + shown)
    rules = against(release.catalog, offer, request, then, known(release.catalog, request, then))
    return ("cap", reason.rule) in rules


@settings(deadline=None)
@given(documents(), visits)
def test_the_truth_word_alone_tells_which_offers_conditions_said_no_to(document, some_visits):
    for release, request, facts, decision in decided(document, some_visits):
        case = examine(release, request, facts)
        dropped = 0
        for stage, _, mask in case.screen.drops:
            dropped |= mask if stage in CONDITIONS else 0
        told = decoded(release, decision)
        assert {name for name, bit in case.plan.bits.items() if bit & dropped} == told.keys()
        assert all(failure.detail for failures in told.values() for failure in failures)

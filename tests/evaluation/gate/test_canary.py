"""A challenger beside the champion, decided by the engine itself: what the log then says of both."""

import random
from dataclasses import replace

import numpy as np
import pytest

from decisioning.catalog import DAY, Catalog, Exploration, FeatureSpec, FeatureType, Group, Offer, Score, Surface
from decisioning.domain import Facts, Request, Scores
from decisioning.engine import Release, decide
from evaluation.gate.canary import canary
from evaluation.gate.lines import evidence_lines, refused
from evaluation.recorded.log_checks import CHALLENGER, check_log
from evaluation.recorded.rewards import Outcomes, Rewards
from stores.log.decision_log import DecisionRecord

NOW, DECISIONS = 1_780_000_000.0, 12_000
RATE = {("SE", "a"): 0.3, ("SE", "b"): 0.1, ("NO", "a"): 0.1, ("NO", "b"): 0.3}


class Taste:
    """Believes that everybody likes `a`, or knows better."""

    def __init__(self, label, knows):
        self.label, self._knows = label, knows

    def score(self, features, surface, offers):
        market = features.get("market") if self._knows else "SE"
        p = [RATE[market, name] for name in offers]
        return Scores(p, p)

    def prior(self, surface, offers):
        return self.score({"market": "SE"}, surface, offers)


def catalog(canary_share):
    offers = {name: Offer(name, "pm", "plans", ("home",), Score("m", value=2.0)) for name in "ab"}
    market = FeatureSpec("market", FeatureType.ENUM, values=("SE", "NO"))
    return Catalog(
        "h",
        features={"market": market},
        groups={"plans": Group("plans", "convert", DAY)},
        surfaces={"home": Surface("home")},
        offers=offers,
        exploration=Exploration(0.05, canary_share),
    )


def traffic(challenger, share=0.05, seed=0, decisions=DECISIONS):
    """Records and what followed them, of users half of whom are Norwegians."""
    chance = random.Random(seed)
    release = Release("r1", catalog(share), {"m": Taste("m/1", knows=False)}, {"m": challenger}, salt="s")
    records, followed = [], {}
    for n in range(decisions):
        user = n % (decisions // 2)
        facts = Facts({"market": "SE" if user % 2 else "NO"}, as_of=NOW)
        request = Request(f"d{n}", f"u{user}", "home", NOW + n)
        record = DecisionRecord(request, facts, decide(release, request, facts))
        shown = record.decision.first
        if chance.random() < RATE[facts.features["market"], shown]:
            followed[request.decision_id] = (("convert", shown, request.now + 60.0),)
        records.append(record)
    until = NOW + decisions + 2 * DAY
    return records, Rewards(Outcomes(followed, until), until, release.catalog)


@pytest.fixture(scope="module")
def better():
    return traffic(Taste("m/2", knows=True))


def test_a_better_challenger_shows_its_gain_near_the_truth_and_passes(better):
    """Half of the users get 0.3 instead of 0.1 conversions, worth 2 each: +0.2 a decision."""
    found = canary(*better)
    comparison = found.compared("the champion m/1")
    assert comparison.note is None
    assert comparison.value == pytest.approx(0.4, abs=0.02)
    assert comparison.difference == pytest.approx(0.2, abs=0.06)
    assert comparison.lower < 0.2
    assert comparison.differing == pytest.approx(0.5)
    assert not refused(evidence_lines(comparison, proof=True))
    assert {one.value for one in found.segment_differences()} == {"SE", "NO"}


def test_the_log_shows_the_challengers_choice_in_its_share_of_decisions(better):
    records, _ = better
    check = check_log(record.decision for record in records)
    assert check.ok
    differing = [r for r in records if r.decision.policy.challenger != r.decision.policy.champion]
    shown = np.mean([r.decision.first == r.decision.policy.challenger for r in differing])
    assert shown == pytest.approx(0.05 + 0.025, abs=0.01)
    assert check.whole[CHALLENGER].expected == pytest.approx(0.075 * len(differing))


def test_in_shadow_the_choice_is_logged_and_never_shown_for_it():
    records, rewards = traffic(Taste("m/2", knows=True), share=0.0, decisions=4_000)
    norwegians = [r for r in records if r.facts.features["market"] == "NO"]
    assert {r.decision.policy.challenger for r in norwegians} == {"b"}
    assert np.mean([r.decision.first == "b" for r in norwegians]) == pytest.approx(0.025, abs=0.01)  # by exploration
    assert canary(records, rewards).compared("the champion m/1").note is not None  # too little to tell


def test_a_challenger_that_chooses_alike_differs_nowhere():
    comparison = canary(*traffic(Taste("m/2", knows=False), decisions=4_000)).compared("the champion m/1")
    assert (comparison.differing, comparison.difference) == (0.0, 0.0)
    assert comparison.lower < 0


def test_what_is_too_young_is_left_out_and_counted(better):
    records, _ = better
    until = records[9].request.now + DAY
    rewards = Rewards(Outcomes(until=until), until, catalog(0.05))
    found = canary(records[:30], rewards)
    assert (len(found.ours.reward), found.young) == (10, 20)
    assert canary(records[20:30], rewards) is None


def test_a_choice_outside_of_what_was_left_is_counted_and_not_guessed(better):
    records, rewards = better
    blind = [replace(r, decision=replace(r.decision, policy=replace(r.decision.policy, challenger=None, canary=0)))
             for r in records[:5]]  # fmt: skip
    found = canary([*blind, *records[5:10]], rewards)
    assert (len(found.ours.reward), found.without) == (5, 5)


def test_a_sticky_answer_given_anew_counts_once(better):
    records, rewards = better
    assert len(canary([*records[:10], *records[:10]], rewards).ours.reward) == 10

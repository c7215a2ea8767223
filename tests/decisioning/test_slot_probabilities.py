"""The probabilities in the log, held against every draw there is: each slot's, and the ghosts of the held out."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from decisioning.catalog import Catalog, Exploration, Holdout, Offer, Score, Surface
from decisioning.domain import MILLION, NOTHING, Facts, Request, Scores
from decisioning.engine import Release, decide
from decisioning.exploration import chosen
from decisioning.identity import DRAW_BITS
from decisioning.rules import Exclusive

FACTS = Facts()


class Ranked:
    """A model that gives each offer a probability of its own."""

    def __init__(self, label: str, p_convert: dict[str, float]) -> None:
        self.label, self._p = label, p_convert

    def score(self, features, surface, offers) -> Scores:
        found = [self._p[offer] for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers) -> Scores:
        return self.score({}, surface, offers)


def release(seed: int, *, nothing: bool, challenger: bool, per_group: int | None, **more) -> Release:
    chance = random.Random(seed)
    names = [f"o{number}" for number in range(7)]
    offers = {name: Offer(name, "pm", chance.choice("abc"), ("shelf",), Score("m", 1.0)) for name in names}
    offers["o3"] = replace(offers["o3"], priority=1)
    surface = Surface("shelf", slots=4, allow_nothing=nothing, max_per_group=per_group)
    models = [Ranked(f"m/{n}", {name: chance.random() - 0.2 * nothing for name in names}) for n in (1, 2)]
    catalog = Catalog(
        f"c{seed}",
        surfaces={"shelf": surface},
        offers=offers,
        exclusives=(Exclusive("one", frozenset(chance.sample(names, 2)), 60.0),),
        exploration=Exploration(uniform=0.137, challenger=0.081 if challenger else 0.0),
        **more,
    )
    return Release("r", catalog, {"m": models[0]}, {"m": models[1]} if challenger else {}, salt="s")


CASES = [
    pytest.param(seed, nothing, challenger, per_group, id=f"{seed}")
    for seed, (nothing, challenger, per_group) in enumerate(
        [(False, False, None), (True, False, None), (False, True, 1), (True, True, 2), (True, True, 1)] * 2
    )
]


def draws_of(policy) -> dict[str, int]:
    """A draw that falls on each action that has a chance, from both ends of its stretches."""
    found: dict[str, int] = {}
    ends = {0, MILLION - 1, policy.share * len(policy.offers), policy.share * len(policy.offers) + policy.canary}
    ends |= {policy.share * n for n in range(len(policy.offers))}
    for target in sorted(ends & set(range(MILLION))):
        draw = -(-(target << DRAW_BITS) // MILLION)
        found.setdefault(chosen(replace(policy, draw=draw)), draw)
    return found


def test_the_weights_of_a_policy_are_the_shares_of_all_million_draws():
    policy = decide(release(4, nothing=True, challenger=True, per_group=1), ask(), FACTS).policy
    every = (-(-(target << DRAW_BITS) // MILLION) for target in range(MILLION))
    counts = Counter(chosen(replace(policy, draw=draw)) for draw in every)
    assert counts == {action: policy.weight(action) for action in policy.offers}


def ask(**more) -> Request:
    return Request("d", "ann", "shelf", 0.0, **more)


@pytest.mark.parametrize(("seed", "nothing", "challenger", "per_group"), CASES)
@pytest.mark.parametrize("slots", [None, 2, 1])
def test_each_slots_probability_is_its_share_of_all_draws(monkeypatch, seed, nothing, challenger, per_group, slots):
    made = release(seed, nothing=nothing, challenger=challenger, per_group=per_group)
    policy = decide(made, ask(slots=slots), FACTS).policy
    shares: Counter[tuple[int, str]] = Counter()
    slates = []
    for action, draw in draws_of(policy).items():
        monkeypatch.setattr("decisioning.engine.draw", lambda salt, decision, fate=draw: fate)
        decision = decide(made, ask(slots=slots), FACTS)
        assert decision.first == action
        slates.append(decision.slate)
        for one in decision.slate:
            shares[one.slot, one.offer] += policy.weight(action)
    assert sum(policy.weights) == MILLION == sum(map(policy.weight, draws_of(policy)))
    for one in (one for slate in slates for one in slate):
        assert one.probability == shares[one.slot, one.offer] / MILLION
    assert len({slate[0].offer for slate in slates if slate}) >= 2, "nothing was explored"


@pytest.mark.parametrize(("seed", "nothing", "challenger", "per_group"), CASES)
def test_the_ghost_of_the_held_out_is_what_others_are_drawn(monkeypatch, seed, nothing, challenger, per_group):
    options = {"nothing": nothing, "challenger": challenger, "per_group": per_group}
    others = release(seed, **options)
    held = release(seed, **options, holdouts=(Holdout("all", 100.0, "h"),))
    for action, draw in draws_of(decide(others, ask(), FACTS).policy).items():
        monkeypatch.setattr("decisioning.engine.draw", lambda salt, decision, fate=draw: fate)
        ghostly, plain = decide(held, ask(), FACTS), decide(others, ask(), FACTS)
        assert (ghostly.holdout, ghostly.ghost) == ("all", action)
        assert plain.first == action
        assert plain.ghost is None
        assert ghostly.policy.weight(ghostly.first) == MILLION, "the held out get one policy, without a draw"
        assert {one.probability for one in ghostly.slate} <= {1.0}
        assert ghostly.first != NOTHING or nothing

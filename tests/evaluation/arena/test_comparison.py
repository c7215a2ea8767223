"""Policies side by side: pairing, intervals, figures, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

from decisioning.errors import UserError
from evaluation.arena import peers as arena_peers
from evaluation.arena.comparison import (
    POLICIES,
    Comparison,
    Interval,
    Setting,
    chosen_policies,
    compare,
)
from evaluation.arena.life import Life
from evaluation.arena.policies import Recipe
from stores.catalog_files import read_catalog_files

FILES = read_catalog_files(Path(__file__).parents[3] / "catalog")
SMALL = Setting(FILES, users=500, days=3, recipe=Recipe("constant"))


@pytest.fixture(scope="module")
def found():
    return compare(SMALL, seeds=(1, 2), workers=1)


def told(**earned) -> Comparison:
    lives = {
        name: {seed: Life(None, value, 0.1, 1.0, 3.0, np.array([value])) for seed, value in enumerate(values)}
        for name, values in earned.items()
    }
    return Comparison(SMALL, tuple(range(len(earned["ours"]))), lives, {})


def test_every_policy_lives_in_every_world(found):
    assert set(found.lives) == set(POLICIES)
    assert all(set(lives) == {1, 2} for lives in found.lives.values())
    obj = found.to_json()
    assert {"captured_share", "vs_propensity_argmax", "vs_lints", "vs_vw", "exploration_cost"} <= set(obj)
    assert all(np.isfinite(row["value"]["value"]) for row in obj["policies"])


def test_the_same_seeds_give_the_same_comparison(found):
    again = compare(SMALL, ("random", "lints", "ours"), (2, 1), workers=1)
    for name in again.lives:
        for seed in (1, 2):
            assert again.lives[name][seed].earned == found.lives[name][seed].earned


def test_the_truth_is_never_beaten_by_much(found):
    """The best of each moment is no upper bound, but looking ahead is one in the mean."""
    best = found.earned("look_ahead").mean()
    assert all(found.earned(name).mean() < 1.01 * best for name in found.lives)


def test_figures_done_by_hand():
    figures = told(
        ours=[3.0, 4.0], greedy=[4.0, 4.0], static_priority=[1.0, 1.0], look_ahead=[5.0, 7.0], lints=[2.0, 4.0]
    ).figures
    assert set(figures) == {"captured_share", "vs_lints", "exploration_cost"}
    assert figures["captured_share"] == Interval(0.5, None, None)  # the same on both seeds: no width to be had
    assert figures["vs_lints"].value == pytest.approx(0.25)
    assert figures["exploration_cost"].value == pytest.approx(0.125)


def test_an_interval_is_students_and_never_of_no_width():
    three = Interval.of([1.0, 2.0, 3.0])
    assert three.value == 2.0
    assert three.high - 2.0 == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert Interval.of([1.0]) == Interval(1.0, None, None)
    with pytest.raises(ValueError, match="needs a value"):
        Interval.of([])


def test_policies_are_named_with_dashes_or_underscores_and_a_typo_is_told():
    assert chosen_policies("static-priority, ours") == ("static_priority", "ours")
    assert chosen_policies("all") == tuple(POLICIES)
    with pytest.raises(UserError, match="no policy 'our'"):
        chosen_policies("our,random")
    with pytest.raises(UserError, match="no policy"):
        chosen_policies(" , ")


def test_what_is_not_installed_is_left_out_and_named(monkeypatch):
    monkeypatch.setitem(arena_peers.NEEDS, "vw", "no_such_package_at_all")
    found = compare(SMALL, ("random", "vw"), (1,), workers=1)
    assert set(found.lives) == {"random"}
    assert found.to_json()["left_out"] == {"vw": "no_such_package_at_all"}
    with pytest.raises(UserError, match="install no_such_package_at_all"):
        compare(SMALL, ("vw",), (1,), workers=1)


@pytest.mark.heavy
def test_as_many_processes_as_you_like_find_the_same():
    setting = Setting(FILES, users=800, days=14)
    one, two = (compare(setting, ("ours", "lints", "static_priority"), (1, 2), workers=n) for n in (1, 2))
    assert one.to_json() == two.to_json()

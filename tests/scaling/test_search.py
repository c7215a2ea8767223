"""Searching for parameters, by either engine: from what is to be beaten to what is best."""

import builtins
from dataclasses import replace
from threading import Lock

import pytest
from parts_of_work import Valley

from decisioning.errors import UserError
from scaling.local import ALONE
from scaling.search import Choice, Range, Search

SPACE = {"depth": Range(2, 7), "rate": Range(0.01, 1.0, log=True), "kind": Choice(("a", "b"))}
ASKED = Search(SPACE, first={"depth": 6, "rate": 0.5, "kind": "a"}, trials=8, seed=1)


def test_a_search_begins_with_what_is_to_be_beaten_stays_in_its_space_and_beats_it(twin, capfd):
    told, lock = [], Lock()  # as bars have one, and it can't be pickled
    found = twin.search(Valley(), ASKED, progress=lambda *at: lock and told.append(at))
    assert found.stopped is None
    assert found.trials[0].params == ASKED.first
    assert len(found.trials) == ASKED.trials
    assert all(one.params[name] in SPACE[name] for one in found.trials for name in SPACE)
    assert all(isinstance(one.params["depth"], int) for one in found.trials)
    assert found.best.loss < found.trials[0].loss == pytest.approx(2 + 4 + 1)
    assert (told[0], told[-1]) == ((0, 8), (8, 8))
    assert capfd.readouterr() == ("", "")


def test_refused_parameters_are_trials_without_a_loss_and_the_search_goes_on():
    found = ALONE.search(Valley(), replace(ASKED, first={**ASKED.first, "depth": 7}, trials=3))
    assert (found.trials[0].loss, found.trials[0].refused) == (None, "7 is no depth")
    assert len(found.trials) == 3
    assert found.best.loss is not None


def test_when_time_is_up_no_further_trial_begins():
    found = ALONE.search(Valley(), replace(ASKED, seconds=0.0))
    assert (len(found.trials), found.stopped) == (1, "no time was left")


def test_one_process_finds_the_same_again():
    once, again = (ALONE.search(Valley(), ASKED) for _ in range(2))
    assert [one.params for one in once.trials] == [one.params for one in again.trials]


def test_another_seed_looks_elsewhere():
    once, other = (ALONE.search(Valley(), replace(ASKED, seed=seed)) for seed in (1, 2))
    assert [one.params for one in once.trials] != [one.params for one in other.trials]


def test_ctrl_c_keeps_the_trials_that_have_ended():
    found = ALONE.search(Valley(end=4), ASKED)
    assert (len(found.trials), found.stopped) == (3, "interrupted")
    assert found.best is not None


def test_where_all_is_refused_there_is_no_best():
    found = ALONE.search(Valley(), replace(ASKED, space={**SPACE, "depth": Range(7, 7)}, first={}, trials=2))
    assert found.best is None


def test_without_optuna_the_message_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'segue\[search\]'"):
        ALONE.search(Valley(), ASKED)

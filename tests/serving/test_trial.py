"""The trial of a release, in a process that may crash, hang or eat memory without harm to anybody."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests" / "support"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict[str, str | None]]:
    """Why each was refused. In a process of its own, as trials are forks and pytest has threads."""
    command = [sys.executable, SUPPORT / "trials.py", tmp_path_factory.mktemp("releases")]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{SUPPORT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_of_45_damages_to_a_published_model_is_refused_by_its_sha256(outcomes):
    found = outcomes["on disk"]
    assert found.pop("mended") is None
    assert len(found) == 45
    assert all("model.txt is damaged: its content is not what was published" in why for why in found.values())


def test_of_45_damages_that_every_digest_agrees_with_none_crashes_or_changes_an_answer(outcomes):
    found = outcomes["before"]
    assert found.pop("good") is None
    assert len(found) == 45
    refused = [why for why in found.values() if why is not None]
    assert len(refused) >= 15
    assert all(why.startswith("Model upsell/1 ") for why in refused), "each names the model and what is wrong with it"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("slope of NaN", "is damaged"),
        ("NaN", "scores golden row 0 differently"),
        ("NaN, as recorded", "gives no number for anybody"),
        ("all alike", "scores every user and every offer alike"),
        ("other values", "other features than the catalog declares (device)"),
        ("other type", "other features than the catalog declares (minutes)"),
        ("other schema", "schema.json is not that of its catalog"),
        ("other columns", "its columns are not those of its features"),
        ("no offer left", "unknown offer"),
    ],
)
def test_a_model_that_would_decide_badly_is_refused(outcomes, fault, words):
    assert words in outcomes["models"][fault]


def test_a_model_of_no_weight_may_score_all_alike(outcomes):
    assert outcomes["models"]["all alike, of no weight"] is None


@pytest.mark.parametrize(
    ("work", "why"),
    [
        ("well", None),
        ("refuse", "No."),
        ("bug", "IndexError: list index out of range"),
        ("crash", "its trial was ended by SIGSEGV"),
        ("vanish", "its trial ended without a word"),
        ("flood", "its trial took more than 256 MB of memory"),
        ("hang", "its trial took longer than 0.5 seconds"),
    ],
)
def test_whatever_a_trial_comes_to_is_one_sentence(outcomes, work, why):
    assert outcomes["work"][work] == why


def test_nesting_without_end_is_refused(outcomes):
    assert outcomes["work"]["deep"].startswith("RecursionError")

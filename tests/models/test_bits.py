"""The C extension believes nothing: whatever it is told, it answers or raises, and never reads elsewhere."""

import subprocess
import sys

import damage
import numpy as np
import pytest
import tree_models

from models.by_c import NOT_BUILT, ByC, arguments, extension
from models.crossing import Crossing
from models.masks import Parts, masks_of
from models.trees import parse

pytestmark = pytest.mark.skipif(bool(NOT_BUILT), reason=NOT_BUILT)
TEXTS = {"numbers": tree_models.text_of(), "categories": tree_models.categorical_text()}


@pytest.fixture(scope="module")
def parts():
    crossing = Crossing(np.array([0, 0]), np.array([1.0, 2.0]))
    return Parts.of(masks_of([parse(TEXTS["numbers"])], 3), 1, np.array([[0.0], [3.0]]), [crossing])


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_no_damage_crashes_it_or_makes_it_differ_from_numpy(text):
    """In a process of its own, to see a crash as one."""
    done = subprocess.run(
        [sys.executable, damage.__file__, "1", "1000"],
        input=TEXTS[text],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300, "much damage is none, and is scored"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trees": 0}, "so many trees"),
        ({"words": 2**60}, "so many trees"),
        ({"leaves": 33}, "so many trees"),
        ({"forests": 2}, "no forests have so many trees"),
        ({"width": -1}, "no forests have so many trees or columns"),
        ({"width": 0}, "not of the context"),
        ({"crossings": -1}, "cut off"),
        ({"crossings": 2}, "one place and factor"),
        ({"table": b"\0" * 12}, "rows are not there"),
        ({"table": b"abc"}, "no mask for each tree"),
        ({"cuts": b""}, "cuts are not there"),
        ({"values": b""}, "one value for each leaf"),
        ({"places": np.array([0, 1], np.int64).tobytes()}, "a place is not of the context"),
        ({"factors": b""}, "one place and factor"),
    ],
)
def test_tables_that_do_not_fit_are_refused_with_the_reason(parts, change, reason):
    with pytest.raises(ValueError, match=reason):
        extension().Masks(**{**arguments(parts), **change})


def test_a_closed_last_leaf_is_refused(parts):
    """Else no bit might be left, and what follows the values would be read."""
    for name in ("table", "offers"):
        given = arguments(parts)
        given[name] = bytes(len(given[name]))
        with pytest.raises(ValueError, match="a last leaf is closed"):
            extension().Masks(**given)


def test_questions_that_do_not_fit_are_refused(parts):
    scorer = ByC(parts)
    for context, asked in [([], [0]), ([0.0, 1.0], [0]), (["a"], [0]), (None, [0]), ([0.0], None), ([0.0], ["a"])]:
        with pytest.raises((ValueError, TypeError)):
            scorer.scores(context, asked)
    for offer in (-1, 2, 2**40, 2**70):
        with pytest.raises(IndexError):
            scorer.scores([0.0], [offer])
        with pytest.raises(IndexError):
            scorer.matrix(np.zeros((2, 1)), [offer])
    with pytest.raises(ValueError, match="other shapes"):
        scorer.matrix(np.zeros((2, 3)), [0])


def test_scoring_leaves_no_memory_behind(parts):
    """Errors included. Counted in blocks of Python's allocator, which the extension takes its scratch from."""
    scorer = ByC(parts)

    def ask():
        for _ in range(2000):
            scorer.scores([0.0], [0, 1])
            for context, asked in (([], [0]), ([0.0], [7])):
                with pytest.raises((ValueError, IndexError)):
                    scorer.scores(context, asked)
            extension().Masks(**arguments(parts))

    ask()
    before = sys.getallocatedblocks()
    ask()
    assert sys.getallocatedblocks() - before < 500

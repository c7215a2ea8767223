"""The C extensions hold what they read: no list can change under their hands."""

import subprocess
import sys

import numpy as np
import pytest
import tree_models

from models.by_c import NOT_BUILT, ByC
from models.by_numpy import ByNumpy
from models.masks import Parts, masks_of
from models.trees import parse

pytestmark = pytest.mark.skipif(bool(NOT_BUILT), reason=NOT_BUILT)


@pytest.fixture(scope="module")
def parts():
    return Parts.of(masks_of([parse(tree_models.text_of())], 3), 2, np.zeros((2, 1)), ())


def test_nothing_asked_of_nobody_or_of_many_is_nothing(parts):
    for scorer in (ByC(parts), ByNumpy(parts)):
        assert scorer.matrix(np.zeros((3, 2)), []).shape == (3, 0)
        assert scorer.matrix(np.zeros((0, 2)), [0, 1]).shape == (0, 2)
        assert scorer.scores([0.0, 0.0], []) == []


SHRINKING = """
from models.by_c import ByC, _rows
from models.masks import Parts, masks_of
from models.trees import parse
import numpy as np, sys

class Zero:
    def __index__(self):
        numbers.clear()
        return 0

    def __float__(self):
        numbers.clear()
        return 0.0

scorer = ByC(Parts.of(masks_of([parse(sys.stdin.read())], 3), 2, np.zeros((2, 1)), ()))
for ask in (
    lambda: scorer.scores([0.0, 0.0], numbers),
    lambda: scorer.masks.matrix(np.zeros((1, 2)), numbers, np.empty((1, 100))),
    lambda: _rows.blend(numbers, [0.0] * 100, 1.0, 0.0, 1.0),
    lambda: _rows.blend([0.0] * 100, numbers, 1.0, 0.0, 1.0),
):
    numbers = [Zero() for _ in range(100)]
    try:
        ask()
    except IndexError:
        continue
numbers = [Zero(), Zero()]
print(scorer.scores(numbers, [0]) == scorer.scores([0.0, 0.0], [0]))
"""


def test_a_list_that_shrinks_while_it_is_read_leads_nowhere():
    """A number may be an object that runs code of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SHRINKING], input=tree_models.text_of(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr

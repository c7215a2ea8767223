"""Damages models and the tables made of them, and scores with what is not refused: `damage.py SEED TIMES < MODEL`.

To be run in a process of its own, as what it looks for would end it. What C and numpy say must be the same.
"""

import random
import struct
import sys

import numpy as np

from models import by_c
from models.by_numpy import ByNumpy
from models.crossing import Crossing
from models.masks import Parts, masks_of
from models.trees import TreeError, parse

ROWS = [[0.0, np.nan], [1.0, -1.0], [3.5, 1e300], [-np.inf, np.inf], [np.nan, 0.0]]
OFFERS = np.array([[0.0], [2.5], [np.nan], [-7.0]])


def main(seed: int, times: int) -> None:
    text, chance = sys.stdin.read(), random.Random(seed)
    scored = sum(by_text(text, chance) for _ in range(times))
    parts = Parts.of(masks_of([parse(text)], 3), 1, OFFERS[:, :1], [CROSSING])
    scored += sum(by_argument(parts, chance) for _ in range(times))
    print(scored)


CROSSING = Crossing(np.array([0, 0, 0, 0]), np.array([1.0, np.nan, -2.0, 3e38]))


def by_text(text: str, chance: random.Random) -> bool:
    """Whether a text with some characters changed, cut out or doubled is still a model."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "-", " ", "9", "0", "1e", "nan", text[at] * 2]) + text[at + 1 :]
    try:
        forest = parse(text)
        parts = Parts.of(masks_of([forest], 3), 2, OFFERS, ())
    except ValueError as error:
        if isinstance(error, TreeError) or "columns, not 3" in str(error):
            return False
        raise
    native, plain = by_c.ByC(parts), ByNumpy(parts)
    for row in ROWS:
        assert native.scores(row, [0, 1, 2, 3, 1]) == plain.scores(row, [0, 1, 2, 3, 1])
    contexts = np.array(ROWS)
    assert native.matrix(contexts, [3, 0]).tolist() == plain.matrix(contexts, [3, 0]).tolist()
    return True


def by_argument(parts: Parts, chance: random.Random) -> bool:
    """Whether the extension takes tables of which one is changed; it must say no where they could lead astray."""
    given = by_c.arguments(parts)
    name = chance.choice(sorted(given))
    value = given[name]
    if isinstance(value, int):
        given[name] = chance.choice([0, 1, -1, value + 1, 2 * value, 2**31, 2**62, -(2**63)])
    else:
        given[name] = damaged(value, chance)
    try:
        masks = by_c.extension().Masks(**given)
    except (ValueError, MemoryError):
        return False
    asked = [chance.randrange(-2, 6) for _ in range(chance.randint(0, 9))]
    row = [chance.choice([0.0, 1.0, np.nan, -5.0, 1e300]) for _ in range(chance.randint(0, 3))]
    try:
        masks.scores(row, asked)
        masks.matrix(np.zeros((2, len(row))), asked, np.empty((2, len(asked))))
    except (ValueError, IndexError):
        return False
    return True


def damaged(value: bytes, chance: random.Random) -> bytes:
    if not value or chance.random() < 0.2:
        return value[: chance.randrange(len(value) + 1)] + bytes(chance.choice([0, 1, 8, 32]))
    at = chance.randrange(0, len(value), 4)
    number = chance.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**31, chance.getrandbits(32)])
    return (value[:at] + struct.pack("<I", number) + value[at + 4 :])[: len(value)]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

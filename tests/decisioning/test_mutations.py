"""Spot checks of the tests themselves: each small, wrong change to the rules must make some test fail.

A mutation is made in a copy of the decision core, and the tests that guard the place run against the copy. Those that
the rules of the product hang on most run always; the others are heavy.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from decisioning.native import OFF

ROOT = Path(__file__).parents[2]
COPIED = ("decisioning", "features", "stores", "catalog", "pyproject.toml", "tests/support", "tests/golden")


@dataclass(frozen=True)
class Mutation:
    """In `file`, `old` becomes `new`; one of `tests` has to notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str


ALWAYS = [
    Mutation(
        "a cap lets one more through",
        "tallies",
        "added.count(number) >= tally.need",
        "added.count(number) > tally.need",
        "limits",
    ),
    Mutation(
        "thresholds look at scores before levers",
        "arbitration",
        "zip(offers.names, p_convert, scores, strict=True)",
        "zip(offers.names, p_convert, weigh(effect, factors.net, offers.flags), strict=True)",
        "engine factors",
    ),
    Mutation(
        "a missing value passes a test for what it is not",
        "conditions",
        "wanted: ast.expr = ast.UnaryOp(ast.Not(), _among(found, test.value))",
        "return ast.UnaryOp(ast.Not(), _among(get, test.value))",
        "conditions index",
    ),
]
HEAVY = [
    Mutation(
        "levers lift an offer past min_p_convert",
        "arbitration",
        "least_p is not None and p < least_p",
        "least_p is not None and max(p, s) < least_p",
        "engine factors",
    ),
    Mutation(
        "a window keeps an event a moment too long", "tallies", "bisect_right(windows", "bisect_left(windows", "limits"
    ),
    Mutation(
        "exclusive offers stay apart for longer", "reach", "1, exclusive.lasts)", "1, 2 * exclusive.lasts)", "limits"
    ),
    Mutation(
        "a shown offer keeps itself away", "reach", "one.covers & ~self._bits.get(offer, 0)", "one.covers", "limits"
    ),
    Mutation(
        "suppression waits for one event more",
        "reach",
        "silence.count, window)",
        "silence.count + 1, window)",
        "limits",
    ),
    Mutation("events far apart tire too", "tallies", "rule.within is None or", "True or", "limits"),
    Mutation("a future event silences for longer", "tallies", "min(event.at, now)\n", "event.at\n", "limits"),
    Mutation(
        "an unread history reaches no cap",
        "past",
        "self.closed if unread",
        "self.shut if unread",
        "engine limits",
    ),
    Mutation(
        "an unreadable hard budget is open",
        "limits",
        "return budget.hard",
        "return False",
        "limits",
    ),
    Mutation(
        "a night that spans midnight is never quiet",
        "limits",
        "minute >= rule.start or",
        "minute >= rule.start and",
        "limits",
    ),
    Mutation(
        "a guard opens for what is missing",
        "plan",
        "(known if needs else None, True)",
        "(None, True)",
        "engine",
    ),
    Mutation(
        "an offer outlives its end",
        "plan",
        "now < offer.live_until",
        "now <= offer.live_until",
        "engine",
    ),
    Mutation(
        "the held out get levers",
        "factors",
        "if simple or off is Factor.LEVERS",
        "if off is Factor.LEVERS",
        "engine factors",
    ),
    Mutation(
        "a stale value counts",
        "knowledge",
        "now - at > max_age and",
        "now - at > 2 * max_age and",
        "knowledge",
    ),
    Mutation("a client slips in a feature", "knowledge", "if name in allowed}", "}", "knowledge"),
    Mutation("ties fall by name", "arbitration", "tie_break(user, names[place], release)", "names[place]", "engine"),
    Mutation(
        "the arm hangs on the seat",
        "experiments",
        'f"arm:{experiment.name}"',
        'f"layer:{experiment.layer}"',
        "assignment_and_draw",
    ),
    Mutation(
        "a ramp moves users",
        "experiments",
        "return (low >> 4) % buckets",
        "return (low >> 4) % (buckets - 1)",
        "assignment_and_draw",
    ),
    Mutation("a cap of none lets the first through", "tallies", "if bits is not None}", "if False}", "limits"),
    Mutation("a budget outlives its end", "limits", "now < budget.until)", "now <= budget.until)", "limits"),
    Mutation("noon's quiet hour ends late", "limits", "<= minute < rule.end", "<= minute <= rule.end", "limits"),
    Mutation("a quiet night begins late", "limits", "minute >= rule.start", "minute > rule.start", "limits"),
    Mutation("just the least score is not enough", "arbitration", "s < least_score", "s <= least_score", "engine"),
    Mutation("what is worth nothing beats nothing", "arbitration", "scores[p] > 0 or", "scores[p] >= 0 or", "engine"),
    Mutation("what is worth nothing fills a slot", "slate", "worth <= 0 and", "worth < 0 and", "engine"),
    Mutation(
        "the canary's slice is one too wide",
        "exploration",
        "target < even + policy.canary",
        "target <= even + policy.canary",
        "assignment_and_draw",
    ),
    Mutation(
        "two experiments share a seat",
        "experiments",
        "found < seat.end",
        "found <= seat.end",
        "assignment_and_draw",
    ),
    Mutation(
        "the killed fallback is shown", "plan", "(Stage.KILLED, Stage.EXCLUDED,", "(Stage.EXCLUDED,", "engine explain"
    ),
    Mutation(
        "the ghost forgets the arms",
        "engine",
        "held.screen, arms, None)",
        "held.screen, {}, None)",
        "decide_properties",
    ),
    Mutation(
        "exclusive offers share a slate", "slate", "in rule.offers), 1, rule))", "in rule.offers), 9, rule))", "engine"
    ),
    Mutation(
        "a lever falls short as it is printed",
        "figures",
        "Context(precision, ROUND_CEILING)",
        "Context(precision, 'ROUND_FLOOR')",
        "explain",
    ),
    Mutation(
        "what had no room is told to be outranked",
        "reasons",
        "if room is not None and before <",
        "if room is None and before <",
        "explain",
    ),
    Mutation("a change undoes one rule alone", "remedy", "self._undo(case, stage, position)", "break", "explain"),
    Mutation("a slate exceeds a cap", "past", "if bits and left < slots:", "if False:", "decide_properties"),
    Mutation(
        "slot odds forget the exploring offers",
        "slate",
        "if action in beside[kind]:",
        "if False:",
        "slot_probabilities",
    ),
    Mutation(
        "rounding loses probability",
        "domain",
        "(rest if offer == self.champion else 0)",
        "0",
        "engine assignment_and_draw",
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The decision core and what its tests need, to be spoilt."""
    root = tmp_path_factory.mktemp("mutant")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    (root / "tests" / "decisioning").mkdir()
    for test in (ROOT / "tests" / "decisioning").glob("test_*.py"):
        shutil.copy(test, root / "tests" / "decisioning")
    return root


def run(root: Path, tests: str) -> subprocess.CompletedProcess:
    files = [f"tests/decisioning/test_{name}.py" for name in tests.split()]
    options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=line", "--no-header"]
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, *files],
        cwd=root,
        env={**os.environ, "SEGUE_NATIVE": OFF},  # an extension would hide what is spoilt, wherever it is found
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_unspoilt_copy_passes_and_is_what_the_tests_import(copy):
    where = "import decisioning; print(decisioning.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=copy, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(copy)
    tests = {name for mutation in ALWAYS for name in mutation.tests.split()}
    assert run(copy, " ".join(sorted(tests))).returncode == 0


@pytest.mark.parametrize(
    "mutation",
    [
        *(pytest.param(one, id=one.what) for one in ALWAYS),
        *(pytest.param(one, id=one.what, marks=pytest.mark.heavy) for one in HEAVY),
    ],
)
def test_some_test_dies_when(copy, mutation):
    file = copy / "decisioning" / f"{mutation.file}.py"
    sound = file.read_text()
    assert sound.count(mutation.old) == 1, "the mutation no longer fits the code: mend it here"
    file.write_text(sound.replace(mutation.old, mutation.new))
    try:
        result = run(copy, mutation.tests)
    finally:
        file.write_text(sound)
    assert result.returncode == 1, (
        f"no test noticed that {mutation.what}:\n{result.stdout[-2000:]}{result.stderr[-500:]}"
    )
    assert " failed" in result.stdout

"""The figures of learning and evidence, beside their targets: `make bench-learning`.

Each `benchmarks/learning_<part>.py` measures its own; this asks them all, prints a table and writes
benchmarks/results/learning.json. A part that is missing or fails leaves its figures empty, is said, and fails the run;
`--only gate` measures one part anew and keeps the rest of the file.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

RESULTS = Path(__file__).parent / "results" / "learning.json"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is measured against."""

    part: str
    what: str
    limit: float
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


TARGETS: Mapping[str, Target] = {
    "captured_share": Target("simulator", "of the way from static priority to the look-ahead reference", 0.60),
    "vs_propensity_argmax": Target("simulator", "over propensity-argmax", 0.15),
    "vs_lints": Target("simulator", "over LinTS", 0.0),
    "vs_vw": Target("simulator", "over Vowpal Wabbit", 0.0),
    "exploration_cost": Target("simulator", "of greedy's value that exploration costs", 0.03, at_most=True),
    "gate_null_pass_rate": Target("gate", "of challengers worth the same pass", 0.05, at_most=True),
    "gate_lift15_pass_rate": Target("gate", "of challengers worth 15 % more pass", 0.80),
    "lower_bound_coverage": Target("gate", "of lower bounds lie below the truth", 0.93),
    "train_1m_s": Target("train", "s to train on and evaluate a million decisions", 300.0, at_most=True),
    "train_1m_peak_gb": Target("train", "GB at most, meanwhile", 4.0, at_most=True),
    "whatif_1m_s": Target("whatif", "s to decide a million recorded decisions again", 120.0, at_most=True),
}
PARTS = tuple(dict.fromkeys(target.part for target in TARGETS.values()))


def sibling(name: str) -> ModuleType:
    """A module beside this one, whether this runs as a script or with `-m benchmarks.learning`."""
    return import_module(f"{__package__}.{name}" if __package__ else name)


def measured(part: str, quick: bool) -> tuple[dict[str, Any], str | None]:
    """What a part measures, and what went wrong instead."""
    try:
        module = sibling(f"learning_{part}")
    except ModuleNotFoundError as error:
        return {}, f"{part}: {error}"
    print(f"{part}: {(module.__doc__ or '').partition(chr(10))[0]}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        found = dict(module.measure(quick=quick))
    except Exception as error:  # noqa: BLE001  one part that fails must not lose the others' figures
        return {}, f"{part}: {type(error).__name__}: {error}"
    lacking = [name for name, target in TARGETS.items() if target.part == part and name not in found]
    found[f"{part}_seconds"] = round(time.perf_counter() - started, 1)
    return found, f"{part}: it does not measure {', '.join(lacking)}" if lacking else None


def table(found: Mapping[str, Any]) -> str:
    """One line a figure: its value, its target, and whether it is met."""
    lines = []
    for name, target in TARGETS.items():
        value = found.get(name)
        said = "not measured" if value is None else f"{value:.4g}"
        note = "" if value is None else "met" if target.is_met(value) else "MISSED"
        sign = "≤" if target.at_most else "≥"
        lines.append(f"{name:<22}{said:>13}  {sign} {target.limit:<6g}{note:<8}{target.what}".rstrip())
    return "\n".join(lines)


def run(parts: Sequence[str], quick: bool, before: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of these parts, and those of the others as they were `before`."""
    problems, found = [], dict(before)
    for part in parts:
        figures, problem = measured(part, quick)
        found |= {name: None for name, target in TARGETS.items() if target.part == part} | figures
        problems += [problem] if problem else []
    return {**found, "quick": quick, "machine": sibling("timing").machine(), "problems": problems}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="small and rough, in a minute; writes nothing")
    words.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    chosen = words.parse_args()
    before = json.loads(RESULTS.read_text()) if chosen.only and RESULTS.is_file() else {}
    result = run(chosen.only or PARTS, chosen.quick, before)
    print(table(result))
    for problem in result["problems"]:
        print(f"not measured: {problem}", file=sys.stderr)
    if not chosen.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    if result["problems"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Figures of several parts, beside their targets, in one file: what `benchmarks/learning.py` and `pipeline.py` share.

Each `benchmarks/<name>_<part>.py` measures its own with `measure(quick=False)`. A part that is missing or fails leaves
its figures empty, is said, and fails the run; `--only PART` measures one part anew and keeps the rest of the file.
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

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is measured against. `limit`: None where it is only told."""

    part: str
    what: str
    limit: float | None
    at_most: bool = False
    aim: float | None = None
    """Better than the limit: what one would like, and nothing fails without."""

    def is_met(self, value: float) -> bool:
        return self.limit is None or (value <= self.limit if self.at_most else value >= self.limit)


@dataclass(frozen=True, slots=True)
class Assembly:
    name: str
    targets: Mapping[str, Target]
    apart: frozenset[str] = frozenset()
    """Parts that are measured only where they are named; else their figures stay as they were."""

    @property
    def file(self) -> Path:
        return RESULTS / f"{self.name}.json"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(target.part for target in self.targets.values()))

    def measured(self, part: str, quick: bool) -> tuple[dict[str, Any], str | None]:
        """What a part measures, and what went wrong instead."""
        try:
            module = sibling(f"{self.name}_{part}")
        except ModuleNotFoundError as error:
            return {}, f"{part}: {error}"
        print(f"{part}: {(module.__doc__ or '').partition(chr(10))[0]}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            found = dict(module.measure(quick=quick))
        except Exception as error:  # noqa: BLE001  one part that fails must not lose the others' figures
            return {}, f"{part}: {type(error).__name__}: {error}"
        lacking = [name for name, target in self.targets.items() if target.part == part and name not in found]
        found[f"{part}_seconds"] = round(time.perf_counter() - started, 1)
        return found, f"{part}: it does not measure {', '.join(lacking)}" if lacking else None

    def run(self, parts: Sequence[str], quick: bool, before: Mapping[str, Any]) -> dict[str, Any]:
        """The figures of these parts, and those of the others as they were `before`."""
        problems, found = [], dict(before)
        for part in parts:
            figures, problem = self.measured(part, quick)
            found |= {name: None for name, target in self.targets.items() if target.part == part} | figures
            problems += [problem] if problem else []
        return {**found, "quick": quick, "machine": sibling("timing").machine(), "problems": problems}

    def table(self, found: Mapping[str, Any]) -> str:
        """One line a figure: its value (the median, where it has a spread), its target, and whether it is met."""
        return "\n".join(self._line(name, target, found.get(name)) for name, target in self.targets.items())

    def _line(self, name: str, target: Target, figure: Any) -> str:
        value = figure["median"] if isinstance(figure, Mapping) else figure
        said = "not measured" if value is None else f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}"
        note = "" if value is None or target.limit is None else "met" if target.is_met(value) else "MISSED"
        sign = "" if target.limit is None else f"{'≤' if target.at_most else '≥'} {target.limit:g}"
        aim = "" if target.aim is None else f"(aim {target.aim:g})"
        return f"{name:<26}{said:>13}  {sign:<9}{aim:<11}{note:<8}{target.what}{_spread(figure)}".rstrip()

    def main(self, description: str) -> None:
        words = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        words.add_argument("--quick", action="store_true", help="small and rough; writes nothing")
        words.add_argument("--only", choices=self.parts, action="append", help="one part; repeatable")
        chosen = words.parse_args()
        parts = chosen.only or [part for part in self.parts if part not in self.apart]
        keeps = set(parts) != set(self.parts) and self.file.is_file()
        result = self.run(parts, chosen.quick, json.loads(self.file.read_text()) if keeps else {})
        print(self.table(result))
        for problem in result["problems"]:
            print(f"not measured: {problem}", file=sys.stderr)
        if not chosen.quick:
            self.file.parent.mkdir(exist_ok=True)
            self.file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        if result["problems"]:
            sys.exit(1)


def _spread(figure: Any) -> str:
    return f" ({figure['low']:g} to {figure['high']:g})" if isinstance(figure, Mapping) else ""


def sibling(name: str) -> ModuleType:
    """A module beside this one, whether it runs as a script or with `-m benchmarks.…`."""
    return import_module(f"{__package__}.{name}" if __package__ else name)

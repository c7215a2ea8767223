"""Timing that a busy machine can bear: figures interleaved round by round in one run, medians with their spread."""

import gc
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Something to time. `run` does it `times` over; the result is told in units of `unit` seconds for each time."""

    name: str
    run: Callable[[], object]
    times: int = 1
    target: float | None = None
    unit: float = 1e-6
    wall: bool = False
    """By the clock on the wall, for what uses several threads; else by the time of the CPU."""


@dataclass(frozen=True)
class Timing:
    median: float
    low: float
    high: float


def measure(figures: tuple[Figure, ...], repeats: int) -> dict[str, Timing]:
    """Every figure once in each round, so that whatever else the machine does bears on all alike."""
    gc.collect()
    gc.freeze()  # as the service does once a release is loaded
    rounds = [{figure.name: _timed(figure) for figure in figures} for _ in range(repeats)]
    gc.unfreeze()
    return {figure.name: _spread([found[figure.name] for found in rounds]) for figure in figures}


def _timed(figure: Figure) -> float:
    """Once untimed, once timed: in service, what a decision reads has just been read from the network."""
    figure.run()
    clock = time.perf_counter if figure.wall else time.process_time
    start = clock()
    figure.run()
    return (clock() - start) / figure.times / figure.unit


def _spread(values: list[float]) -> Timing:
    return Timing(median(values), min(values), max(values))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor()


def table(figures: tuple[Figure, ...], found: Mapping[str, Timing], remarks: Mapping[str, str]) -> str:
    """One line a figure: median, spread, target, and whether it is met."""
    lines = [f"{'figure':<28}{'median':>10}{'low':>10}{'high':>10}{'target':>10}   "]
    for figure in figures:
        timing = found[figure.name]
        target = "" if figure.target is None else f"≤ {figure.target:g}"
        note = "" if figure.target is None else "met" if timing.median <= figure.target else "MISSED"
        numbers = "".join(f"{number:>10.3g}" for number in (timing.median, timing.low, timing.high))
        lines.append(f"{figure.name:<28}{numbers}{target:>10}   {remarks.get(figure.name, note)}".rstrip())
    return "\n".join(lines)


def figure(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median and spread of a measured figure."""
    rounded = [_significant(value, digits) for value in (median(values), min(values), max(values))]
    return dict(zip(("median", "low", "high"), rounded, strict=True)) | {"runs": len(values)}


def _significant(value: float, digits: int) -> float:
    return round(value, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0.0


def say(text: str) -> None:
    """Where a benchmark is; its figures alone are for standard output."""
    print(text, file=sys.stderr, flush=True)

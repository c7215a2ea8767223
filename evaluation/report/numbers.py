"""How a report writes numbers: as many digits as their intervals deserve, and never a 0 that isn't one."""

from collections.abc import Iterable, Mapping
from math import ceil, log10
from statistics import median
from typing import Any

MOST_DIGITS, MINUS = 6, "\u2212"
NOT_SHOWN = "not shown"


def digits_of(halves: Iterable[float]) -> int:
    """Decimals that show two significant digits of a typical half-width of an interval."""
    known = [half for half in halves if half > 0]
    return min(MOST_DIGITS, max(0, 1 - ceil(log10(median(known))) + 1)) if known else 4


def figure(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """A number with `digits` decimals; one that would read as 0 keeps two significant digits, whatever their place."""
    if value is None:
        return NOT_SHOWN
    value += 0.0  # which turns -0.0 into 0.0
    sign = "+" if signed and value else ""
    told = f"{value:{sign},.{digits}f}"
    if value and not any(digit in told for digit in "123456789"):
        told = f"{value:{sign}.1e}"
    return told.replace("-", MINUS) if value < 0 or "e-" not in told else told.replace("e-", f"e{MINUS}")


def interval(low: float | None, high: float | None, digits: int = 4, *, signed: bool = False) -> str:
    if low is None or high is None:
        return "not bounded"
    return f"{figure(low, digits, signed=signed)} to {figure(high, digits, signed=signed)}"


def half(found: Mapping[str, Any], prefix: str = "") -> float:
    """Half the width of the interval of a record; 0 where it has none."""
    low, high = found.get(f"{prefix}low"), found.get(f"{prefix}high")
    return 0.0 if low is None or high is None else (high - low) / 2


def give_or_take(found: Mapping[str, Any], digits: int = 4) -> str:
    """`value ± half the interval's width`."""
    return f"{figure(found['value'], digits, signed=True)} ± {figure(half(found), digits)}"


def percent(value: float, digits: int = 0, *, signed: bool = False) -> str:
    return f"{figure(100 * value, digits, signed=signed)} %"

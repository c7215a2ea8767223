"""Numbers as explanations print them: rounded up so that what is printed is enough; apart where they differ."""

from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Context
from itertools import count
from math import ceil, ulp


def least(enough: Callable[[float], bool], guess: float) -> float:
    """The least number that is enough, given one within some roundings of it."""
    step = ulp(guess)
    number = guess - 8 * step
    for tried in count():
        if enough(number):
            break
        number += step
        step *= 2 if tried > 64 else 1  # so near zero that a rounding is a great step
    return number


def rounded_up(number: float, digits: int = 4) -> Iterator[str]:
    """A number as text, rounded up to ever more digits."""
    for precision in range(digits, 18):
        yield f"{float(Context(precision, ROUND_CEILING).create_decimal_from_float(number)):.{precision}g}"
    yield repr(number)


def span_up(wait: float, enough: Callable[[float], bool]) -> tuple[str, float]:
    """A duration as people say it, in its largest fitting unit, and the seconds that it says: at least `wait`."""
    unit, size = next((one for one in (("d", 86_400), ("h", 3_600), ("min", 60)) if wait >= one[1]), ("s", 1))
    if unit == "s" and enough(float(ceil(wait))):
        return f"{ceil(wait)} s", float(ceil(wait))
    for text in rounded_up(wait / size, digits=max(3, len(str(int(wait / size))))):
        if float(text) * size >= wait and enough(float(text) * size):
            return f"{text} {unit}", float(text) * size
    return f"{wait!r} s", wait


def apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart."""
    for digits in range(4, 17):
        if f"{one:.{digits}g}" != f"{other:.{digits}g}":
            return f"{one:.{digits}g}", f"{other:.{digits}g}"
    return f"{one:.4g}", f"{other:.4g}"

"""What a feature is, and the few shapes in which most of them come."""

from collections.abc import Callable
from dataclasses import dataclass

import ibis.expr.types as ir

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Value

HOUR = 3_600.0
DAY = 24 * HOUR

AFTER_ONE_MISSED_BUILD = 36 * HOUR
"""For what changes by the day: a nightly snapshot that failed once leaves half a day to mend it."""
AFTER_DAYS = 3 * DAY
"""For what changes by the week: 28-day windows, the plan."""
AFTER_A_WEEK = 7 * DAY
"""For what changes by the month: 90-day windows, tastes."""
AFTER_A_MONTH = 30 * DAY
"""For what hardly ever changes: a market, an age band."""

Of = Callable[[ir.Table], ir.Value]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what it is called, whose it is, what it means, and how it is computed."""

    spec: FeatureSpec
    owner: str
    meaning: str
    of_events: Of | None = None
    """An aggregate over the events seen before the observation (`portable` says which columns there are)."""
    of_user: Of | None = None
    """Or a column over the observation with its user: `as_of`, `signup_at`, `born_at`, `market`."""
    when_no_events: Value = None
    """The value of a known user of whom no event was seen: a count is 0 then, a state unknown."""

    @property
    def name(self) -> str:
        return self.spec.name


def count(name: str, unit: str, owner: str, meaning: str, of: Of, max_age: float, *, counts: str = "") -> Feature:
    """A whole number that is 0 for whoever did nothing. `counts`: the type of event that moves it between snapshots."""
    spec = FeatureSpec(name, FeatureType.INT, (), 0, max_age, unit=unit, counts=counts)
    return Feature(spec, owner, meaning, of, None, 0)


def minutes(name: str, owner: str, meaning: str, of: Of, max_age: float) -> Feature:
    """A time spent, 0 for whoever spent none."""
    spec = FeatureSpec(name, FeatureType.FLOAT, (), 0.0, max_age, unit="minutes")
    return Feature(spec, owner, meaning, of, None, 0.0)


def days_since(name: str, owner: str, meaning: str, of: Of, max_age: float) -> Feature:
    """Days, with their fraction; missing where it never happened."""
    return Feature(FeatureSpec(name, FeatureType.FLOAT, max_age=max_age, unit="days"), owner, meaning, of)


def ratio(name: str, unit: str, owner: str, meaning: str, of: Of, max_age: float) -> Feature:
    """One quantity by another; missing where there is nothing to divide by."""
    return Feature(FeatureSpec(name, FeatureType.FLOAT, max_age=max_age, unit=unit), owner, meaning, of)


def flag(
    name: str, owner: str, meaning: str, of: Of, max_age: float, *, empty: bool | None, blocks: bool = False
) -> Feature:
    """Yes or no; `empty` for whoever did nothing. `blocks`: guards that read it fail closed where it is missing."""
    spec = FeatureSpec(name, FeatureType.BOOL, max_age=max_age, blocks_if_missing=blocks)
    return Feature(spec, owner, meaning, of, None, empty)

"""The only building blocks that feature expressions use, because they mean the same on every engine.

What differs silently between DuckDB, Spark and BigQuery, and so never appears in a definition: `asof_join`, `delta` in
units, `epoch_seconds` of a fraction of a second, `hash`, numbers turned into text, division by zero, `nunique` over a
window, medians and quantiles, and arrays. A set is therefore its bit mask here.

Expressions are aggregates over `seen`: one row per observation and event before it, with the columns `type`, `item`,
`amount`, `hour` and `age` (whole seconds from the event to the observation), and `at`.
"""

import ibis
import ibis.expr.types as ir

DAY_SECONDS = 86_400

MOMENT = "timestamp('UTC')"
SEEN = ibis.table(
    {
        **{"user_id": "string", "at": MOMENT, "type": "string", "item": "string"},
        **{"amount": "float64", "hour": "int64", "age": "int64"},
    },
    "seen",
)
"""What aggregates are written over, where only their shape matters."""
USER = ibis.table({"as_of": MOMENT, "signup_at": MOMENT, "born_at": MOMENT, "market": "string"}, "user")
"""What columns of the user's own record are written over."""


def seconds(moment: ir.TimestampValue) -> ir.IntegerValue:
    """Whole seconds since 1970. Without the truncation engines round a fraction differently."""
    return moment.truncate("s").epoch_seconds().cast("int64")


def is_event(seen: ir.Table, type: str, days: int | None = None, item: str | None = None) -> ir.BooleanValue:
    """Whether a row is of a type (and item), in the last `days` days before the observation."""
    chosen = seen.type == type
    if item is not None:
        chosen = chosen & (seen.item == item)
    return chosen if days is None else chosen & (seen.age <= days * DAY_SECONDS)


def total(value: ir.NumericValue, where: ir.BooleanValue) -> ir.NumericScalar:
    """The sum where a condition holds; 0 where it never does. A sum of `ifelse` is one pass on every engine."""
    return ibis.ifelse(where, value, 0).sum()


def thousandths(seen: ir.Table) -> ir.IntegerColumn:
    """`amount` as a whole number: a sum of those is the same in whatever order an engine's threads add them up."""
    return (seen.amount * 1000.0).round().cast("int64")


def count(seen: ir.Table, type: str, days: int | None = None, item: str | None = None) -> ir.IntegerScalar:
    return total(ibis.literal(1, "int64"), is_event(seen, type, days, item))


def amount(seen: ir.Table, type: str, days: int | None = None) -> ir.FloatingScalar:
    """The total of `amount` (minutes, or how many) over events of a type, to the thousandth."""
    return total(thousandths(seen), is_event(seen, type, days)).cast("float64") / 1000.0


def whole_amount(seen: ir.Table, type: str, days: int | None = None) -> ir.IntegerScalar:
    """The total of `amount` rounded down. A fraction that is cast to a whole number is cut here and rounded there."""
    return total(thousandths(seen), is_event(seen, type, days)) // 1000


def at_least_none(number: ir.IntegerScalar) -> ir.IntegerScalar:
    """0 for what is below it, as where more was given up than the events show to have been taken up."""
    return ibis.ifelse(number < 0, 0, number)


def distinct_items(seen: ir.Table, type: str, days: int) -> ir.IntegerScalar:
    return seen.item.nunique(where=is_event(seen, type, days))


def active_days(seen: ir.Table, type: str, days: int) -> ir.IntegerScalar:
    """On how many of the `days` 24-hour spans that end at the observation something happened.

    What is exactly `days` old would begin one span more, so this window is without its edge.
    """
    within = is_event(seen, type) & (seen.age < days * DAY_SECONDS)
    return ibis.ifelse(within, seen.age // DAY_SECONDS, ibis.null("int64")).nunique()


def ever(seen: ir.Table, type: str, item: str | None = None) -> ir.BooleanScalar:
    return count(seen, type, item=item) > 0


def state(seen: ir.Table, type: str, words: tuple[str, ...]) -> ir.StringScalar:
    """The item of the latest event of a type, such as the plan; missing where that is none of the declared `words`.

    Of two at the very same moment the word that is declared later counts. (`argmax` would do the rest, but of two that
    tie each engine takes another.)
    """
    latest = seen.at.max(where=is_event(seen, type))
    cases = [(seen.at.max(where=is_event(seen, type, item=word)) == latest, word) for word in reversed(words)]
    return ibis.cases(*cases)


def seconds_since_last(seen: ir.Table, type: str, item: str | None = None) -> ir.IntegerScalar:
    return seen.age.min(where=is_event(seen, type, item=item))


def days_since_last(seen: ir.Table, type: str, item: str | None = None) -> ir.FloatingScalar:
    return seconds_since_last(seen, type, item).cast("float64") / float(DAY_SECONDS)


def share(part: ir.NumericScalar, whole: ir.NumericScalar) -> ir.FloatingScalar:
    """part ÷ whole, missing where the whole is 0."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)


def bits(*flags: ir.BooleanScalar) -> ir.IntegerScalar:
    """A set as its bit mask, in the order of its declared values. A flag that is missing is a member that is absent."""
    return sum((ibis.ifelse(flag.fill_null(False), 1 << bit, 0) for bit, flag in enumerate(flags)), ibis.literal(0))


def band(number: ir.NumericValue, names: tuple[str, ...], starts: tuple[int, ...]) -> ir.StringValue:
    """The name of the band that a number falls in: names[0] below starts[0], names[i] from starts[i - 1] on."""
    cases = [(number < start, name) for start, name in zip(starts, names, strict=False)]
    return ibis.cases(*cases, (number.notnull(), names[-1]))

"""A condition as SQL for DuckDB: what `holds` says of one user, `WHERE` says of a table with one column a feature.

A missing value is NULL, so that a test on it is NULL and selects nobody, in both polarities. Columns hold what Python
does: VARCHAR for enums and texts, VARCHAR[] for sets, epoch seconds (DOUBLE) for times; numbers are never NaN, which
DuckDB takes for the greatest of all. Where a value is needed, write `(…) IS TRUE`.
"""

from collections.abc import Iterable

from decisioning.conditions import VERSION_PATTERN, AllOf, Condition, Op, Test, version

MOST_PARTS = 8
"""How many numbers a version may have: shorter ones are filled up with zeros."""

_COMPARISONS = {
    Op.MIN: ">=",
    Op.MAX: "<=",
    Op.ABOVE: ">",
    Op.BELOW: "<",
    Op.WITHIN: "<=",
    Op.OLDER_THAN: ">",
    Op.VERSION_MIN: ">=",
    Op.VERSION_BELOW: "<",
}


def to_sql(condition: Condition, now: float) -> str:
    """A boolean expression that is true where the condition holds at `now` (epoch seconds), else false or NULL."""
    if isinstance(condition, Test):
        return _test(condition, now)
    every = isinstance(condition, AllOf)
    if not condition.children:
        return literal(every)
    return f"({(' AND ' if every else ' OR ').join(to_sql(child, now) for child in condition.children)})"


def quoted(name: str) -> str:
    """A name as SQL writes it: any text can be one, and never becomes more."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | float) -> str:
    """A constant of the type that Python has: BOOLEAN, BIGINT, DOUBLE (to the last bit) or VARCHAR."""
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():
            return f"CAST('{value!r}' AS DOUBLE)"  # a bare 0.1 would be a DECIMAL
    return "'" + value.replace("'", "''") + "'"


def _test(test: Test, now: float) -> str:
    name = quoted(test.feature)
    match test.op:
        case Op.MISSING:
            return f"{name} IS NULL"
        case Op.PRESENT:
            return f"{name} IS NOT NULL"
        case Op.IS:
            return f"{name} IN ({_listed(test.value)})" if test.value else literal(False)
        case Op.IS_NOT:
            return f"{name} NOT IN ({_listed(test.value)})" if test.value else f"{name} IS NOT NULL"
        case Op.HAS:
            return f"list_has_all({name}, {_names(test.value)})"
        case Op.HAS_ANY:
            return f"list_has_any({name}, {_names(test.value)})"
        case Op.LACKS:
            return f"NOT list_has_any({name}, {_names(test.value)})"
        case Op.WITHIN | Op.OLDER_THAN:
            return f"{literal(float(now))} - {name} {_COMPARISONS[test.op]} {literal(test.value)}"
        case Op.VERSION_MIN | Op.VERSION_BELOW:
            least = version(test.value) or ()
            numbers = [*least, *[0] * (MOST_PARTS - len(least))]
            return f"{_version(name)} {_COMPARISONS[test.op]} {numbers}"
    return f"{name} {_COMPARISONS[test.op]} {literal(test.value)}"


def _listed(values: Iterable[str | float]) -> str:
    return ", ".join(map(literal, values))


def _names(values: Iterable[str]) -> str:
    return f"CAST([{_listed(values)}] AS VARCHAR[])"  # an empty list has no type of its own


def _version(name: str) -> str:
    """The numbers that a version starts with, as a list that compares like `conditions.version`; NULL without any."""
    numbers = f"nullif(regexp_extract({name}, {literal('^' + VERSION_PATTERN)}, 1), '')"
    return f"list_resize(CAST(string_split({numbers}, '.') AS INTEGER[]), {MOST_PARTS}, 0)"

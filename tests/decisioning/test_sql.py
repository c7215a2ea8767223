"""Conditions as SQL: what `WHERE` selects is what holds in Python, in the index, and to a naive interpreter."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite, nextafter
from random import Random

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_conditions import FEATURES, NOW, conditions, facts, naive
from random_population import random_condition, random_user

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test, holds, negate
from decisioning.domain import Value
from decisioning.index import build_index
from decisioning.sql import literal, quoted, to_sql

COLUMNS = {
    FeatureType.BOOL: pa.bool_(),
    FeatureType.INT: pa.int64(),
    FeatureType.FLOAT: pa.float64(),
    FeatureType.ENUM: pa.string(),
    FeatureType.SET: pa.list_(pa.string()),
    FeatureType.TIME: pa.float64(),
    FeatureType.TEXT: pa.string(),
}


def table(users: Sequence[Mapping[str, Value]], features: Mapping[str, FeatureSpec] = FEATURES) -> pa.Table:
    """One row a user, in their order, with every feature as a column."""
    columns: dict[str, pa.Array] = {"row": pa.array(range(len(users)))}
    for name, spec in features.items():
        cells = [user.get(name) for user in users]
        plain = [sorted(cell) if isinstance(cell, frozenset) else cell for cell in cells]
        columns[name] = pa.array(plain, COLUMNS[spec.type])
    return pa.table(columns)


def selected(several: Sequence[Condition], rows: pa.Table) -> list[list[bool]]:
    """For each user, in order: which of the conditions hold, by SQL."""
    wanted = ", ".join(f"({to_sql(condition, NOW)}) IS TRUE" for condition in several)
    with duckdb.connect() as duck:
        duck.register("users", rows)
        return [list(row) for row in duck.execute(f"SELECT {wanted} FROM users ORDER BY row").fetchall()]


def test_python_the_index_sql_and_a_naive_interpreter_agree_on_300_conditions_and_2000_users():
    random = Random(20)
    several = [random_condition(random) for _ in range(300)]
    users = [random_user(random) for _ in range(2000)]
    by_sql = selected(several, table(users))
    index, mismatches = build_index(several, FEATURES), []
    for user, row in zip(users, by_sql, strict=True):
        alive, _ = index.evaluate(user, NOW)
        for n, condition in enumerate(several):
            answers = {row[n], bool(alive >> n & 1), holds(condition, user, NOW), naive(condition, user, NOW)}
            if len(answers) > 1:
                mismatches.append((condition, user))
    assert not mismatches
    share = sum(map(sum, by_sql)) / (300 * 2000)
    assert 0.2 < share < 0.8  # they do say yes and no


@settings(deadline=None, max_examples=50)
@given(st.lists(conditions, min_size=1, max_size=5), st.lists(facts, min_size=1, max_size=5))
@example([AllOf(()), AnyOf(())], [{}])
def test_sql_and_a_naive_interpreter_agree_on_whatever_hypothesis_thinks_of(several, users):
    several = [one for condition in several for one in (condition, negate(condition))]
    assert selected(several, table(users)) == [[naive(one, user, NOW) for one in several] for user in users]


def test_a_missing_value_selects_nobody_in_either_polarity_and_missing_selects_it():
    tests = [Test("tier", Op.IS, ("free",)), Test("tier", Op.IS_NOT, ("free",)), Test("addons", Op.LACKS, ("hifi",))]
    several = [*tests, Test("tier", Op.MISSING), Test("tier", Op.PRESENT)]
    assert selected(several, table([{}])) == [[False, False, False, True, False]]


ODD_VERSIONS = ["8.9.0-beta", "v8.9", "V8.9", "", "abc", "8.", ".8", "8..9", "999999999.1", "1234567890", "٨.٩", " 8"]
ODD_VERSIONS += ["8.0.0.0", "0", "1.2.3.4.5.6.7.8.9"]


@pytest.mark.parametrize("least", ["8.9", "8.9.0", "0", "1.2.3.4.5.6.7.8", "1.2.3.4.5.6.7.9", "123456789", "nonsense"])
def test_texts_that_are_hardly_versions_mean_the_same_in_sql(least):
    several = [Test("app", op, least) for op in (Op.VERSION_MIN, Op.VERSION_BELOW)]
    users: list[dict[str, Value]] = [{}, *({"app": text} for text in ODD_VERSIONS)]
    assert selected(several, table(users)) == [[holds(one, user, NOW) for one in several] for user in users]


def test_no_values_at_all_mean_the_same_in_sql():
    several = [Test("tier", Op.IS, ()), Test("tier", Op.IS_NOT, ())]
    several += [Test("addons", op, ()) for op in (Op.HAS, Op.HAS_ANY, Op.LACKS)]
    users: list[dict[str, Value]] = [{}, {"tier": "free", "addons": frozenset()}, {"addons": frozenset({"hifi"})}]
    assert selected(several, table(users)) == [[naive(one, user, NOW) for one in several] for user in users]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
@example('x" OR 1=1 --', "' OR TRUE; DROP TABLE rows; --")
@example("o'neil", "\\'\0\n;")
@settings(deadline=None, max_examples=25)
def test_names_and_values_never_become_sql(name, text):
    tests = [Test(name, op, (text,)) for op in (Op.IS, Op.IS_NOT)]
    with duckdb.connect() as duck:
        duck.execute(f"CREATE TABLE one ({quoted(name)} VARCHAR)")
        duck.execute("INSERT INTO one VALUES (?)", [text])
        found = duck.execute(f"SELECT {', '.join(to_sql(test, NOW) for test in tests)} FROM one").fetchall()
    assert found == [(True, False)]


constants = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1) | st.booleans()


@given(st.lists(constants, min_size=1))
@settings(deadline=None, max_examples=25)
def test_a_literal_is_the_constant_to_the_last_bit_and_of_its_type(constants):
    with duckdb.connect() as duck:
        [found] = duck.execute(f"SELECT {', '.join(map(literal, constants))}").fetchall()
    assert [(type(one), one) for one in found] == [(type(one), one) for one in constants]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
@settings(deadline=None, max_examples=25)
def test_a_number_on_or_next_to_its_threshold_falls_on_the_same_side(thresholds):
    several = [Test("minutes", op, t) for t in thresholds for op in (Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW)]
    numbers = [number for t in thresholds for number in (t, nextafter(t, inf), nextafter(t, -inf)) if isfinite(number)]
    users: list[dict[str, Value]] = [{"minutes": number} for number in numbers]
    assert selected(several, table(users)) == [[naive(one, user, NOW) for one in several] for user in users]

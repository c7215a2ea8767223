import ast
from pathlib import Path

import ibis
import pytest
import sqlglot

import features.definitions as definitions
from features.compute import expression

USERS = ibis.table(
    {"user_id": "string", "signup_at": "timestamp('UTC')", "born_at": "timestamp('UTC')", "market": "string"}, "users"
)
EVENTS = ibis.table(
    {
        **{"user_id": "string", "at": "timestamp('UTC')", "type": "string"},
        **{"item": "string", "amount": "float64", "hour": "int64"},
    },
    "events",
)
OBSERVATIONS = ibis.table({"user_id": "string", "as_of": "timestamp('UTC')", "observation": "int64"}, "observations")


@pytest.mark.parametrize("dialect", ["duckdb", "bigquery"])
def test_all_features_compile_into_sql_that_parses(dialect):
    sql = str(ibis.to_sql(expression(USERS, EVENTS, OBSERVATIONS), dialect=dialect))
    columns = sqlglot.parse_one(sql, read=dialect).named_selects
    assert set(definitions.SCHEMA.names) < set(columns)


def test_definitions_use_only_portable_helpers():
    """Besides `portable`, an expression may compare, add, take columns and fill nulls."""
    tree = ast.parse(Path(definitions.__file__).read_text())
    methods = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "p")
    }
    assert methods <= {"fill_null"}

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


DECLARED = sorted((Path(definitions.__file__).parent / "declared").glob("*.py"))
BUILDERS = {"Feature", "FeatureSpec", "count", "days_since", "flag", "minutes", "ratio"}


@pytest.mark.parametrize("file", DECLARED, ids=lambda file: file.stem)
def test_definitions_use_only_portable_helpers(file):
    """Besides `portable`, an expression may compare, add, take columns and fill nulls."""
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    methods = {
        call.attr
        for call in calls
        if isinstance(call, ast.Attribute) and not (isinstance(call.value, ast.Name) and call.value.id == "p")
    }
    assert methods <= {"fill_null"}
    assert {call.id for call in calls if isinstance(call, ast.Name)} <= BUILDERS

"""The same definitions as SQL for another engine, and on tables that live in Spark.

What comes back is what DuckDB gives (`tests/features/test_conformance.py` holds them together), save that a set is its
bit mask: `compute.feature_column` makes the typed column of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from decisioning.errors import UserError
from features.compute import expression
from features.definitions import FEATURES
from features.feature import Feature
from features.portable import MOMENT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DIALECTS = {"duckdb": "duckdb", "spark": "pyspark", "bigquery": "bigquery"}
"""What we call an engine, and what Ibis does."""

USERS = {"user_id": "string", "signup_at": MOMENT, "born_at": MOMENT, "market": "string"}
EVENTS = {"user_id": "string", "at": MOMENT, "type": "string", "item": "string", "amount": "float64", "hour": "int64"}
DECISIONS = {"decision_id": "string", "user_id": "string", "as_of": MOMENT}


@dataclass(frozen=True, slots=True)
class Sources:
    """What the tables are called there; in BigQuery also `dataset.events` or `project.dataset.events`."""

    users: str = "users"
    events: str = "events"
    observations: str | None = None
    """`decision_id`, `user_id`, `as_of`: the moments to tell the features of. None: all users, as of one moment."""


def features_sql(
    dialect: str,
    *,
    as_of: datetime | None = None,
    sources: Sources = Sources(),
    features: Sequence[Feature] = FEATURES,
) -> str:
    """One query: a row per observation, with its keys and a column per feature.

    Raises UserError for a dialect that isn't one of DIALECTS, a moment without a time zone, and where both or neither
    of a moment and a table of observations are given.
    """
    if dialect not in DIALECTS:
        raise UserError(f"Features are not written for {dialect}: {', '.join(DIALECTS)} are what there is.")
    users, events = _table(USERS, sources.users), _table(EVENTS, sources.events)
    observed = expression(users, events, _observations(users, sources, as_of), tuple(features)).drop("observation")
    if dialect == "spark":
        _load_spark()
    return str(ibis.to_sql(observed, dialect=DIALECTS[dialect])) + "\n"


def spark_features(
    session: "SparkSession",
    *,
    as_of: datetime | None = None,
    sources: Sources = Sources(),
    features: Sequence[Feature] = FEATURES,
) -> "DataFrame":
    """The features as a Spark data frame, from tables or views that the session knows by these names."""
    return session.sql(features_sql("spark", as_of=as_of, sources=sources, features=features))


def _observations(users: ir.Table, sources: Sources, as_of: datetime | None) -> ir.Table:
    """With `observation`, by which the engine tells them apart: no number, as engines may number twice, differently."""
    if (as_of is None) == (sources.observations is None):
        raise UserError("Features are told as of one moment for all users, or for a table of observations: name one.")
    if sources.observations is not None:
        asked = _table(DECISIONS, sources.observations)
        return asked.mutate(observation=asked.decision_id)
    if as_of.tzinfo is None:
        raise UserError("The moment needs a time zone, such as 2026-11-22T00:00:00+00:00.")
    signed_up = users.filter(users.signup_at < as_of)
    return signed_up.select("user_id", as_of=ibis.literal(as_of, MOMENT), observation=users.user_id)


def _table(columns: dict[str, str], name: str) -> ir.Table:
    *place, table = name.split(".")
    if not all((*place, table)) or len(place) > 2 or set(name) & set("`\"'"):
        raise UserError(f"{name} names no table: write table, dataset.table or project.dataset.table, without quotes.")
    return ibis.table(columns, table, **dict(zip(("database", "catalog"), reversed(place), strict=False)))


def _load_spark() -> None:
    """Ibis writes SQL for Spark only where PySpark is."""
    try:
        _ = ibis.pyspark
    except (ImportError, AttributeError):
        raise UserError("SQL for Spark needs PySpark: install the extra `segue[spark]`.") from None

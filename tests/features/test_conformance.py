"""Every definition means the same on DuckDB and on Spark, and becomes SQL that BigQuery has.

The listeners are made to hit what engines do differently: ties, missing items and amounts, nothing to divide by,
moments with fractions and just at the edge of a window, words that nobody declared, letters beyond ASCII, years before
1970.
"""

from datetime import UTC, datetime
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
import sqlglot.expressions as sge

from decisioning.catalog import FeatureType
from decisioning.errors import UserError
from features.compute import compute, feature_column
from features.declared.account import ADDONS, CONSENT, MARKETS, PAID, STUDENT, SWITCH, TIERS
from features.definitions import FEATURES, SCHEMA, defined
from features.engines import DIALECTS, Sources, features_sql, spark_features

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SECOND = 1_000_000
DAY = 86_400 * SECOND
AS_OF = int(NOW.timestamp()) * SECOND
"""Microseconds, as all moments here."""
LISTENERS = 60
ARTISTS = ("abba", "Björk", "björk", "坂本龍一", "Sigur Rós", "e\u0301toile", "étoile", "", " abba", None)
ITEMS = {
    "tier_change": (*TIERS, "duo", None),
    "student": (*STUDENT, None),
    "consent": CONSENT,
    "payment": (*PAID, None),
    **{f"addon_{name}": SWITCH for name in ADDONS},
    **dict.fromkeys(("play", "follow", "unfollow", "tour_nearby"), ARTISTS),
    "session": ("phone", "hifi", None),
    **dict.fromkeys(("ads", "audiobook", "skip_limit", "merch_click", "merch_purchase", "family_signal"), (None,)),
    **dict.fromkeys(("impression", "click", "convert", "dismiss", "trial_start"), ("trial", "annual")),
}
AGES = np.array(
    [-DAY, 0, 1, SECOND - 1, SECOND, *(days * DAY + past for days in (1, 7, 28, 90) for past in (-1, 0, 1, SECOND))]
)
"""Edges of every window, to the microsecond; the first two are not seen at all."""
MOMENT = pa.timestamp("us", "UTC")


def listeners() -> pa.Table:
    rng = np.random.default_rng(11)
    ids = [f"listener {number}" for number in range(LISTENERS - 1)] + ["sångare ☂"]
    signup = AS_OF - rng.integers(1, 400, LISTENERS) * DAY - rng.integers(0, SECOND, LISTENERS)
    signup[-3:-1] = AS_OF, AS_OF - 1  # one is not known yet, one only just
    born = AS_OF - rng.integers(16 * 365, 95 * 365, LISTENERS) * DAY - rng.integers(0, SECOND, LISTENERS)
    market = rng.choice([*MARKETS, None], LISTENERS)
    columns = {
        "signup_at": pa.array(signup, MOMENT),
        "born_at": pa.array(born, MOMENT),
        "market": pa.array(market, pa.string()),
    }
    return pa.table({"user_id": pa.array(ids, pa.string()), **columns})


def events(ids: list[str], rows: int = 6_000) -> pa.Table:
    rng = np.random.default_rng(12)
    type_ = rng.choice(list(ITEMS), rows)
    item = [ITEMS[one][rng.integers(len(ITEMS[one]))] for one in type_]
    age = np.where(
        rng.random(rows) < 0.5, rng.choice(AGES, rows), rng.integers(0, 120, rows) * DAY + rng.integers(0, DAY, rows)
    )
    amount = rng.choice([0.0, 0.0005, 0.1, 2.5, 3.5, 1e6, 12.3456789], rows)
    return pa.table(
        {
            "user_id": pa.array(
                rng.choice([*ids[:-6], ids[-1], "a stranger"], rows), pa.string()
            ),  # some never did anything
            "at": pa.array(AS_OF - age, MOMENT),
            "type": pa.array(type_, pa.string()),
            "item": pa.array(item, pa.string()),
            "amount": pa.array(amount, pa.float64(), mask=rng.random(rows) < 0.1),
            "hour": pa.array(rng.integers(0, 24, rows), pa.int64(), mask=rng.random(rows) < 0.1),
        }
    )


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    users = listeners()
    ids = users["user_id"].to_pylist()
    moments = [AS_OF, AS_OF - 7 * DAY, AS_OF - 28 * DAY + 1]
    observations = pa.table(
        {
            "decision_id": pa.array([f"d{number}" for number in range(3 * len(ids))], pa.string()),
            "user_id": pa.array(ids * 3, pa.string()),
            "as_of": pa.array(np.repeat(moments, len(ids)), MOMENT),
        }
    )
    return {"users": users, "events": events(ids), "observations": observations}


@pytest.fixture(scope="module")
def views(spark, tables, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("tables")
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
        spark.read.parquet(str(folder / f"{name}.parquet")).createOrReplaceTempView(name)
    return spark


def typed(frame: pd.DataFrame, key: str) -> pd.DataFrame:
    """An engine's answer as `compute` would have given it, in the order of a key."""
    columns = {feature.name: feature_column(feature.spec, frame[feature.name]) for feature in FEATURES}
    return pd.DataFrame({key: frame[key].astype("string"), **columns}).sort_values(key, ignore_index=True)


def held_together(ours: pd.DataFrame, theirs: pd.DataFrame, key: str) -> None:
    ours = ours.sort_values(key, ignore_index=True)
    assert ours[key].tolist() == theirs[key].tolist()
    for feature in FEATURES:
        exact = feature.spec.type is not FeatureType.FLOAT
        pd.testing.assert_series_equal(
            ours[feature.name], theirs[feature.name], check_exact=exact, rtol=1e-9, atol=1e-9
        )


def test_spark_gives_every_decision_the_features_that_duckdb_gives(views, tables):
    theirs = spark_features(views, sources=Sources(observations="observations")).toPandas()
    ours = compute(tables["users"], tables["events"], tables["observations"])
    held_together(ours, typed(theirs, "decision_id"), "decision_id")


def test_spark_gives_every_user_the_snapshot_that_duckdb_gives(views, tables):
    theirs = spark_features(views, as_of=NOW).toPandas()
    known = tables["users"].filter(pa.compute.less(tables["users"]["signup_at"], pa.scalar(AS_OF, MOMENT)))
    ours = compute(tables["users"], tables["events"], pd.DataFrame({"user_id": known["user_id"], "as_of": NOW}))
    assert len(ours) == LISTENERS - 1
    held_together(ours, typed(theirs, "user_id"), "user_id")


def test_the_listeners_are_nasty_enough(tables):
    """Every feature takes several values and is missing somewhere, and some plans changed twice at one moment."""
    found = compute(tables["users"], tables["events"], tables["observations"])
    for name in SCHEMA.names:
        values = found[name].map(lambda cell: tuple(cell) if isinstance(cell, list) else cell)
        assert values.dropna().nunique() > 1, name
        assert values.isna().any(), name
    states = tables["events"].to_pandas().query("type == 'tier_change'")
    assert states.duplicated(["user_id", "at"]).any()


TRAPS = {
    "the item of the latest of two that tie": lambda t: t.item.argmax(t.at),
    "a whole number divided": lambda t: t.hour.sum() / 1000.0,
    "a fraction cut": lambda t: t.amount.max().cast("int64"),
    "a hash": lambda t: t.item.hash().max(),
    "a number as text": lambda t: t.amount.min().cast("string"),
    "nothing to divide by": lambda t: t.amount.sum() / (t.hour.sum() - t.hour.sum()),
    "different items over a window": lambda t: t.mutate(n=t.item.nunique().over(group_by="type")).n.max(),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_may_not_be_used_really_differs_on_spark(spark, tmp_path, trap):
    """If one of these ever passes on both engines alike, it need not be banned any more."""
    from pyspark.errors import PySparkException

    table = pa.table(
        {
            "type": ["play", "play"],
            "item": ["abba", "robyn"],
            "at": pa.array([AS_OF - 1, AS_OF - 1], MOMENT),
            "amount": [3.5, 1e-7],
            "hour": [3, 4],
        }
    )
    pq.write_table(table, tmp_path / "trap.parquet")
    spark.read.parquet(str(tmp_path / "trap.parquet")).createOrReplaceTempView("trap")
    asked = TRAPS[trap](ibis.table(ibis.memtable(table).schema(), "trap"))
    connection = ibis.duckdb.connect()
    connection.con.register("trap", table)
    ours = connection.raw_sql(str(ibis.to_sql(asked, dialect="duckdb"))).fetchall()[0][0]
    connection.disconnect()
    try:
        theirs = spark.sql(str(ibis.to_sql(asked, dialect="pyspark"))).collect()[0][0]
    except PySparkException:
        return
    assert (type(ours), ours) != (type(theirs), theirs)


def test_the_sql_for_duckdb_gives_what_compute_gives(tables):
    connection = ibis.duckdb.connect()
    for name, table in tables.items():
        connection.con.register(name, table)
    theirs = connection.raw_sql(features_sql("duckdb", sources=Sources(observations="observations"))).df()
    connection.disconnect()
    ours = compute(tables["users"], tables["events"], tables["observations"])
    held_together(ours, typed(theirs, "decision_id"), "decision_id")


def test_the_sql_for_duckdb_gives_the_snapshot_of_those_who_had_signed_up(tables):
    connection = ibis.duckdb.connect()
    for name, table in tables.items():
        connection.con.register(name, table)
    theirs = connection.raw_sql(features_sql("duckdb", as_of=NOW)).df()
    connection.disconnect()
    known = [
        user
        for user, signed_up in zip(
            *(tables["users"][name].to_pylist() for name in ("user_id", "signup_at")), strict=True
        )
        if signed_up < NOW
    ]
    assert len(known) == LISTENERS - 1
    ours = compute(tables["users"], tables["events"], pd.DataFrame({"user_id": known, "as_of": NOW}))
    held_together(ours, typed(theirs, "user_id"), "user_id")


LACKS = (sge.Filter, sge.ArgMax, sge.Median, sge.Quantile, sge.PercentileCont, sge.ILike)
"""Parts of SQL that BigQuery has not, or not like this; sqlglot would read them all the same."""
HAS = {"IEEE_DIVIDE"}
"""Functions of BigQuery's that sqlglot has no class for."""


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_sql_for_bigquery_parses_and_uses_what_bigquery_has(feature):
    sql = features_sql("bigquery", as_of=NOW, sources=Sources("p.d.users", "p.d.events"), features=[feature])
    tree = sqlglot.parse_one(sql, read="bigquery")
    assert feature.name in tree.sql("bigquery")
    assert [type(node).__name__ for node in tree.find_all(*LACKS)] == []
    assert {node.name.upper() for node in tree.find_all(sge.Anonymous)} <= HAS
    assert not [join for join in tree.find_all(sge.Join) if join.kind.upper() in ("ASOF", "SEMI", "ANTI")]
    assert not list(tree.find_all(sge.Window))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_names_all_features_and_the_tables_asked_for(dialect):
    if dialect == "spark":
        pytest.importorskip("pyspark", reason="Ibis writes SQL for Spark only where PySpark is")
    read = DIALECTS[dialect].replace("pyspark", "spark")
    tree = sqlglot.parse_one(features_sql(dialect, as_of=NOW, sources=Sources("lake.people", "lake.log")), read=read)
    assert {(table.db, table.name) for table in tree.find_all(sge.Table) if table.db} == {
        ("lake", "people"),
        ("lake", "log"),
    }
    assert {column.alias for column in tree.find_all(sge.Alias)} >= {f.name for f in FEATURES if f.of_events}


def test_a_dialect_a_moment_or_a_table_that_cant_be_is_refused():
    with pytest.raises(UserError, match="not written for oracle: duckdb, spark, bigquery"):
        features_sql("oracle", as_of=NOW)
    with pytest.raises(UserError, match="needs a time zone"):
        features_sql("duckdb", as_of=datetime(2026, 11, 22))
    for wrong in ({}, {"as_of": NOW, "sources": Sources(observations="o")}):
        with pytest.raises(UserError, match="name one"):
            features_sql("duckdb", **wrong)
    for name in ("", "a..b", "a.b.c.d"):
        with pytest.raises(UserError, match="names no table"):
            features_sql("duckdb", as_of=NOW, sources=Sources(events=name))


def test_one_feature_can_be_asked_for_alone():
    assert "tier_change" not in features_sql("bigquery", as_of=NOW, features=defined(["sessions_7d"]))

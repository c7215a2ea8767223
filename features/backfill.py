"""A new feature over decisions of the past: what it would have been then, from events, added to the table of facts.

So a model can be trained with it at once, and needn't wait until enough decisions were logged with it.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from features.compute import expression, feature_column
from features.definitions import SCHEMA, defined
from features.events_to_features import PEOPLE, engine
from features.feature import Feature
from features.frames import read_table
from features.loading import load_events
from features.schema import Schema
from features.snapshots import KEYED, read_dataset
from features.source_checks import check_columns, check_rows, check_users
from features.source_files import describe
from features.sources import USERS, find_events, has_events, users
from features.tallies import SEEN

FACTS, DECISIONS, DATASET = "facts.parquet", "decisions.parquet", "dataset.json"


@dataclass(frozen=True, slots=True)
class Backfilled:
    """How many rows of facts there are, and in how many of them each new feature is known."""

    rows: int
    known: Mapping[str, int]


def backfill(data: Path, names: Collection[str], *, daily: bool = False, replace: bool = False) -> Backfilled:
    """Computes features as of every row of facts, and adds them to `facts.parquet` and to the schema of the dataset.

    As of the decision itself; `daily`: as of the start (UTC) of its day, as a snapshot of that night would have told.
    Raises UserError for a name that nothing defines, a feature that is there already (unless `replace`), and data
    without events or with facts that go on after them; the facts stay what they were then.
    """
    dataset = read_dataset(data)
    have = Schema.from_json(dataset["features"])
    _check(data, dataset, have, names, replace)
    facts = read_table(data / FACTS)
    moments = _moments(data, facts)
    if daily:
        moments["as_of"] = moments["as_of"].dt.floor("D")
    features = defined(names)
    with engine(data / ".spill") as connection:
        table = _computed(connection, data, dataset, moments, features)
    for feature in features:
        column = feature_column(feature.spec, table[feature.name].to_pandas())
        facts[feature.name] = column.set_axis(facts.index)
    specs = {spec.name: spec for spec in have.specs} | {feature.name: feature.spec for feature in features}
    _write(data, facts, {**dataset, "features": Schema(tuple(specs.values())).to_json()})
    return Backfilled(len(facts), {feature.name: int(facts[feature.name].notna().sum()) for feature in features})


def _check(data: Path, dataset: Mapping[str, Any], have: Schema, names: Collection[str], replace: bool) -> None:
    for name in names:
        if name not in SCHEMA.names:
            guess = did_you_mean(name, SCHEMA.names) or "`segue features list` has what is computed from events."
            raise UserError(f"Nothing defines the feature {name}. {guess}")
        if name in have.names and not replace:
            raise UserError(f"The facts in {data} have {name} already: --replace computes it anew.")
    if dataset.get("users") == KEYED:
        raise UserError(f"{data} holds our own log, whose users are hashes: events are of the users' own ids.")
    if not has_events(data, dataset):
        raise UserError(
            f"There are no events in {data} to compute features from: put events.parquet (or events/day=…) and "
            f"{USERS} beside the facts, or wait until decisions are logged with the feature."
        )


def _moments(data: Path, facts: pd.DataFrame) -> pd.DataFrame:
    """`user_id` and `as_of` of every row of facts, in their order. Raises UserError for one without a moment."""
    if facts.empty:
        raise UserError(f"{data / FACTS} holds no facts: import the data again.")
    found = facts
    if "decision_id" in facts.columns:
        decisions = read_table(data / DECISIONS, ["decision_id", "user_id", "at"])
        for name, ids in ((FACTS, facts["decision_id"]), (DECISIONS, decisions["decision_id"])):
            if ids.duplicated().any():
                twice = ids[ids.duplicated()].iloc[0]
                raise UserError(f"{data / name} has {twice} twice: import the data again.")
        found = facts[["decision_id"]].merge(decisions.rename(columns={"at": "as_of"}), on="decision_id", how="left")
    lacking = found["as_of"].isna()
    if lacking.any():
        missing = found.loc[lacking, found.columns[0]].iloc[0]
        raise UserError(f"{data / FACTS} has facts of {missing}, which is not in {DECISIONS}: import the data again.")
    if found["as_of"].dt.tz is None:
        raise UserError(f"The decisions in {data} have times without a time zone: import the data again.")
    return found[["user_id", "as_of"]].copy()


def _computed(
    connection: DuckDBPyConnection,
    data: Path,
    dataset: Mapping[str, Any],
    moments: pd.DataFrame,
    features: tuple[Feature, ...],
) -> pa.Table:
    """The features as they come from the engine, in the order of the moments."""
    source = find_events(data, dataset)
    last: datetime = moments["as_of"].max().to_pydatetime(warn=False)
    if last > source.until:
        raise UserError(
            f"The facts in {data} go on until {last:%Y-%m-%d %H:%M} UTC, the events only until "
            f"{source.until:%Y-%m-%d %H:%M}: what was true then can't be told. Add the events."
        )
    check_columns(path for path, _ in source.before(last))
    check_users(connection, data / USERS)
    files = describe(connection, source, last, {})
    check_rows(connection, source, files)
    load_events(connection, source, files, (None, last))
    users(connection, "users", data / USERS)
    asked = pa.table(
        {
            "user_id": pa.array(moments["user_id"], pa.string()),
            "as_of": pa.array(moments["as_of"]).cast(pa.timestamp("us", "UTC"), safe=False),
            "observation": pa.array(range(len(moments)), pa.int64()),
        }
    )
    connection.register("observations", asked)
    observations = ibis.table(
        {"user_id": "string", "as_of": "timestamp('UTC')", "observation": "int64"}, "observations"
    )
    people, events = ibis.table(PEOPLE, "users"), ibis.table(SEEN.schema(), "events")
    wanted = expression(people, events, observations, features)
    return connection.sql(str(ibis.to_sql(wanted.order_by("observation"), dialect="duckdb"))).to_arrow_table()


def _write(data: Path, facts: pd.DataFrame, dataset: Mapping[str, Any]) -> None:
    """Facts before the schema that tells of them: a column that nothing tells of yet is none."""
    draft = data / f".{FACTS}.{os.getpid()}"
    told = data / f".{DATASET}.{os.getpid()}"
    try:
        facts.to_parquet(draft, index=False)
        told.write_text(json.dumps(dataset, indent=2) + "\n")
        draft.replace(data / FACTS)
        told.replace(data / DATASET)
    finally:
        draft.unlink(missing_ok=True)
        told.unlink(missing_ok=True)

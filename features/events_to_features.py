"""From the events of all users to their features as of one moment: in full, or going on from an earlier moment.

Parquet → the usable events, once each → one pass for each set of types that tallies look at → one row a user →
features. All of it happens inside DuckDB, which spills to disk where memory is short; what comes out is a stream of
batches in the order of user ids. A build that goes on from an earlier one reads the days of the longest window, and
adds what is new to what was carried.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from duckdb import DuckDBPyConnection

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.compute import final
from features.feature import Feature
from features.loading import Wanted, load_events
from features.snapshot_files import arrow_schema
from features.source_files import SourceFile
from features.sources import EventSource, moment_sql, quoted, users
from features.tallies import Pass, Tally, passes, sql, tallies, value_of

MEMORY = "3GB"
"""What DuckDB may use before it spills to disk."""
OUTSIDE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.OutOfMemoryException, duckdb.Error)
"""What DuckDB raises for damaged files and full disks; for what it can't even name, the last. Its others are faults."""
FOR_EVER = 1 << 40
"""Seconds: longer than any event is old."""
BATCH = 250_000
"""Rows that leave DuckDB at a time."""
PEOPLE = {"user_id": "string", "signup_at": "timestamp('UTC')", "born_at": "timestamp('UTC')", "market": "string"}


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier build to go on from: its moment, and the file of its carried tallies."""

    moment: datetime
    carried: Path


@contextmanager
def engine(scratch: Path) -> Iterator[DuckDBPyConnection]:
    """DuckDB for one build. What doesn't fit into memory goes to `scratch`, which it makes and clears itself.

    Raises UserError where a file is damaged within, or memory or the disk is full.
    """
    settings = {"memory_limit": MEMORY, "preserve_insertion_order": False, "temp_directory": str(scratch)}
    connection = duckdb.connect(config=settings)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        if type(error) not in OUTSIDE:
            raise
        raise UserError(
            f"DuckDB can't go on: {str(error).splitlines()[0]}. If a file is damaged, write it again; else make room "
            f"in memory or in {scratch.parent}."
        ) from None
    finally:
        connection.close()


class Reading:
    """One build: `read` takes the tallies, `batches` gives the features, `carry` keeps what a later one needs."""

    def __init__(
        self, connection: DuckDBPyConnection, moment: datetime, features: tuple[Feature, ...], base: Base | None
    ) -> None:
        self.connection, self.moment, self.features, self.base = connection, moment, features, base
        self.tallies = tallies(features)
        self.counts: dict[str, int] = {}
        """How many events were read, repeated, and of users that nobody knows. Whole after `read`."""

    @property
    def since(self) -> datetime | None:
        """The first moment that has to be read; None for all of the past."""
        if self.base is None:
            return None
        window = max((tally.window for tally in self.tallies if tally.window is not None), default=0)
        return min(self.base.moment, self.moment - timedelta(seconds=window + 1))

    def read(self, source: EventSource, files: tuple[SourceFile, ...], people: Path) -> None:
        """Makes `tallied`, one row for each user of whom an event was seen, and `people`, those who had signed up."""
        since = self.since
        needed = [file for file in files if file.last is not None and (since is None or file.last >= since)]
        repeated = load_events(self.connection, source, needed, (since, self.moment), self._wanted())
        self.counts = {"repeated": repeated, "events_read": self._one("SELECT sum(events_read) FROM persons")}
        self._take()
        users(self.connection, "users", people)
        self._run(f"CREATE TEMP VIEW people AS SELECT * FROM users WHERE signup_at < {moment_sql(self.moment)}")
        self.counts["events_before"] = self._one("SELECT sum(events) FROM tallied")
        self.counts["of_unknown_users"] = self._one("SELECT sum(events) FROM tallied ANTI JOIN users USING (user_id)")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """`user_id` and the features of everybody who had signed up, in the order of `user_id`."""
        people = ibis.table(PEOPLE, "people")
        types = {tally.name: tally.op.dtype for tally in self.tallies}
        tallied = ibis.table({"user_id": "string", "events": "int64", **types}, "tallied")
        moment = ibis.literal(self.moment, "timestamp('UTC')")
        joined = people.left_join(tallied, "user_id").drop("user_id_right").mutate(as_of=moment, known=True)
        columns = {feature.name: final(feature, joined, self._value(feature, joined)) for feature in self.features}
        table = joined.select("user_id", **columns).order_by("user_id")
        for batch in self.connection.sql(_sql(table)).to_arrow_reader(BATCH):
            yield as_snapshot(batch, [feature.spec for feature in self.features])

    def carry(self, file: Path) -> None:
        """Writes the tallies without a window, from which a later build can go on."""
        names = ", ".join(["user_id", "events", *(tally.name for tally in self.tallies if tally.is_carried)])
        self._run(f"COPY (SELECT {names} FROM tallied) TO {quoted(str(file))} (FORMAT parquet)")

    def _value(self, feature: Feature, joined: ir.Table) -> ir.Value:
        return value_of(feature, self.tallies, joined) if feature.of_events else feature.of_user(joined)

    def _wanted(self) -> Wanted:
        """The events that any tally looks at: no row is loaded that could change nothing."""
        horizons: dict[str, int] = {}
        for tally in self.tallies:
            for type in tally.types or ():
                horizons[type] = max(horizons.get(type, 0), FOR_EVER if tally.window is None else tally.window)
        looks_at_all = any(tally.types is None for tally in self.tallies)
        return Wanted(None if looks_at_all else horizons, self.base and self.base.moment)

    def _take(self) -> None:
        """One pass for each set of types and window, and then one row a user."""
        written = sql(self.tallies)
        tables, names = ["persons"], ["user_id", "events"]
        for number, one in enumerate(passes(self.tallies)):
            told = ", ".join(f"{written[tally.name]} AS {tally.name}" for tally in one.tallies)
            rows = f"SELECT * FROM events{self._where(one)}"
            self._run(f"CREATE TEMP TABLE pass{number} AS SELECT person, {told} FROM ({rows}) AS t0 GROUP BY person")
            tables.append(f"LEFT JOIN pass{number} USING (person)")
            names += [tally.name for tally in one.tallies]
        self._run("DROP TABLE events")
        now = f"(SELECT {', '.join(names)} FROM {' '.join(tables)}) AS now"
        events = "now.events"
        if self.base:
            now += f" FULL JOIN read_parquet({quoted(str(self.base.carried))}) AS before USING (user_id)"
            events = "coalesce(before.events, 0) + coalesce(now.events, 0)"
        columns = ", ".join(map(self._column, self.tallies))
        self._run(f"CREATE TEMP TABLE tallied AS SELECT user_id, {events} AS events, {columns} FROM {now}")
        for number in range(len(tables) - 1):
            self._run(f"DROP TABLE pass{number}")

    def _where(self, one: Pass) -> str:
        """The events that a pass looks at. What is carried holds the older ones already."""
        conditions = [] if one.window is None else [f"age <= {one.window}"]
        if one.window is None and self.base:
            conditions.append(f'"at" >= {moment_sql(self.base.moment)}')
        if one.types is not None:
            conditions.append(f'"type" IN ({", ".join(map(quoted, sorted(one.types)))})')
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _column(self, tally: Tally) -> str:
        value = f"now.{tally.name}"
        if self.base and tally.is_carried:
            value = tally.merged(f"before.{tally.name}", value, self._seconds_since_base())
        if tally.of_none is not None:
            value = f"coalesce({value}, {tally.of_none})"
        if isinstance(tally.op, ops.Sum):  # DuckDB sums into 128 bits, which Parquet doesn't know
            value = f"({value})::BIGINT"
        return f"{value} AS {tally.name}"

    def _seconds_since_base(self) -> int:
        return int(self.moment.timestamp() // 1) - int(self.base.moment.timestamp() // 1)

    def _run(self, query: str) -> None:
        self.connection.execute(query)

    def _one(self, query: str) -> int:
        return int(self.connection.execute(query).fetchall()[0][0] or 0)


def _sql(table: ir.Table) -> str:
    return str(ibis.to_sql(table, dialect="duckdb"))


def as_snapshot(batch: pa.RecordBatch, specs: list[FeatureSpec]) -> pa.RecordBatch:
    """A batch as it came from the engine with the columns of a snapshot: sets by name and not as bit masks."""
    columns = [batch.column("user_id"), *(_column_of(spec, batch.column(spec.name)) for spec in specs)]
    schema = arrow_schema(specs)
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _column_of(spec: FeatureSpec, values: pa.Array) -> pa.Array:
    if spec.type is not FeatureType.SET:
        return values
    masks = values.dictionary_encode()
    lists = [[name for bit, name in enumerate(spec.values) if mask >> bit & 1] for mask in masks.dictionary.to_pylist()]
    return pa.array(lists, pa.list_(pa.string())).take(masks.indices)

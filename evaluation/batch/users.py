"""Who a batch is about: a file of users, joined with a snapshot, in parts; or everybody in the snapshot."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import duckdb

from decisioning.catalog import Catalog
from decisioning.errors import UserError
from decisioning.sql import literal
from evaluation.batch.user_files import KNOWN, LINE, SENT, USER, stage
from features.snapshots import Snapshot

GROUP_ROWS = 10_240
"""Rows of a row group of the joined file, and so of a part: DuckDB wants a multiple of 2,048."""
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What a file of users held."""

    users: int
    """Each once."""
    unknown: int
    """Of them, those that the snapshot doesn't have."""
    duplicates: int
    """Rows of users who stood there before: the first row counts."""
    ignored: tuple[str, ...]
    """Columns that nothing reads."""
    examples: Mapping[str, tuple[int, ...]]
    """The first lines of unknown users, and of duplicates."""


def join(
    file: Path | None, catalog: Catalog, snapshot: Snapshot, target: Path, *, with_unknown: bool, rows: int = GROUP_ROWS
) -> Asked:
    """Writes the users of a file (None: all of the snapshot) with their features to Parquet, in the file's order.

    `target` has the columns line, user_id, sent (the context as JSON), known, and the snapshot's features, in row
    groups of about `rows`; it is there in full or not at all. Users whom the snapshot lacks are left out unless
    `with_unknown`. Raises UserError, naming the line, for a file without ids or with a context that can't be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged, draft = target.with_suffix(".staged"), target.with_suffix(".draft")
    files = [escape(str(snapshot.path / part)) for part in snapshot.manifest["parts"]]
    features = f"read_parquet([{', '.join(map(literal, files))}])"
    ignored = stage(file, catalog, staged) if file is not None else ()
    with _database(target.parent) as database:
        if file is None:
            _copy(
                database,
                f"SELECT row_number() OVER () AS {LINE}, NULL::VARCHAR AS {SENT}, TRUE AS {KNOWN}, * FROM {features}",
                draft,
                rows,
            )
            asked = Asked(snapshot.rows, 0, 0, (), {})
        else:
            database.execute(
                f"CREATE TABLE asked AS SELECT *, row_number() OVER (PARTITION BY {USER} ORDER BY {LINE}) > 1 AS again "
                f"FROM read_parquet({literal(escape(str(staged)))})"
            )
            database.execute(f"CREATE VIEW features AS SELECT *, TRUE AS has FROM {features}")
            asked = _asked(database, ignored)
            _copy(database, _joined("LEFT" if with_unknown else "INNER"), draft, rows)
    staged.unlink(missing_ok=True)
    draft.replace(target)
    return asked


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """That spills to a folder. Raises UserError where it has no room there."""
    try:
        with duckdb.connect() as database:
            database.execute(f"SET temp_directory = {literal(str(folder))}")
            yield database
    except duckdb.IOException as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"The users can't be put together in {folder} ({said}): is there room on its disk?") from None


def _joined(kind: str) -> str:
    columns = f"a.{LINE}, a.{USER}, a.{SENT}, f.has IS NOT NULL AS {KNOWN}, f.* EXCLUDE ({USER}, has)"
    return f"SELECT {columns} FROM asked a {kind} JOIN features f USING ({USER}) WHERE NOT a.again ORDER BY a.{LINE}"


def _copy(database: duckdb.DuckDBPyConnection, query: str, target: Path, rows: int) -> None:
    database.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, ROW_GROUP_SIZE {rows})")


def _asked(database: duckdb.DuckDBPyConnection, ignored: tuple[str, ...]) -> Asked:
    def count(where: str) -> tuple[int, tuple[int, ...]]:
        """How many rows of the file are such, and the lines of the first."""
        rows = f"FROM asked a LEFT JOIN features f USING ({USER}) WHERE {where}"
        (number,) = database.execute(f"SELECT count(*) {rows}").fetchone()
        lines = database.execute(f"SELECT {LINE} {rows} ORDER BY {LINE} LIMIT {MOST_NAMED}").fetchall()
        return number, tuple(line for (line,) in lines)

    users, _ = count("NOT a.again")
    unknown, strange = count("NOT a.again AND f.has IS NULL")
    duplicates, repeated = count("a.again")
    return Asked(users, unknown, duplicates, ignored, {"unknown": strange, "duplicates": repeated})

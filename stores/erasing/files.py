"""Erasing one user from the Parquet files of a home: the dataset, snapshots, and whatever else was written there.

A row is the user's where `user_id` or `user` is the id, where any text is the user key, or where it belongs to a
decision of theirs. An id elsewhere may well mean something else: it is left, and found by `erasing_proof`.
Folders whose files belong together change as a whole: a reader sees all of the old one or all of the new one.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.snapshot_files import MANIFEST, POINTER, drafted, read_snapshot, set_current
from stores.home import Home
from stores.tables import DATASET, replace_folder, restore_folder, sibling

USER, DECISION = ("user_id", "user"), "decision_id"
ARROW = b"ARROW:schema"
"""Where the writer itself puts the schema."""
ERASED = "erased_from"
"""In the manifest of a snapshot: the id of the one that it takes the place of."""


@dataclass(frozen=True)
class Person:
    """Who is to be found."""

    id: str
    key: str
    decisions: frozenset[str] = frozenset()

    def rows(self, table: pa.Table) -> np.ndarray:
        """Which rows of a table are theirs, as booleans."""
        found = np.zeros(len(table), bool)
        for field, column in zip(table.schema, table.columns, strict=True):
            wanted = self._named(field.name)
            if is_text(field.type):
                found |= pc.is_in(column.cast(pa.string()), wanted).to_numpy()
            elif pa.types.is_list(field.type) and is_text(field.type.value_type):
                lists = column.combine_chunks()
                hits = pc.is_in(pc.list_flatten(lists).cast(pa.string()), wanted).to_numpy(zero_copy_only=False)
                found[pc.list_parent_indices(lists).to_numpy()[hits]] = True
        return found

    def _named(self, column: str) -> pa.Array:
        """What stands for them in a column."""
        more = [self.id] if column in USER else self.decisions if column == DECISION else []
        return pa.array([self.key, *more], pa.string())


def is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def erase_from_files(home: Home, person: Person, *, dry_run: bool = False) -> dict[str, int]:
    """Rows of theirs by file below the home; the log and MLflow's artifacts are not looked at.

    A snapshot gets another id, as it is another one, and stays the current one if it was. Raises UserError for a
    snapshot that can't be read.
    """
    if not dry_run:
        restore_folder(home.data)
    person = replace(person, decisions=person.decisions | _decisions(home.data / "decisions.parquet", person))
    found = _found(home, person)
    if not dry_run:
        dataset = [path for path in found if path.is_relative_to(home.data)]
        by_snapshot: dict[str, list[Path]] = defaultdict(list)
        for path in found:
            if name := _snapshot_of(home, path):
                by_snapshot[name].append(path)
            elif path not in dataset:
                _rewrite(path, person)
        if dataset:
            _erase_dataset(home.data, dataset, person)
        for name, paths in by_snapshot.items():
            _erase_snapshot(home.snapshots, name, paths, person)
    return {str(path.relative_to(home.path)): rows for path, rows in found.items()}


def _found(home: Home, person: Person) -> dict[Path, int]:
    apart = (home.artifacts, home.logs)
    paths = [path for path in sorted(home.path.rglob("*.parquet")) if not any(map(path.is_relative_to, apart))]
    counts = {path: _rows_in(path, person) for path in paths}
    return {path: rows for path, rows in counts.items() if rows}


def _snapshot_of(home: Home, path: Path) -> str | None:
    """The snapshot that a file belongs to."""
    if not path.is_relative_to(home.snapshots):
        return None
    name = path.relative_to(home.snapshots).parts[0]
    return name if (home.snapshots / name / MANIFEST).is_file() else None


def _decisions(file: Path, person: Person) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    wanted = pc.field("user_id").isin([person.id, person.key])
    return frozenset(pq.read_table(file, columns=[DECISION], filters=wanted)[DECISION].to_pylist())


def _rows_in(path: Path, person: Person) -> int:
    """None in a file that is damaged, or not whole yet: looking for what is left will name it."""
    try:
        with pq.ParquetFile(path) as file:
            groups = range(file.num_row_groups)
            return sum(int(person.rows(file.read_row_group(group)).sum()) for group in groups)
    except (OSError, pa.ArrowException):
        return 0


def _rewrite(path: Path, person: Person) -> None:
    """The file without their rows in its place, a row group at a time."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with pq.ParquetFile(path) as file:
            codec = file.metadata.row_group(0).column(0).compression
            with pq.ParquetWriter(draft, file.schema_arrow, compression=codec) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    writer.write_table(table.filter(pa.array(~person.rows(table))))
                more = {key: said for key, said in (file.metadata.metadata or {}).items() if key != ARROW}
                writer.add_key_value_metadata(more)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _linked(source: Path, target: Path) -> None:
    """A copy of a folder that takes no room. What is rewritten in it gets files of its own."""
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


def _erase_dataset(data: Path, paths: list[Path], person: Person) -> None:
    draft = sibling(data, "new")
    try:
        _linked(data, draft)
        for path in paths:
            _rewrite(draft / path.relative_to(data), person)
        _count_again(draft)
        replace_folder(data, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _count_again(data: Path) -> None:
    """`dataset.json` says how many rows each table has."""
    file = data / DATASET
    if not file.is_file():
        return
    told = json.loads(file.read_text())
    for name in told.get("rows", {}):
        table = data / f"{name}.parquet"
        if table.is_file():
            told["rows"][name] = pq.read_metadata(table).num_rows
    _write_json(file, told)


def _erase_snapshot(snapshots: Path, name: str, paths: list[Path], person: Person) -> None:
    before = snapshots / name
    manifest = json.loads((before / MANIFEST).read_text())
    fresh = _successor(snapshots, name)
    if not (snapshots / fresh).exists():  # else it was made by an erasure that was killed
        with drafted(snapshots, fresh) as draft:
            _linked(before, draft)
            for path in paths:
                _rewrite(draft / path.relative_to(before), person)
            rows = sum(pq.read_metadata(draft / part).num_rows for part in manifest["parts"])
            _write_json(draft / MANIFEST, {**manifest, "id": fresh, "rows": rows, ERASED: name})
    pointer = snapshots / POINTER
    if pointer.is_file() and pointer.read_text().strip() == name:
        set_current(snapshots, read_snapshot(snapshots / fresh))
    shutil.rmtree(before)


def _successor(snapshots: Path, name: str) -> str:
    """The id of the snapshot without the user: the next one of its kind."""
    stem, _, number = name.rpartition("-e")
    return f"{stem}-e{int(number) + 1}" if stem and number.isdecimal() else f"{name}-e1"


def _write_json(file: Path, told: Mapping[str, Any]) -> None:
    """In a file of its own: the one that was there may be linked elsewhere."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(told, indent=2) + "\n")
    draft.replace(file)

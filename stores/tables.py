"""The three-table data contract: facts, decisions and outcomes, whoever's logs they are.

| table     | columns                                                                                              |
| facts     | `decision_id`, or (`user_id`, `as_of`); one typed column per feature                                 |
| decisions | `decision_id`, `user_id`, `at`, `surface`, `offer`, `probability`, optional `eligible` (list)        |
| outcomes  | `event_id`, `decision_id`, `type`, `value`, `at`                                                     |

Times are datetime64[ns, UTC]; ids and names are pandas strings; a missing value is NA. Feature columns: bool → boolean,
int → Int64, float → float64, enum → string, set → a list of strings, time → datetime64[ns, UTC].
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from decisioning.errors import UserError
from features.schema import Schema
from stores.tables_check import FACT_KEYS, check_tables

TABLE_NAMES = ("facts", "decisions", "outcomes")
DATASET = "dataset.json"


@dataclass(frozen=True, slots=True)
class Tables:
    """The three tables, and what is known of where they come from (`dataset.json`)."""

    facts: pd.DataFrame
    decisions: pd.DataFrame
    outcomes: pd.DataFrame
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """`source`, `features` (a schema as JSON), `rows` per table, and what the importer adds, such as `seed`."""

    @property
    def schema(self) -> Schema:
        """The features of the facts. Raises UserError when the dataset doesn't say them."""
        if "features" not in self.dataset:
            raise UserError(f"The dataset doesn't describe its features: import it again to write {DATASET}.")
        return Schema.from_json(self.dataset["features"])

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.facts.columns if name not in FACT_KEYS)

    @property
    def keyed_by_decision(self) -> bool:
        return "decision_id" in self.facts.columns

    def facts_of_decisions(self) -> pd.DataFrame:
        """One row per decision, in the decisions' order: `decision_id` and the features as they were known then.

        Facts by user and moment give each decision the latest row that is not after it.
        """
        decisions = self.decisions
        if self.keyed_by_decision:
            columns = ["decision_id", *self.feature_names]
            if list(self.facts.columns) == columns and self.facts["decision_id"].equals(decisions["decision_id"]):
                return self.facts.copy(deep=False)  # in order already, as most files are
            return decisions[["decision_id"]].merge(self.facts[columns], on="decision_id", how="left", validate="1:1")
        left = decisions[["decision_id", "user_id", "at"]].assign(_order=range(len(decisions)))
        joined = pd.merge_asof(
            left.sort_values("at", kind="stable"),
            self.facts.sort_values("as_of", kind="stable"),
            left_on="at",
            right_on="as_of",
            by="user_id",
        )
        return joined.sort_values("_order")[["decision_id", *self.feature_names]].reset_index(drop=True)

    @classmethod
    def read(cls, folder: Path) -> "Tables":
        """Raises UserError when there is no dataset in the folder, or a part of it is gone or can't be read."""
        restore_folder(folder)
        missing = [name for name in TABLE_NAMES if not (folder / f"{name}.parquet").is_file()]
        if missing:
            raise UserError(
                f"There is no dataset in {folder} ({missing[0]}.parquet is missing): "
                "run `segue data simulate` or `segue data import` first."
            )
        dataset_file = folder / DATASET
        try:
            dataset = json.loads(dataset_file.read_text()) if dataset_file.is_file() else {}
        except ValueError:
            raise UserError(f"{dataset_file} is no valid JSON: import the data again.") from None
        return cls(*(read_parquet(folder / f"{name}.parquet") for name in TABLE_NAMES), dataset)

    def write(self, folder: Path, extra: Mapping[str, pd.DataFrame | pa.Table] | None = None) -> None:
        """Check everything, then put the dataset in place of whatever the folder held: all of it or nothing.

        `extra` are further tables by name (`events`, `users`), written beside the three. Raises UserError as `check`.
        """
        check(self)
        frames = {name: getattr(self, name) for name in TABLE_NAMES} | dict(extra or {})
        rows = {name: len(frame) for name, frame in frames.items()}
        draft = sibling(folder, "new")
        draft.mkdir(parents=True)
        try:
            for name, frame in frames.items():
                _write_parquet(frame, draft / f"{name}.parquet")
            (draft / DATASET).write_text(json.dumps({**self.dataset, "rows": rows}, indent=2) + "\n")
            replace_folder(folder, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check(tables: Tables, files: Mapping[str, str] | None = None) -> None:
    """Refuse tables that break the contract. `files` names where each table came from, for the message.

    Raises UserError with the table or file, the row (the first data row is 1), and the reason.
    """
    frames = {name: getattr(tables, name) for name in TABLE_NAMES}
    check_tables(frames, {name: (files or {}).get(name, name) for name in TABLE_NAMES})


def read_parquet(path: Path) -> pd.DataFrame:
    """A table as it was written. Lists come back as lists. Raises UserError for a file that is no Parquet."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as Parquet ({str(error).splitlines()[0]}).") from None
    for name, column in frame.items():
        if column.dtype == object and len(column) and column.map(_is_array).any():
            frame[name] = column.map(lambda cell: list(cell) if _is_array(cell) else cell)
    return frame


def _write_parquet(frame: pd.DataFrame | pa.Table, path: Path) -> None:
    if isinstance(frame, pa.Table):
        pq.write_table(frame, path)
    else:
        frame.to_parquet(path, index=False)


def _is_array(cell: object) -> bool:
    return hasattr(cell, "tolist") and hasattr(cell, "shape")


def sibling(folder: Path, kind: str) -> Path:
    """A name beside the folder, so that a rename stays within one file system."""
    return folder.with_name(f".{folder.name}.{kind}.{os.getpid()}")


def restore_folder(folder: Path) -> None:
    """Brings a folder back whose replacement was killed between its two renames."""
    if folder.exists():
        return
    for old in folder.parent.glob(f".{folder.name}.old.*"):
        if not _lives(int(old.suffix[1:])):  # else that process is at it this moment
            old.rename(folder)
            return


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def replace_folder(folder: Path, draft: Path) -> None:
    """Two renames: the old one steps aside, and comes back if the draft can't take its place."""
    old = sibling(folder, "old")
    had_one = folder.exists()
    if had_one:
        folder.rename(old)
    try:
        draft.rename(folder)
    except OSError:
        if had_one:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)

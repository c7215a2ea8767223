"""Anyone's own logs in the three-table contract, from CSV or Parquet, and a catalog to start from."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from decisioning.catalog_yaml import load_catalog
from decisioning.errors import UserError
from features.schema import Schema
from stores.catalog_files import read_catalog_files
from stores.home import Home
from stores.tables import Tables, check
from stores.tables_check import COLUMNS, FACT_KEYS, refuse
from training.importers.columns import feature, ids, lists, moments, need, numbers, read_raw
from training.importers.starter import OfferFacts, conversion_type, starter_catalog, values_of

OFFER_COLUMNS = ("offer", "group", "value", "cost")


def import_tables(
    home: Home,
    *,
    facts: Path,
    decisions: Path,
    outcomes: Path,
    offers: Path | None = None,
    converts_on: str | None = None,
) -> dict[str, Any]:
    """Check the files, then write `home.data` and, where `home` has no catalog yet, one to start from.

    Returns what came in: rows per table, features by type, columns that were left out and why. Raises UserError with
    the file, row and reason, and then nothing has changed.
    """
    files = {"facts": str(facts), "decisions": str(decisions), "outcomes": str(outcomes)}
    typed_facts, schema, ignored = _facts(read_raw(facts), files["facts"])
    dataset = {"source": "tables", "features": schema.to_json(), "ignored": ignored}
    tables = Tables(
        typed_facts,
        _decisions(read_raw(decisions), files["decisions"]),
        _outcomes(read_raw(outcomes), files["outcomes"]),
        dataset,
    )
    check(tables, files)
    known = _offers(read_raw(offers), str(offers)) if offers else {}
    return install(home, tables, known, converts_on)


def install(
    home: Home, tables: Tables, offers: Mapping[str, OfferFacts], converts_on: str | None = None
) -> dict[str, Any]:
    """Put checked tables in place, with a starter catalog where there is none. Raises UserError before any change."""
    made = None
    if home.catalog.is_dir() and any(home.catalog.iterdir()):
        _check_catalog(home, tables)
    else:
        chosen = conversion_type(list(tables.outcomes["type"]), converts_on)
        earned = {name: OfferFacts(value=value) for name, value in values_of(tables, chosen).items()}
        made = starter_catalog(tables.schema, tables.decisions, {**earned, **offers}, chosen)
    tables.write(home.data)
    if made:
        _write_catalog(home.catalog, made)
    features = {spec.name: str(spec.type) for spec in tables.schema.specs}
    rows = {name: len(getattr(tables, name)) for name in ("facts", "decisions", "outcomes")}
    return {**rows, "features": features, "ignored": tables.dataset.get("ignored", {}), "catalog": bool(made)}


def _facts(raw: pd.DataFrame, file: str) -> tuple[pd.DataFrame, Schema, dict[str, str]]:
    """The typed facts, their schema, and the columns left out with the reason."""
    if "decision_id" not in raw.columns:
        if not {"user_id", "as_of"} <= set(raw.columns):
            raise UserError(f"{file} has no key: it needs the column decision_id, or both user_id and as_of.")
        keys = ("user_id", "as_of")
    else:
        keys = tuple(key for key in FACT_KEYS if key in raw.columns)
    columns = {key: moments(raw, key, file) if key == "as_of" else ids(raw, key) for key in keys}
    specs, ignored = [], {}
    for name in (column for column in raw.columns if column not in FACT_KEYS):
        found = feature(raw, name, file)
        if isinstance(found, str):
            ignored[name] = found
        else:
            specs.append(found[0])
            columns[name] = found[1]
    if not specs:
        why = "; ".join(f"{name}: {reason}" for name, reason in ignored.items()) or "there is no other column"
        raise UserError(f"{file} has no column that can be a feature ({why}).")
    return pd.DataFrame(columns), Schema(tuple(specs)), ignored


def _decisions(raw: pd.DataFrame, file: str) -> pd.DataFrame:
    need(raw, file, COLUMNS["decisions"])
    columns = {name: ids(raw, name) for name in ("decision_id", "user_id", "surface", "offer")}
    columns |= {"at": moments(raw, "at", file), "probability": numbers(raw, "probability", file)}
    if "eligible" in raw.columns:
        columns["eligible"] = lists(raw, "eligible", file)
    return pd.DataFrame(columns)


def _outcomes(raw: pd.DataFrame, file: str) -> pd.DataFrame:
    need(raw, file, COLUMNS["outcomes"])
    columns = {name: ids(raw, name) for name in ("event_id", "decision_id", "type")}
    return pd.DataFrame(columns | {"value": numbers(raw, "value", file), "at": moments(raw, "at", file)})


def _offers(raw: pd.DataFrame, file: str) -> dict[str, OfferFacts]:
    """The offers of a file: `offer`, and optionally `group`, `value`, `cost` and attributes of any name."""
    need(raw, file, ("offer",))
    refuse(file, raw, raw["offer"].isna(), "offer is missing.")
    refuse(file, raw, raw["offer"].duplicated(), "the offer {} stands in an earlier row too.", "offer")
    amounts = {name: numbers(raw, name, file) for name in ("value", "cost") if name in raw.columns}
    records = {}
    for row, name in enumerate(ids(raw, "offer")):
        given = {key: float(column.iloc[row]) for key, column in amounts.items() if column.notna().iloc[row]}
        if "group" in raw.columns and pd.notna(raw["group"].iloc[row]):
            given["group"] = str(raw["group"].iloc[row])
        cells = {key: raw[key].iloc[row] for key in raw.columns if key not in OFFER_COLUMNS}
        attributes = {key: _attribute(cell) for key, cell in cells.items() if pd.notna(cell)}
        records[str(name)] = OfferFacts(**given, attributes=attributes)
    return records


def _attribute(cell: object) -> float | str:
    try:
        return float(cell)  # type: ignore[arg-type]
    except ValueError:
        return str(cell)


def _check_catalog(home: Home, tables: Tables) -> None:
    """A catalog of something else would leave nothing to learn about."""
    catalog = load_catalog(read_catalog_files(home.catalog))
    logged = set(tables.decisions["offer"])
    if not logged & set(catalog.offers):
        some = ", ".join(sorted(logged)[:5])
        raise UserError(
            f"The catalog in {home.catalog} knows none of the offers in the decisions ({some}): "
            "import into another --home, or move that catalog away to get a new one."
        )


def _write_catalog(folder: Path, files: Mapping[str, bytes]) -> None:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        if folder.is_dir():  # it is empty
            folder.rmdir()
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

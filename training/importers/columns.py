"""Files to typed columns: CSV and Parquet, key columns by contract, feature columns by what they hold."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.frames import DTYPES
from features.schema import MAX_SET_VALUES
from stores.tables import read_parquet
from stores.tables_check import refuse

MAX_ENUM_VALUES = 50
ZONED = r"(?:Z|z|[+-]\d{2}:?\d{2})$"
WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,14})")
TRUTH = {"true": True, "false": False}


def read_raw(path: Path) -> pd.DataFrame:
    """A CSV with every cell as text (an empty one is missing), or a Parquet file as it is typed. Raises UserError."""
    if not path.exists():
        raise UserError(f"There is no file {path}.")
    if path.suffix == ".parquet" or path.is_dir():
        return read_parquet(path)
    try:
        return pd.read_csv(path, dtype="string", keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} is empty.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as CSV in UTF-8 ({str(error).strip()}).") from None


def need(raw: pd.DataFrame, file: str, columns: Sequence[str]) -> None:
    """Raises UserError for the first column that is not there."""
    for column in columns:
        if column not in raw.columns:
            raise UserError(f"{file} has no column {column}; it has {', '.join(map(str, raw.columns))}.")


def ids(raw: pd.DataFrame, column: str) -> pd.Series:
    """Text, whatever it was written as: ids are never numbers, so that 007 stays 007."""
    values = raw[column]
    return (values.astype("Int64") if pd.api.types.is_integer_dtype(values) else values).astype("string")


def numbers(raw: pd.DataFrame, column: str, file: str) -> pd.Series:
    """float64, NaN where missing. Raises UserError for the first cell that is no number."""
    parsed = pd.to_numeric(raw[column], errors="coerce").astype("Float64")
    refuse(file, raw, raw[column].notna() & parsed.isna(), f"{column} is {{}}, which is no number.", column)
    return pd.Series(parsed.to_numpy(np.float64, na_value=np.nan), index=raw.index)


def moments(raw: pd.DataFrame, column: str, file: str) -> pd.Series:
    """datetime64[ns, UTC]. Raises UserError for a cell that is no time, and for times without a time zone."""
    values = raw[column]
    advice = "write it with its zone, as 2026-11-01T12:00:00Z."
    if pd.api.types.is_datetime64_any_dtype(values):
        if values.dt.tz is None:
            raise UserError(f"{file}: the times in {column} have no time zone; {advice}")
        return values.dt.tz_convert("UTC").astype(DTYPES[FeatureType.TIME])
    text = values.astype("string")
    parsed = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    refuse(file, raw, text.notna() & parsed.isna(), f"{column} is {{}}, which is no time; {advice}", column)
    naive = text.notna() & ~text.str.contains(ZONED, regex=True)
    refuse(file, raw, naive, f"{column} is {{}}, which has no time zone; {advice}", column)
    return parsed.astype(DTYPES[FeatureType.TIME])


def lists(raw: pd.DataFrame, column: str, file: str) -> pd.Series:
    """Lists of names, from `a|b`, `a;b`, `a,b` or a JSON list; None where missing. Raises UserError for broken JSON."""
    cells = [_names(cell) for cell in raw[column]]
    broken = [cell is None and pd.notna(given) for cell, given in zip(cells, _flat(raw[column]), strict=True)]
    refuse(file, raw, broken, f'{column} is {{}}, which is no list; write it as a|b or ["a", "b"].', column)
    return pd.Series(cells, index=raw.index, dtype=object)


def _flat(column: pd.Series) -> list[object]:
    """The cells, a list standing as True: whether a list is missing can't be asked."""
    return [True if isinstance(cell, list | tuple) else cell for cell in column]


def _names(cell: object) -> list[str] | None:
    """The names in a cell; None where it is missing or can't be read."""
    if isinstance(cell, list | tuple):
        return [str(name) for name in cell]
    if pd.isna(cell):
        return None
    text = str(cell).strip()
    if not text.startswith("["):
        return [name.strip() for name in re.split(r"[|;,]", text) if name.strip()]
    try:
        return [str(name) for name in json.loads(text.replace("'", '"'))]
    except ValueError:
        return None


def feature(raw: pd.DataFrame, name: str, file: str) -> tuple[FeatureSpec, pd.Series] | str:
    """A feature's declaration and its typed column, told from its values; or why it can't be one, in words.

    Raises UserError where a few cells break what is a column of numbers otherwise, and for infinite numbers.
    """
    column = raw[name]
    filled = column.dropna()
    if filled.empty:
        return "it holds no value"
    if isinstance(filled.iloc[0], list):
        return _set(name, column)
    if pd.api.types.is_datetime64_any_dtype(column):
        return FeatureSpec(name, FeatureType.TIME), moments(raw, name, file)
    if pd.api.types.is_bool_dtype(column):
        return _as(name, FeatureType.BOOL, column)
    if pd.api.types.is_integer_dtype(column):
        return _as(name, FeatureType.INT, column)
    if pd.api.types.is_numeric_dtype(column):
        return _float(raw, name, file)
    if not all(isinstance(cell, str) for cell in filled):
        return f"its values are of the type {type(filled.iloc[0]).__name__}"
    return _text(raw, name, file, filled.astype("string"))


def _as(name: str, kind: FeatureType, column: pd.Series) -> tuple[FeatureSpec, pd.Series]:
    return FeatureSpec(name, kind), column.astype(DTYPES[kind])


def _float(raw: pd.DataFrame, name: str, file: str) -> tuple[FeatureSpec, pd.Series]:
    values = numbers(raw, name, file)
    refuse(file, raw, np.isinf(values), f"{name} is {{}}, which no model can read.", name)
    return FeatureSpec(name, FeatureType.FLOAT), values


def _set(name: str, column: pd.Series) -> tuple[FeatureSpec, pd.Series] | str:
    members = sorted({str(member) for cell in column if isinstance(cell, list) for member in cell})
    if not 0 < len(members) <= MAX_SET_VALUES:
        return f"it is a set of {len(members)} different values, where a set has 1 to {MAX_SET_VALUES}"
    return FeatureSpec(name, FeatureType.SET, tuple(members)), column


def _text(raw: pd.DataFrame, name: str, file: str, filled: pd.Series) -> tuple[FeatureSpec, pd.Series] | str:
    """What cells of text are: truth values, whole numbers, numbers, times, or a few names."""
    column = raw[name].astype("string")
    distinct = filled.unique()
    if all(text.lower() in TRUTH for text in distinct):
        return _as(name, FeatureType.BOOL, column.str.lower().map(TRUTH))
    if all(WHOLE.fullmatch(text) for text in distinct):
        return _as(name, FeatureType.INT, pd.to_numeric(column))
    numeric = pd.to_numeric(filled, errors="coerce").notna().mean()
    if numeric == 1.0 or (numeric > 0.5 and len(distinct) > MAX_ENUM_VALUES):
        return _float(raw, name, file)
    if pd.to_datetime(filled, format="ISO8601", utc=True, errors="coerce").notna().all():
        return FeatureSpec(name, FeatureType.TIME), moments(raw, name, file)
    if len(distinct) > MAX_ENUM_VALUES:
        return f"it is text with {len(distinct):,} different values, where an enum has at most {MAX_ENUM_VALUES}"
    if any(not text.strip() for text in distinct):
        return "one of its values is only spaces"
    return FeatureSpec(name, FeatureType.ENUM, tuple(sorted(distinct))), column

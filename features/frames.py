"""Frames of features: dtypes by declared type, and the packed vectors of many users at once. Not for serving."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.schema import FLOAT32_MAX, MINUTES_FROM, Schema

DTYPES = {
    FeatureType.BOOL: "boolean",
    FeatureType.INT: "Int64",
    FeatureType.FLOAT: "float64",
    FeatureType.ENUM: "string",
    FeatureType.SET: "object",
    FeatureType.TIME: "datetime64[ns, UTC]",
}


def read_table(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of a dataset. Raises UserError where it is gone, no Parquet, or lacks a column."""
    try:
        return pd.read_parquet(file, columns=columns)
    except FileNotFoundError:
        raise UserError(f"There is no {file}: import the data again.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({str(error).splitlines()[0]}): import the data again.") from None


def typed_column(spec: FeatureSpec, values: pd.Series) -> pd.Series:
    """A column in the dtype of its declared type. Raises ValueError or TypeError when a value doesn't fit."""
    if spec.type is FeatureType.SET:  # Parquet gives arrays, with which `==` and truth don't work
        values = values.map(lambda cell: list(cell) if hasattr(cell, "tolist") else cell)
    return values.astype(DTYPES[spec.type])


def masks_to_lists(spec: FeatureSpec, masks: pd.Series) -> pd.Series:
    """Bit masks to lists of declared values; a missing mask becomes None."""
    lists = {
        mask: [name for bit, name in enumerate(spec.values) if int(mask) >> bit & 1] for mask in masks.dropna().unique()
    }
    return pd.Series([lists.get(mask) for mask in masks], index=masks.index, dtype=object)


def encode_column(spec: FeatureSpec, column: pd.Series) -> np.ndarray:
    """float32 of shape (n,): `schema.encode` for every row of a column, NaN where missing."""
    match spec.type:
        case FeatureType.ENUM:
            index = {value: float(code) for code, value in enumerate(spec.values)}
            numbers = column.map(index).to_numpy(dtype=np.float64, na_value=np.nan)
        case FeatureType.SET:
            bits = {value: 1 << bit for bit, value in enumerate(spec.values)}
            numbers = np.array([_mask(bits, cell) for cell in column], dtype=np.float64)
        case FeatureType.TIME:
            epoch = column.astype(DTYPES[FeatureType.TIME])
            since = (epoch - pd.Timestamp(MINUTES_FROM, unit="s", tz="UTC")) / pd.Timedelta(minutes=1)
            numbers = np.floor(since.to_numpy(dtype=np.float64, na_value=np.nan))
        case _:
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.abs(numbers) <= FLOAT32_MAX, numbers, np.nan).astype(np.float32)


def _mask(bits: dict[str, int], cell: object) -> float:
    """A set in a cell is any iterable of names; None and NaN are a missing one."""
    if cell is None or cell is pd.NA or isinstance(cell, float):
        return np.nan
    return float(sum(bits.get(name, 0) for name in set(cell)))


def pack_frame(schema: Schema, frame: pd.DataFrame) -> np.ndarray:
    """float32 of shape (n, width), equal row by row to `schema.pack`. A column that the frame lacks is missing."""
    packed = np.full((len(frame), schema.width), np.nan, dtype="<f4")
    for at, spec in enumerate(schema.specs):
        if spec.name in frame.columns:
            packed[:, at] = encode_column(spec, frame[spec.name])
    return packed

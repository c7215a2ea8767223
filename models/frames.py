"""The design matrix of many rows at once, from frames. For training and evaluation; serving never imports it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import Value
from models.encoding import FLOAT32_MAX, Encoding, encoder, feature_columns, missing_columns


def encode_facts(encoding: Encoding, facts: pd.DataFrame, surfaces: Sequence[str]) -> np.ndarray:
    """(n, context columns) float32, row by row what `Encoding.context` gives: missing NaN, defaults filled in.

    `facts` has one column per feature, typed as in the data contract; a feature that it lacks is missing everywhere.
    """
    out = np.empty((len(facts), len(encoding.context_columns)), np.float32)
    at = 0
    for spec in encoding.features:
        width = len(feature_columns(spec))
        out[:, at : at + width] = missing_columns(spec)
        if spec.name in facts.columns:
            _fill(out[:, at : at + width], spec, facts[spec.name])
        at += width
    where = np.asarray(surfaces, dtype=object)
    for offset, name in enumerate(encoding.surfaces):
        out[:, at + offset] = where == name
    return out


def _fill(out: np.ndarray, spec: FeatureSpec, column: pd.Series) -> None:
    """Write a column's known values over the block of its missing ones."""
    if spec.type in (FeatureType.ENUM, FeatureType.SET):
        encode = encoder(spec)
        is_set = spec.type is FeatureType.SET
        keys = column.map(_members) if is_set else column
        codes, values = pd.factorize(keys)  # a code per distinct value: each is encoded once; missing is -1
        for code, value in enumerate(values):
            row = encode(value if is_set else str(value))
            if row is not None:
                out[codes == code] = row
        return
    numbers = pd.to_numeric(column, errors="coerce").astype("Float64").to_numpy(float, na_value=np.nan)
    known = np.abs(numbers) <= FLOAT32_MAX
    out[known, 0] = numbers[known]


def _members(cell: object) -> object:
    if cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell):
        return None
    return frozenset(cell)


def facts_row(encoding: Encoding, facts: pd.DataFrame, row: int) -> dict[str, Value]:
    """One row of a facts frame as the values that serving would read; missing ones are absent."""
    found: dict[str, Value] = {}
    for spec in encoding.features:
        value = _value(spec, facts[spec.name].iloc[row]) if spec.name in facts.columns else None
        if value is not None:
            found[spec.name] = value
    return found


def _value(spec: FeatureSpec, cell: object) -> Value:
    if spec.type is FeatureType.SET:
        return _members(cell)
    if pd.isna(cell):
        return None
    if spec.type is FeatureType.ENUM:
        return str(cell)
    return bool(cell) if spec.type is FeatureType.BOOL else (int(cell) if spec.type is FeatureType.INT else float(cell))

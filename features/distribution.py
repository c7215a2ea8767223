"""How one feature is distributed in a snapshot: what is missing, and where its values lie."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from decisioning.catalog import DAY, FeatureSpec, FeatureType
from features.snapshots import Snapshot

QUANTILES = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Distribution:
    """One column of a snapshot. Of a number: its mean and quantiles; of anything else the share of each value."""

    rows: int
    missing: float
    """A share of the rows."""
    numbers: dict[str, float]
    """min, p10, median, p90, max and mean of what is known; empty where nothing is, and for other types."""
    shares: dict[str, float]
    """Of what is known, the commonest first; of a set, the share that has each member."""


def distribution(snapshot: Snapshot, spec: FeatureSpec) -> Distribution:
    """Reads the one column of all rows. A moment is told as its age in days at the snapshot's."""
    column = pa.chunked_array(
        [
            chunk
            for part in snapshot.manifest["parts"]
            for chunk in pq.read_table(snapshot.path / part, columns=[spec.name]).column(0).chunks
        ]
        or [pa.array([], pa.null())]
    )
    known = column.drop_null()
    numbers, shares = {}, {}
    match spec.type:
        case FeatureType.INT | FeatureType.FLOAT:
            numbers = _quantiles(known.to_numpy().astype(np.float64))
        case FeatureType.TIME:
            epoch = known.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() / 1e6
            numbers = _quantiles((snapshot.as_of - epoch) / DAY)
        case FeatureType.SET:
            shares = _shares(pc.list_flatten(known), len(known))
        case _:
            shares = _shares(known, len(known))
    return Distribution(len(column), 1.0 - len(known) / max(len(column), 1), numbers, shares)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, list(QUANTILES.values()))
    return {**dict(zip(QUANTILES, found.tolist(), strict=True)), "mean": float(values.mean())}


def _shares(values: pa.ChunkedArray, known: int) -> dict[str, float]:
    counts = sorted(values.value_counts().to_pylist(), key=lambda one: (-one["counts"], str(one["values"])))
    names = {True: "yes", False: "no"}
    return {str(names.get(one["values"], one["values"])): one["counts"] / known for one in counts}

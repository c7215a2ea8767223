"""The contract at a snapshot's boundary: one row a user, declared values only, and no number that isn't one."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc
from pandera.errors import SchemaError

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.frames import DTYPES
from features.schema import Schema

AMOUNTS = frozenset(
    {
        *("minutes", "days", "times", "sessions", "devices", "ads", "skips", "signals", "artists"),
        *("impressions", "clicks", "dismissals", "conversions", "purchases", "payments", "changes"),
    }
)
"""Units of which there can't be fewer than none."""


PANDAS = {
    pyarrow.int64(): pd.Int64Dtype(),
    pyarrow.bool_(): pd.BooleanDtype(),
    pyarrow.string(): pd.StringDtype("python"),
}


class Contract:
    """The contract of a snapshot that comes batch by batch, in the order of its user ids. `rows`: how many so far."""

    def __init__(self, schema: Schema) -> None:
        self.rows = 0
        self._names = schema.names
        self._contract = contract(schema)
        self._last: str | None = None

    def check(self, batch: pyarrow.RecordBatch) -> None:
        """Raises UserError with the first column, value and row that break it."""
        self._check_users(batch.column("user_id"))
        features = batch.select(self._names)
        try:
            self._contract.validate(_as_frame(_witnesses(features)))
        except SchemaError:
            self._validate(_as_frame(features), batch.column("user_id"))  # for the row
        self.rows += batch.num_rows

    def check_end(self) -> None:
        """Raises UserError for a snapshot of nobody."""
        if not self.rows:
            raise UserError("The snapshot would hold nobody: there is no user with facts before that moment.")

    def _check_users(self, ids: pyarrow.Array) -> None:
        """One row a user: in their order, whoever stands twice follows himself."""
        if ids.null_count:
            raise UserError("The snapshot breaks its contract: user_id is missing in a row.")
        before = pyarrow.concat_arrays([pyarrow.array([self._last], ids.type), ids[:-1]]) if len(ids) else ids
        twice = pc.index(pc.equal(ids, before), True).as_py()
        if twice >= 0:
            row = self.rows + twice + 1
            raise UserError(f"The snapshot breaks its contract: user_id, row {row:,}: {ids[twice]} stands twice.")
        self._last = ids[-1].as_py() if len(ids) else self._last

    def _validate(self, frame: pd.DataFrame, ids: pyarrow.Array) -> None:
        try:
            self._contract.validate(frame)
        except SchemaError as error:
            raise UserError(f"The snapshot breaks its contract: {_said(error, ids, self.rows)}.") from None


def contract(schema: Schema) -> pa.DataFrameSchema:
    """Every feature in its dtype and within what is declared; any may be missing."""
    return pa.DataFrameSchema({spec.name: _column(spec) for spec in schema.specs}, strict=True)


def _as_frame(batch: pyarrow.RecordBatch) -> pd.DataFrame:
    return batch.to_pandas(types_mapper=PANDAS.get)


def _witnesses(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """A few rows that break the contract if any row does: each column's different, least, greatest and odd values.

    Whatever the contract says of a column, it says of single values; so most of its work needn't be done row by row.
    """
    columns = [_telling(column) for column in batch.columns]
    rows = max(map(len, columns), default=0)
    padded = [pyarrow.concat_arrays([one, pyarrow.nulls(rows - len(one), one.type)]) for one in columns]
    return pyarrow.RecordBatch.from_arrays(padded, schema=batch.schema)


def _telling(column: pyarrow.Array) -> pyarrow.Array:
    kind = column.type
    if pyarrow.types.is_list(kind):
        return pyarrow.array([pc.unique(column.flatten()).to_pylist()], kind)
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        return pc.unique(column)
    ends = pc.min_max(column)
    least_and_greatest = pyarrow.array([ends["min"].as_py(), ends["max"].as_py()], kind)
    odd = column.filter(pc.invert(pc.is_finite(column)))[:1]
    return pyarrow.concat_arrays([least_and_greatest, odd])


def _column(spec: FeatureSpec) -> pa.Column:
    checks = []
    match spec.type:
        case FeatureType.ENUM:
            checks.append(pa.Check.isin(spec.values, error=f"not one of {', '.join(spec.values)}"))
        case FeatureType.SET:
            declared = frozenset(spec.values)
            checks.append(pa.Check(lambda cells: cells.map(declared.issuperset), error="holds undeclared members"))
        case FeatureType.FLOAT:
            checks.append(pa.Check(lambda numbers: np.isfinite(numbers.astype(float)), error="not a finite number"))
    if spec.unit in AMOUNTS:
        checks.append(pa.Check.ge(0, error="less than nothing"))
    return pa.Column(DTYPES[spec.type], checks, nullable=True)


def _said(error: SchemaError, ids: pyarrow.Array, before: int) -> str:
    """The first wrong value and whose it is: nobody can look up a row of a snapshot that isn't written."""
    column = error.schema.name
    cases = error.failure_cases
    if isinstance(cases, pd.DataFrame) and len(cases) and "index" in cases.columns and cases["index"].notna().any():
        first, reason = cases.iloc[0], getattr(error.check, "error", None) or error.reason_code.value.lower()
        row = int(first["index"])
        return f"{column} of {ids[row]}, row {before + row + 1:,}: {first['failure_case']} is wrong ({reason})"
    return str(error).splitlines()[0]

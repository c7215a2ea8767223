"""The contract at a snapshot's boundary: one row a user, declared values only, and no number that isn't one."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
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
        self._contract = contract(schema)
        self._last: str | None = None

    def check(self, batch: pyarrow.RecordBatch) -> None:
        """Raises UserError with the first column, value and row that break it."""
        frame = batch.to_pandas(types_mapper=PANDAS.get)
        _validate(self._contract, frame, self.rows)
        first = frame["user_id"].iloc[0] if len(frame) else None
        if first is not None and first == self._last:
            raise UserError(f"The snapshot breaks its contract: user_id, row {self.rows + 1:,}: {first} stands twice.")
        self._last = frame["user_id"].iloc[-1] if len(frame) else self._last
        self.rows += len(frame)

    def check_end(self) -> None:
        """Raises UserError for a snapshot of nobody."""
        if not self.rows:
            raise UserError("The snapshot would hold nobody: there is no user with facts before that moment.")


def contract(schema: Schema) -> pa.DataFrameSchema:
    """`user_id`, unique and filled, and every feature in its dtype; any feature may be missing."""
    columns = {spec.name: _column(spec) for spec in schema.specs}
    return pa.DataFrameSchema({"user_id": pa.Column("string", unique=True), **columns}, strict=True)


def _validate(contract: pa.DataFrameSchema, frame: pd.DataFrame, before: int) -> None:
    try:
        contract.validate(frame)
    except SchemaError as error:
        raise UserError(f"The snapshot breaks its contract: {_said(error, before)}.") from None


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


def _said(error: SchemaError, before: int) -> str:
    column = error.schema.name
    cases = error.failure_cases
    if isinstance(cases, pd.DataFrame) and len(cases) and "index" in cases.columns and cases["index"].notna().any():
        first, reason = cases.iloc[0], getattr(error.check, "error", None) or error.reason_code.value.lower()
        return f"{column}, row {before + int(first['index']) + 1:,}: {first['failure_case']} is wrong ({reason})"
    return str(error).splitlines()[0]

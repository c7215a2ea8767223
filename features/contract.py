"""The contract at a snapshot's boundary: one row a user, declared values only, and no number that isn't one."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.errors import UserError
from features.frames import DTYPES
from features.schema import Schema

AMOUNTS = frozenset({"minutes", "days", "sessions", "ads", "skips", "artists", "clicks", "purchases", "signals"})
"""Units of which there can't be fewer than none."""


def contract(schema: Schema) -> pa.DataFrameSchema:
    """`user_id`, unique and filled, and every feature in its dtype; any feature may be missing."""
    columns = {spec.name: _column(spec) for spec in schema.specs}
    return pa.DataFrameSchema({"user_id": pa.Column("string", unique=True), **columns}, strict=True)


def check_frame(schema: Schema, frame: pd.DataFrame) -> None:
    """Raises UserError with the first column, value and row that break the contract, and for a snapshot of nobody."""
    if frame.empty:
        raise UserError("The snapshot would hold nobody: there is no user with facts before that moment.")
    try:
        contract(schema).validate(frame)
    except SchemaError as error:
        raise UserError(f"The snapshot breaks its contract: {_said(error)}.") from None


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


def _said(error: SchemaError) -> str:
    column = error.schema.name
    cases = error.failure_cases
    if isinstance(cases, pd.DataFrame) and len(cases) and "index" in cases.columns and cases["index"].notna().any():
        first, reason = cases.iloc[0], getattr(error.check, "error", None) or error.reason_code.value.lower()
        return f"{column}, row {int(first['index']) + 1:,}: {first['failure_case']} is wrong ({reason})"
    return str(error).splitlines()[0]

"""The MineThatData e-mail trial (Kevin Hillstrom, 2008): 64,000 customers, three randomised arms of one third each."""

from pathlib import Path
from typing import Any

import pandas as pd

from decisioning.catalog import FeatureSpec, FeatureType
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from features.frames import typed_column
from features.schema import Schema
from stores.home import Home
from stores.tables import Tables
from stores.tables_check import refuse
from training.importers.columns import need, numbers, read_raw
from training.importers.starter import OfferFacts
from training.importers.tables import install

ARMS = {"Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email", "No E-Mail": NOTHING}
AT = pd.Timestamp("2008-03-20", tz="UTC")
"""The trial has no dates: all e-mails went out on this one."""
AFTERWARDS = pd.Timedelta(days=7)
"""When an outcome is said to have happened: some time in the two weeks that were observed."""
OUTCOMES = ("visit", "conversion", "spend")
FEATURES = {
    "recency": FeatureType.INT,
    "history": FeatureType.FLOAT,
    "history_segment": FeatureType.ENUM,
    "mens": FeatureType.BOOL,
    "womens": FeatureType.BOOL,
    "zip_code": FeatureType.ENUM,
    "newbie": FeatureType.BOOL,
    "channel": FeatureType.ENUM,
}
UNITS = {"recency": "months", "history": "USD"}
RENAMED = {"history": "history_value"}
"""A catalog's conditions keep the word `history` for the user's events."""


def import_hillstrom(home: Home, path: Path) -> dict[str, Any]:
    """Read the trial's CSV into the three tables, `visit` being what counts as a conversion.

    Raises UserError where the file is not that trial: another header, an unknown segment, a cell that is no number.
    """
    raw, file = read_raw(path), str(path)
    need(raw, file, (*FEATURES, "segment", *OUTCOMES))
    if raw.empty:
        raise UserError(f"{file} holds no customer.")
    refuse(file, raw, ~raw["segment"].isin(ARMS), f"the segment {{}} is none of {', '.join(ARMS)}.", "segment")
    facts, schema = _facts(raw, file)
    tables = Tables(facts, _decisions(raw), _outcomes(raw, file), {"source": "hillstrom", "features": schema.to_json()})
    email = OfferFacts(group="email")
    return install(home, tables, {"mens_email": email, "womens_email": email}, converts_on="visit")


def _ids(raw: pd.DataFrame, letter: str) -> pd.Series:
    return pd.Series([f"{letter}{row:05d}" for row in range(1, len(raw) + 1)], dtype="string")


def _facts(raw: pd.DataFrame, file: str) -> tuple[pd.DataFrame, Schema]:
    columns, specs = {"decision_id": _ids(raw, "d")}, []
    for name, kind in FEATURES.items():
        refuse(file, raw, raw[name].isna(), f"{name} is missing.")
        values = raw[name] if kind is FeatureType.ENUM else numbers(raw, name, file)
        if kind is FeatureType.BOOL:
            refuse(file, raw, ~values.isin((0, 1)), f"{name} is {{}}, where 0 or 1 is expected.", name)
        declared = tuple(sorted(values.unique())) if kind is FeatureType.ENUM else ()
        specs.append(FeatureSpec(RENAMED.get(name, name), kind, declared, unit=UNITS.get(name, "")))
        columns[specs[-1].name] = typed_column(specs[-1], values)
    return pd.DataFrame(columns), Schema(tuple(specs))


def _decisions(raw: pd.DataFrame) -> pd.DataFrame:
    everything = sorted(ARMS.values())
    return pd.DataFrame(
        {
            "decision_id": _ids(raw, "d"),
            "user_id": _ids(raw, "u"),
            "at": pd.Series([AT] * len(raw)).astype("datetime64[ns, UTC]"),
            "surface": pd.Series(["email"] * len(raw), dtype="string"),
            "offer": raw["segment"].map(ARMS).astype("string"),
            "probability": 1.0 / len(ARMS),
            "eligible": [everything] * len(raw),
        }
    )


def _outcomes(raw: pd.DataFrame, file: str) -> pd.DataFrame:
    """One event for each customer who visited, converted or spent. Only spending has a value, in dollars."""
    parts = []
    for kind in OUTCOMES:
        amount = numbers(raw, kind, file)
        refuse(file, raw, ~(amount >= 0), f"{kind} is {{}}, where 0 or more is expected.", kind)
        who = _ids(raw, "d")[amount > 0]
        event_ids = (who + f"-{kind}").astype("string")
        value = amount[amount > 0] if kind == "spend" else pd.Series(float("nan"), index=who.index)
        parts.append(pd.DataFrame({"event_id": event_ids, "decision_id": who, "type": kind, "value": value}))
    outcomes = pd.concat(parts, ignore_index=True).astype({"type": "string"})
    return outcomes.assign(at=pd.Series([AT + AFTERWARDS] * len(outcomes)).astype("datetime64[ns, UTC]"))

"""Which outcomes belong to a decision, and when all of them are known.

An outcome counts inside the window of the offer that was shown. Outcomes are known up to the dataset's `as_of` (ISO
time or epoch seconds), else the latest time in the tables.
"""

import numpy as np
import pandas as pd

from decisioning.domain import EventType
from decisioning.errors import UserError
from stores.tables import Tables

NO_OUTCOME = (EventType.IMPRESSION,)
"""Event types that say what was shown, not what followed."""


def known_until(tables: Tables, closed: np.ndarray, now: float) -> float:
    """The moment up to which outcomes are known, in epoch seconds; `closed` (n,) is when each decision's window closes.

    Raises UserError where none has closed by then.
    """
    said = tables.dataset.get("as_of")
    if said is not None:
        moments = [float(said) if isinstance(said, int | float) else pd.Timestamp(said).timestamp()]
    else:
        # A running log ends with its latest entry. Where no window has closed by then, it may be a finished trial of
        # one day: what has closed by now counts.
        latest = seconds(pd.concat([tables.decisions["at"], tables.outcomes["at"]])).max()
        moments = [float(latest), now]
    for until in moments:
        if (closed <= until).any():
            return until
    raise UserError(
        f"No decision has matured: outcomes are known until {_iso(moments[-1])}, and the first window closes on "
        f"{_iso(float(closed.min()))}. Wait, or shorten the groups' `within`."
    )


def attributed(
    decisions: pd.DataFrame, outcomes: pd.DataFrame, at: np.ndarray, within: np.ndarray, until: float
) -> pd.DataFrame:
    """The outcomes inside their decision's window and known by then: `row` (of `decisions`), `type`, `value`, `age`
    (seconds after the decision). An event counts once."""
    frame = outcomes.drop_duplicates("event_id")
    place = pd.Index(decisions["decision_id"]).get_indexer(frame["decision_id"])
    frame, place = frame[place >= 0], place[place >= 0]
    moment = seconds(frame["at"])
    age = moment - at[place]
    inside = (age >= 0) & (age <= within[place]) & (moment <= until)
    value = pd.to_numeric(frame["value"]).astype("Float64").to_numpy(float, na_value=np.nan)
    return pd.DataFrame({"row": place, "type": frame["type"].to_numpy(object), "value": value, "age": age})[inside]


def first_conversion(outcomes: pd.DataFrame, converts: pd.Series) -> np.ndarray:
    """(n,) seconds to the first outcome of a type that the arm converts on; infinite where none followed."""
    found = np.full(len(converts), np.inf)
    codes, kinds = pd.factorize(converts)
    for code, types in enumerate(kinds):
        mine = outcomes[outcomes["type"].isin(types)]
        rows = mine["row"].to_numpy()
        belongs = codes[rows] == code
        np.minimum.at(found, rows[belongs], mine["age"].to_numpy()[belongs])
    return found


def measured(outcomes: pd.DataFrame, kind: str, n: int) -> np.ndarray:
    """(n,) the sum of values where the type has any; otherwise whether it happened."""
    mine = outcomes[outcomes["type"] == kind]
    rows = mine["row"].to_numpy()
    if mine["value"].notna().any():
        return np.bincount(rows, weights=mine["value"].fillna(0.0).to_numpy(), minlength=n)
    return (np.bincount(rows, minlength=n) > 0).astype(float)


def seconds(times: pd.Series) -> np.ndarray:
    """(n,) epoch seconds."""
    return times.to_numpy("datetime64[ns]").astype("int64") / 1e9


def _iso(at: float) -> str:
    return pd.Timestamp(at, unit="s", tz="UTC").isoformat(timespec="seconds")

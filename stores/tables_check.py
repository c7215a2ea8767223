"""What the data contract refuses, each with the table, the row and the reason.

Plain code and not pandera: a person needs "decisions, row 3 (decision d17): …", and half of the rules join two tables.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from decisioning.errors import UserError

FACT_KEYS = ("decision_id", "user_id", "as_of")

COLUMNS = {
    "decisions": ("decision_id", "user_id", "at", "surface", "offer", "probability"),
    "outcomes": ("event_id", "decision_id", "type", "value", "at"),
}
TIMES = {"facts": ("as_of",), "decisions": ("at",), "outcomes": ("at",)}
FILLED = {
    "facts": FACT_KEYS,
    "decisions": COLUMNS["decisions"],
    "outcomes": ("event_id", "decision_id", "type", "at"),
}
NUMBERS = {"facts": (), "decisions": ("probability",), "outcomes": ("value",)}


def check_tables(frames: Mapping[str, pd.DataFrame], files: Mapping[str, str]) -> None:
    """`frames` holds facts, decisions and outcomes; `files` their names for messages. Raises UserError."""
    facts, decisions, outcomes = (frames[name] for name in ("facts", "decisions", "outcomes"))
    for name, frame in frames.items():
        _columns(frame, name, files[name])
        _types(frame, name, files[name])
    _not_empty(facts, decisions, files)
    for name, frame in frames.items():
        _filled(frame, name, files[name])
    _decisions(decisions, files["decisions"])
    _outcomes(outcomes, decisions, files)
    _facts(facts, decisions, files)


def refuse(file: str, frame: pd.DataFrame, bad: Iterable[bool], reason: str, show: str | None = None) -> None:
    """Raise UserError for the first row where `bad` holds. `{}` in the reason is the `show` column's value there."""
    flags = pd.Series(bad).fillna(True).to_numpy(bool)
    if not flags.any():
        return
    at = int(flags.argmax())
    said = reason.replace("{}", str(frame[show].iloc[at])) if show else reason
    label = next((key for key in ("event_id", "decision_id", "user_id") if key in frame.columns), None)
    whose = f" ({label} {frame[label].iloc[at]})" if label else ""
    more = f" ({int(flags.sum()):,} rows like this.)" if flags.sum() > 1 else ""
    raise UserError(f"{file}, row {at + 1:,}{whose}: {said}{more}")


def _columns(frame: pd.DataFrame, name: str, file: str) -> None:
    if name == "facts":
        if "decision_id" not in frame.columns and not {"user_id", "as_of"} <= set(frame.columns):
            raise UserError(f"{file} has no key: it needs the column decision_id, or both user_id and as_of.")
        if set(frame.columns) <= set(FACT_KEYS):
            raise UserError(f"{file} has no feature: it needs at least one column besides its key.")
    missing = [column for column in COLUMNS.get(name, ()) if column not in frame.columns]
    if missing:
        has = ", ".join(map(str, frame.columns))
        raise UserError(f"{file} has no column {missing[0]}: {name} needs {', '.join(COLUMNS[name])}; it has {has}.")
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise UserError(f"{file} has the column {doubled[0]} twice: keep one of the two.")


def _types(frame: pd.DataFrame, name: str, file: str) -> None:
    for column in TIMES[name]:
        if column not in frame.columns:
            continue
        dtype = frame[column].dtype
        if not pd.api.types.is_datetime64_any_dtype(dtype):
            raise UserError(f"{file}, column {column}: {dtype} is no time; write it as 2026-11-01T12:00:00Z.")
        if str(getattr(dtype, "tz", None)) != "UTC":
            raise UserError(f"{file}, column {column}: its time zone is not UTC; convert it, or write times with a Z.")
    for column in NUMBERS[name]:
        if not pd.api.types.is_numeric_dtype(frame[column].dtype):
            raise UserError(f"{file}, column {column}: {frame[column].dtype} is no number.")


def _not_empty(facts: pd.DataFrame, decisions: pd.DataFrame, files: Mapping[str, str]) -> None:
    """No outcomes is a fact about the offers; no decisions or no facts is a mistake."""
    for frame, name in ((facts, "facts"), (decisions, "decisions")):
        if frame.empty:
            raise UserError(f"{files[name]} is empty: there is nothing to learn from.")


def _filled(frame: pd.DataFrame, name: str, file: str) -> None:
    for column in FILLED[name]:
        if column in frame.columns:
            refuse(file, frame, frame[column].isna(), f"{column} is missing.")


def _decisions(decisions: pd.DataFrame, file: str) -> None:
    refuse(file, decisions, decisions["decision_id"].duplicated(), "this decision_id stands in an earlier row too.")
    probability = decisions["probability"].astype(float)
    refuse(
        file,
        decisions,
        ~((probability > 0) & (probability <= 1)),
        "the probability {} is outside (0, 1]: it is the chance that the logging policy had of this offer.",
        "probability",
    )
    if "eligible" in decisions.columns:
        pairs = zip(decisions["offer"], decisions["eligible"], strict=True)
        lacks = [_is_list(eligible) and offer not in eligible for offer, eligible in pairs]
        refuse(file, decisions, lacks, "the logged offer {} is not among its eligible offers.", "offer")


def _is_list(cell: object) -> bool:
    return isinstance(cell, (list, tuple)) or hasattr(cell, "tolist")


def _outcomes(outcomes: pd.DataFrame, decisions: pd.DataFrame, files: Mapping[str, str]) -> None:
    file = files["outcomes"]
    refuse(file, outcomes, outcomes["event_id"].duplicated(), "this event_id stands in an earlier row too.")
    orphan = ~outcomes["decision_id"].isin(decisions["decision_id"])
    refuse(file, outcomes, orphan, f"its decision {{}} is not in {files['decisions']}.", "decision_id")
    early = outcomes["at"].reset_index(drop=True) < _moments(decisions, outcomes["decision_id"])
    refuse(file, outcomes, early, "it happened before its decision was made.")


def _moments(decisions: pd.DataFrame, ids: pd.Series) -> pd.Series:
    """When the decisions of these ids were made, in the ids' order."""
    return decisions.set_index("decision_id")["at"].reindex(ids).reset_index(drop=True)


def _facts(facts: pd.DataFrame, decisions: pd.DataFrame, files: Mapping[str, str]) -> None:
    file = files["facts"]
    if "decision_id" in facts.columns:
        refuse(file, facts, facts["decision_id"].duplicated(), "this decision_id stands in an earlier row too.")
        orphan = ~facts["decision_id"].isin(decisions["decision_id"])
        refuse(file, facts, orphan, f"its decision {{}} is not in {files['decisions']}.", "decision_id")
        without = ~decisions["decision_id"].isin(facts["decision_id"])
        refuse(files["decisions"], decisions, without, f"this decision has no row in {file}.")
        if "as_of" in facts.columns:
            _no_leak(facts, decisions, file)
        return
    twice = facts.duplicated(["user_id", "as_of"])
    refuse(file, facts, twice, "this user_id and as_of stand in an earlier row too.")
    first = facts.groupby("user_id")["as_of"].min().reindex(decisions["user_id"])
    known = first.reset_index(drop=True) <= decisions["at"].reset_index(drop=True)
    reason = f"no row of {file} knows its user {{}} at or before that moment: facts from later would leak the future."
    refuse(files["decisions"], decisions, ~known, reason, "user_id")


def _no_leak(facts: pd.DataFrame, decisions: pd.DataFrame, file: str) -> None:
    late = facts["as_of"].reset_index(drop=True) > _moments(decisions, facts["decision_id"])
    refuse(file, facts, late, "its as_of {} is after its decision: the facts would leak the future.", "as_of")

"""Our own log as training tables: what `segue serve` decided, with the chances it had, and what followed.

One row is one decision's first slot. Facts are as logged, users are their keyed hashes. What was not drawn teaches
nothing and is left out, with how many and why.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any

import msgspec
import pandas as pd

from decisioning.catalog import Catalog, FeatureSpec, FeatureType
from decisioning.domain import MILLION, Policy, Value
from decisioning.errors import UserError
from decisioning.knowledge import Knowledge
from evaluation.recorded.rewards import SKEW
from evaluation.recorded.sweeping import Opened, Progress, quietly, sweep
from evaluation.recorded.traffic import recorded, records, without_repeats
from features.frames import typed_column
from features.schema import Schema
from features.snapshots import KEYED
from scaling.engines import Engine
from scaling.local import HERE
from stores.home import Home
from stores.log.decision_log import DecisionRecord, decode_event
from stores.log.reader import read
from stores.tables import Tables

SOURCE = "log"
TEXT = dict.fromkeys(("decision_id", "user_id", "surface", "offer", "champion", "challenger", "release"), "string")
NO_OUTCOME = ("impression",)


def import_log(
    home: Home, catalog: Catalog, *, last: str = "all", engine: Engine = HERE, progress: Progress = quietly
) -> dict[str, Any]:
    """Turn the log of `home` into its dataset, in place of the one before; `last` as in `traffic.recorded`.

    `catalog` says which features and surfaces there are. Returns how many rows came in, and what was left out and why.
    Raises UserError where nothing is left to learn from, and then nothing has changed.
    """
    folder = home.logs / "decisions"
    traffic = recorded(folder, last)
    traffic = without_repeats(traffic, catalog.surfaces, engine=engine)  # any may have been sticky at the time
    task = LogRows(catalog.features, frozenset(catalog.surfaces), traffic.since, traffic.repeats)
    rows = sweep(task, traffic.chunks, engine=engine, progress=progress)
    if not rows.decisions:
        told = "; ".join(f"{count:,} {why}" for why, count in sorted(rows.left_out.items()))
        raise UserError(f"No decision in {folder} can be learned from: {told or 'there are none'}.")
    decisions = pd.concat(rows.decisions, ignore_index=True)
    if not decisions["offer"].isin(list(catalog.offers)).any():
        raise UserError(f"The catalog knows none of the offers that {folder} shows: name the right one with --catalog.")
    facts = pd.concat(rows.facts, ignore_index=True)
    again = decisions["decision_id"].duplicated()
    if again.any():  # the same decision, logged by two servers
        rows.left_out["records of a decision that was logged before"] += int(again.sum())
        decisions, facts = (frame[~again].reset_index(drop=True) for frame in (decisions, facts))
    outcomes, ignored, until = _outcomes(home, decisions)
    dataset = {
        "source": SOURCE,
        "users": KEYED,
        "features": Schema.of(catalog.features).to_json(),
        "as_of": max(traffic.until, until),
        "left_out": dict(rows.left_out),
    }
    tables = Tables(facts, decisions, outcomes, dataset)
    tables.write(home.data)
    challenged = int(decisions["challenger"].notna().sum())
    return {
        **{"decisions": len(decisions), "outcomes": len(outcomes), "users": decisions["user_id"].nunique()},
        **{"with_challenger": challenged, "left_out": dict(rows.left_out), "events_ignored": ignored},
    }


# --- Decisions and facts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Some of the rows; frames pile up, so that they are joined once."""

    decisions: tuple[pd.DataFrame, ...] = ()
    facts: tuple[pd.DataFrame, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.decisions + other.decisions, self.facts + other.facts, Counter(self.left_out) + Counter(other.left_out)
        )


@dataclass(frozen=True)
class LogRows:
    """A pass over the decision log. Picklable, so that engines can share it out."""

    features: Mapping[str, FeatureSpec]
    surfaces: frozenset[str]
    since: float = -inf
    repeats: Mapping[str, float] = field(default_factory=dict)

    def __call__(self) -> Opened[Part]:
        # Without defaults: the tables say what was missing, and whoever learns from them fills it in.
        bare = {name: replace(spec, default=None) for name, spec in self.features.items()}
        return partial(self._part, Knowledge(Catalog("features", features=bare)))

    def _part(self, knowledge: Knowledge, lines: Iterable[bytes]) -> Part:
        left_out: Counter[str] = Counter()
        decisions, facts = [], []
        specs = {name: spec for name, spec in self.features.items() if spec.type is not FeatureType.TEXT}
        for record in records(lines, self.since):
            why = "lines that are no decision" if record is None else self._unfit(record)
            if why is not None:
                left_out[why] += 1
                continue
            decisions.append(_decision(record))
            values = knowledge.values(record.request, record.facts)
            facts.append([_fitting(spec, values.get(name)) for name, spec in specs.items()])
        if not decisions:
            return Part(left_out=left_out)
        frame = pd.DataFrame(decisions)
        frame["at"] = _moments(frame["at"])
        frame = frame.astype(TEXT)
        return Part((frame,), (_facts(frame["decision_id"], specs, facts),), left_out)

    def _unfit(self, record: DecisionRecord) -> str | None:
        """Why nothing is learned from a decision."""
        decision = record.decision
        counts = self.repeats.get(decision.decision_id)
        if counts is not None and counts != record.request.now:
            return "records of a sticky answer besides the one that counts"
        if decision.holdout is not None:
            return "decisions of held-out users, who are kept out of training"
        if decision.policy is None:
            return "decisions that drew nothing (a fallback, or nothing left)"
        if record.request.surface not in self.surfaces:
            return "decisions on surfaces that the catalog lacks"
        if not decision.policy.weight(decision.first):
            return "decisions that show what had no chance"
        return None


def _decision(record: DecisionRecord) -> dict[str, Any]:
    decision = record.decision
    policy: Policy = decision.policy  # type: ignore[assignment]  # what drew nothing is not here
    return {
        "decision_id": decision.decision_id,
        "user_id": record.request.user,
        "at": record.request.now,
        "surface": decision.surface,
        "offer": decision.first,
        "probability": policy.weight(decision.first) / MILLION,
        "eligible": list(policy.offers),
        "champion": policy.champion,
        "challenger": policy.challenger,
        "release": decision.release,
    }


def _facts(ids: pd.Series, specs: Mapping[str, FeatureSpec], rows: list[list[Value]]) -> pd.DataFrame:
    columns = {"decision_id": ids}
    for place, (name, spec) in enumerate(specs.items()):
        cells = [row[place] for row in rows]
        if spec.type is FeatureType.TIME:
            columns[name] = _moments(pd.Series(cells, dtype=float))
        else:
            columns[name] = typed_column(spec, pd.Series(cells, dtype=object))
    return pd.DataFrame(columns)


def _fitting(spec: FeatureSpec, value: Value) -> Any:
    """A logged value as its column holds it; missing where it is of another type than the catalog says today."""
    match spec.type, value:
        case FeatureType.BOOL, bool():
            return value
        case FeatureType.ENUM, str():
            return value
        case FeatureType.SET, frozenset():
            return sorted(value)
        case FeatureType.INT, int() | float() if not isinstance(value, bool):
            return round(value)
        case FeatureType.FLOAT | FeatureType.TIME, int() | float() if not isinstance(value, bool):
            return float(value)
    return None


def _moments(seconds: pd.Series) -> pd.Series:
    """Epoch seconds as datetime64[ns, UTC]."""
    micros = (seconds * 1e6).round().astype("Int64")
    return pd.to_datetime(micros, unit="us", utc=True).astype("datetime64[ns, UTC]")


# --- Outcomes ---------------------------------------------------------------------------------------------------------


def _outcomes(home: Home, decisions: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int], float]:
    """What followed the decisions, each event once; what was passed over and why; and the latest event's moment.

    An event of a client whose clock lags a little is taken to have followed at once.
    """
    shown = dict(
        zip(decisions["decision_id"], zip(decisions["offer"], _seconds(decisions["at"]), strict=True), strict=True)
    )
    rows: dict[str, tuple[str, str, str, float | None, float]] = {}
    ignored: Counter[str] = Counter()
    until = -inf
    for line in read(home.logs / "events"):
        try:
            event = decode_event(line)
        except (msgspec.MsgspecError, ValueError):
            ignored["lines that are no event"] += 1
            continue
        until = max(until, event.at)
        offer, at = shown.get(event.decision_id, (None, 0.0))
        why = None
        if event.type in NO_OUTCOME:
            why = "impressions: they say what was shown, not what followed"
        elif offer is None:
            why = "events of decisions that are not in the tables"
        elif offer != event.offer:
            why = "events of offers in other slots than the first"
        elif event.at < at - SKEW:
            why = "events from before their decision"
        elif event.event_id in rows:
            why = "events that were reported again"
        if why is not None:
            ignored[why] += 1
            continue
        rows[event.event_id] = (event.event_id, event.decision_id, event.type, event.value, max(event.at, at))
    frame = pd.DataFrame(list(rows.values()), columns=["event_id", "decision_id", "type", "value", "at"])
    frame = frame.astype(dict.fromkeys(("event_id", "decision_id", "type"), "string"))
    frame["value"] = pd.to_numeric(frame["value"]).astype("float64")
    frame["at"] = _moments(frame["at"].astype(float))
    return frame, dict(ignored), until


def _seconds(times: pd.Series) -> Iterable[float]:
    """As stored, so that what is compared with them is rounded alike."""
    return (times.astype("int64") / 1e9).tolist()

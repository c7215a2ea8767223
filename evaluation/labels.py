"""From the three tables to logged decisions with what followed: matured ones, as arrays.

A decision has matured once its whole attribution window lies before the moment up to which outcomes are known: the
dataset's `as_of` (ISO time or epoch seconds), else the latest time in the tables. Outcomes outside the window don't
count.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.domain import NOTHING, EventType
from decisioning.errors import UserError
from stores.tables import Tables

CONVERTED, NET_VALUE = "converted", "net_value"
_NO_OUTCOME = (EventType.IMPRESSION,)
"""Event types that say what was shown, not what followed."""


@dataclass(frozen=True)
class Logged:
    """n matured decisions over A actions (`arms`, sorted by name; NOTHING may be one)."""

    arms: tuple[str, ...]
    groups: tuple[str, ...]
    """(A,) each arm's group; NOTHING's is its own."""
    net: np.ndarray
    """(A,) value net of cost per conversion."""
    priority: np.ndarray
    """(A,) priority classes."""
    surfaces: tuple[str, ...]
    user: np.ndarray
    """(n,) integer codes."""
    surface: np.ndarray
    """(n,) indices into `surfaces`."""
    action: np.ndarray
    """(n,) indices into `arms`."""
    probability: np.ndarray
    eligible: np.ndarray
    """(n, A) bool."""
    conversion: np.ndarray
    """(n,) 0 or 1: the outcome that the shown arm's group converts on, within its window."""
    primary: str
    """What `conversion` is called among the outcomes."""
    outcomes: Mapping[str, np.ndarray]
    """(n,) each, `primary` first; `net_value` where arms differ in it; then whatever else was logged."""
    facts: pd.DataFrame
    """n rows, one column per feature, as known at the decision."""
    start: float
    end: float
    immature: int
    """Decisions left out because their window was still open."""

    @property
    def n(self) -> int:
        return len(self.action)

    @property
    def reward(self) -> np.ndarray:
        """(n,) what policies are trained for: conversion × net value."""
        return self.conversion * self.net[self.action]

    @property
    def nothing(self) -> int | None:
        """The index of NOTHING where it was logged."""
        found = self.arms.index(NOTHING) if NOTHING in self.arms else None
        return found if found is not None and (self.action == found).any() else None


def label(tables: Tables, catalog: Catalog, model: str, *, now: float | None = None) -> Logged:
    """Join decisions, facts and outcomes, on the surfaces where offers of `model` may stand.

    Raises UserError for offers or surfaces that the catalog lacks, features of the catalog that the facts lack, and
    when no decision has matured.
    """
    own = {name: offer for name, offer in catalog.offers.items() if offer.score.model == model}
    decisions = tables.decisions.reset_index(drop=True)
    _check_catalog(decisions, tables.feature_names, catalog)
    where = decisions.loc[decisions["offer"].isin(list(own)), "surface"].unique()
    if not len(where):
        raise UserError(f"No decision shows an offer of the model {model} ({_some(sorted(own)) or 'it has none'}).")
    rules = _rules(catalog, sorted(set(decisions["offer"])), own)
    within = decisions["offer"].map({name: rule.within for name, rule in rules.items()}).to_numpy(float)
    at = seconds(decisions["at"])
    matured = _matured(tables, at, within, time.time() if now is None else now)
    rows = np.flatnonzero(matured & decisions["surface"].isin(where).to_numpy(bool))
    kept = decisions.iloc[rows].reset_index(drop=True)
    outcomes = _joined(kept, tables.outcomes, within[rows], at[rows])
    return _logged(tables, catalog, kept, rows, outcomes, rules, own, at, int((~matured).sum()))


def _logged(
    tables: Tables,
    catalog: Catalog,
    kept: pd.DataFrame,
    rows: np.ndarray,
    outcomes: pd.DataFrame,
    rules: Mapping[str, "_Rule"],
    own: Collection[str],
    at: np.ndarray,
    immature: int,
) -> Logged:
    eligible_lists = kept["eligible"] if "eligible" in kept.columns else None
    arms, eligible = _eligible(kept, eligible_lists)
    action = pd.Categorical(kept["offer"], categories=list(arms)).codes.astype(np.intp)
    eligible[np.arange(len(kept)), action] = True
    conversion = _conversion(outcomes, kept["offer"].map({name: rule.types for name, rule in rules.items()}))
    net = np.array([_net(catalog, own, arm) for arm in arms])
    types = sorted({str(catalog.group(catalog.offers[name].group).converts_on) for name in own})
    primary = types[0] if len(types) == 1 else CONVERTED
    found = {primary: conversion}
    if len(set(net)) > 1:
        found[NET_VALUE] = conversion * net[action]
    others = sorted(set(outcomes["type"]) - {primary, *_NO_OUTCOME})
    found |= {kind: _measured(outcomes, kind, len(kept)) for kind in others}
    surfaces = tuple(sorted(set(kept["surface"])))
    return Logged(
        arms=arms,
        groups=tuple(NOTHING if arm == NOTHING else catalog.offers[arm].group for arm in arms),
        net=net,
        priority=np.array([0 if arm == NOTHING else catalog.offers[arm].priority for arm in arms]),
        surfaces=surfaces,
        user=pd.factorize(kept["user_id"])[0],
        surface=pd.Categorical(kept["surface"], categories=list(surfaces)).codes.astype(np.intp),
        action=action,
        probability=kept["probability"].to_numpy(float),
        eligible=eligible,
        conversion=conversion,
        primary=primary,
        outcomes=found,
        facts=_facts(tables, catalog).iloc[rows].reset_index(drop=True),
        start=float(at[rows].min()),
        end=float(at[rows].max()),
        immature=immature,
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    """What counts as a conversion of an arm, and for how long."""

    types: tuple[str, ...]
    within: float


def _rules(catalog: Catalog, arms: Sequence[str], own: Collection[str]) -> dict[str, _Rule]:
    """By arm. NOTHING converts on what the model's own offers do, within the shortest of their windows."""
    groups = {arm: catalog.group(catalog.offers[arm].group) for arm in {*arms, *own} - {NOTHING}}
    rules = {arm: _Rule((str(group.converts_on),), group.within) for arm, group in groups.items()}
    types = tuple(sorted({kind for arm in own for kind in rules[arm].types}))
    return rules | {NOTHING: _Rule(types, min(rules[arm].within for arm in own))}


def _net(catalog: Catalog, own: Collection[str], arm: str) -> float:
    """Value net of cost per conversion. One that came after showing NOTHING is worth the mean of the model's offers.

    Where all offers are worth the same, the reward's difference to NOTHING is exactly effect × net.
    """
    if arm != NOTHING:
        return catalog.offers[arm].score.net
    nets = [catalog.offers[other].score.net for other in sorted(own)]
    return nets[0] if len(set(nets)) == 1 else sum(nets) / len(nets)


def _check_catalog(decisions: pd.DataFrame, features: Sequence[str], catalog: Catalog) -> None:
    named = set(decisions["offer"])
    if "eligible" in decisions.columns:
        named.update(*(cell for cell in decisions["eligible"] if isinstance(cell, list)))
    unknown = sorted(named - set(catalog.offers) - {NOTHING})
    if unknown:
        raise UserError(
            f"The decisions hold {len(unknown)} offers that the catalog lacks: {_some(unknown)}. "
            "Add them to the catalog (they may be past their live window), or import without them."
        )
    surfaces = sorted(set(decisions["surface"]) - set(catalog.surfaces))
    if surfaces:
        raise UserError(f"The decisions are on surfaces that the catalog lacks: {_some(surfaces)}. Add them to it.")
    missing = sorted(name for name, spec in catalog.features.items() if not spec.from_context and name not in features)
    if missing:
        raise UserError(
            f"The facts lack {len(missing)} features of the catalog: {_some(missing)}. "
            "Import facts with these columns, or take them out of features.yaml."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _matured(tables: Tables, at: np.ndarray, within: np.ndarray, now: float) -> np.ndarray:
    """(decisions,) whether the window has closed by the moment up to which outcomes are known."""
    said = tables.dataset.get("as_of")
    if said is not None:
        until = float(said) if isinstance(said, int | float) else pd.Timestamp(said).timestamp()
        moments = [until]
    else:
        # A running log ends with its latest entry. Where no window has closed by then, it may be a finished trial of
        # one day: what has closed by now counts.
        moments = [float(max(at.max(), seconds(tables.outcomes["at"]).max(initial=-np.inf))), now]
    for until in moments:
        if (at + within <= until).any():
            return at + within <= until
    raise UserError(
        f"No decision has matured: outcomes are known until {_iso(moments[-1])}, and the shortest window is "
        f"{within.min() / 86_400:g} days. Wait, or shorten the groups' `within`."
    )


def seconds(times: pd.Series) -> np.ndarray:
    """(n,) epoch seconds."""
    return times.to_numpy("datetime64[ns]").astype("int64") / 1e9


def _iso(at: float) -> str:
    return pd.Timestamp(at, unit="s", tz="UTC").isoformat(timespec="seconds")


def _joined(decisions: pd.DataFrame, outcomes: pd.DataFrame, within: np.ndarray, at: np.ndarray) -> pd.DataFrame:
    """The outcomes inside their decision's window: `row` (of `decisions`), `type`, `value`. An event counts once."""
    frame = outcomes.drop_duplicates("event_id")
    place = pd.Index(decisions["decision_id"]).get_indexer(frame["decision_id"])
    frame, place = frame[place >= 0], place[place >= 0]
    age = seconds(frame["at"]) - at[place]
    inside = (age >= 0) & (age <= within[place])
    value = pd.to_numeric(frame["value"]).astype("Float64").to_numpy(float, na_value=np.nan)
    return pd.DataFrame({"row": place, "type": frame["type"].to_numpy(object), "value": value})[inside]


def _conversion(outcomes: pd.DataFrame, converts: pd.Series) -> np.ndarray:
    """(n,) 1 where an outcome of a type that the arm converts on followed."""
    found = np.zeros(len(converts))
    codes, kinds = pd.factorize(converts)
    for code, types in enumerate(kinds):
        rows = outcomes.loc[outcomes["type"].isin(types), "row"].to_numpy()
        found[rows[codes[rows] == code]] = 1.0
    return found


def _measured(outcomes: pd.DataFrame, kind: str, n: int) -> np.ndarray:
    """(n,) the sum of values where the type has any; otherwise whether it happened."""
    mine = outcomes[outcomes["type"] == kind]
    rows = mine["row"].to_numpy()
    if mine["value"].notna().any():
        return np.bincount(rows, weights=mine["value"].fillna(0.0).to_numpy(), minlength=n)
    return (np.bincount(rows, minlength=n) > 0).astype(float)


def _eligible(decisions: pd.DataFrame, lists: pd.Series | None) -> tuple[tuple[str, ...], np.ndarray]:
    """The arms, sorted, and who could get what. Without lists: whatever was ever logged on the surface."""
    if lists is None:
        arms = tuple(sorted(set(decisions["offer"])))
        seen = pd.crosstab(decisions["surface"], decisions["offer"]) > 0
        return arms, seen.loc[decisions["surface"], list(arms)].to_numpy(bool)
    keys = lists.map(lambda cell: tuple(sorted(cell)) if hasattr(cell, "__len__") else ())
    codes, sets = pd.factorize(keys)
    arms = tuple(sorted(set(decisions["offer"]).union(*sets)))
    place = {arm: index for index, arm in enumerate(arms)}
    table = np.zeros((len(sets), len(arms)), bool)
    for code, names in enumerate(sets):
        table[code, [place[name] for name in names]] = True
    return arms, table[codes]


def _facts(tables: Tables, catalog: Catalog) -> pd.DataFrame:
    """Facts in the decisions' order; values that were older than their feature's `max_age` are missing."""
    facts = tables.facts_of_decisions()
    if tables.keyed_by_decision:
        return facts
    limits = {name: spec.max_age for name, spec in catalog.features.items() if spec.max_age is not None}
    stale = [name for name in limits if name in facts.columns]
    if stale:
        age = _ages(tables)
        for name in stale:
            facts[name] = facts[name].mask(age > limits[name])
    return facts


def _ages(tables: Tables) -> np.ndarray:
    """(n,) seconds from each decision back to the facts that it takes."""
    left = (
        tables.decisions[["user_id", "at"]].assign(order=range(len(tables.decisions))).sort_values("at", kind="stable")
    )
    right = tables.facts[["user_id", "as_of"]].sort_values("as_of", kind="stable")
    joined = pd.merge_asof(left, right, left_on="at", right_on="as_of", by="user_id").sort_values("order")
    return (joined["at"] - joined["as_of"]).dt.total_seconds().to_numpy()

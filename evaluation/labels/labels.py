"""From the three tables to logged decisions with what followed, as arrays.

Nothing is judged by a decision that is still open: one younger than the longest window on its surface, whatever was
shown. (To wait longer for some offers than for others would leave a sample that depends on what was shown, and
probabilities that no longer hold in it.) With `fresh`, open decisions are there to learn from, what they have shown so
far being weighted for what is still to come. An offer that has left the catalog stays what was shown, with its
probability; no policy of today may choose it.
"""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog, Offer
from decisioning.domain import NOTHING
from decisioning.errors import UserError
from evaluation.labels.arms import Rule, eligibility, group_of, net_of, rules, some
from evaluation.labels.attribution import NO_OUTCOME, attributed, first_conversion, known_until, measured, seconds
from evaluation.labels.delays import Delays
from evaluation.labels.known_facts import check_features, known_facts
from evaluation.labels.logged import CONVERTED, NET_VALUE, RETIRED, Fresh, Logged
from stores.tables import Tables

__all__ = ["CONVERTED", "NET_VALUE", "RETIRED", "Fresh", "Logged", "label", "seconds"]


def label(tables: Tables, catalog: Catalog, model: str, *, now: float | None = None, fresh: bool = False) -> Logged:
    """Join decisions, facts and outcomes, on the surfaces where offers of `model` may stand.

    Raises UserError for surfaces that the catalog lacks, features of the catalog that the facts lack or hold otherwise,
    and when no decision shows an offer of the model, or none has matured.
    """
    own = {name: offer for name, offer in catalog.offers.items() if offer.score.model == model}
    decisions = tables.decisions.reset_index(drop=True)
    _check_surfaces(decisions, catalog)
    check_features(tables, catalog)
    where = decisions.loc[decisions["offer"].isin(list(own)), "surface"].unique()
    if not len(where):
        shown = f"they show {some(sorted(set(decisions['offer']) - {NOTHING}))}"
        raise UserError(
            f"No decision shows an offer of the model {model} ({some(sorted(own)) or 'it has none'}); {shown}. "
            "Use the catalog that these decisions were made with."
        )
    there = decisions["surface"].isin(where).to_numpy(bool)
    return _Labelling(tables, catalog, own, decisions[there], time.time() if now is None else now).logged(fresh)


def _check_surfaces(decisions: pd.DataFrame, catalog: Catalog) -> None:
    surfaces = sorted(set(decisions["surface"]) - set(catalog.surfaces))
    if surfaces:
        raise UserError(f"The decisions are on surfaces that the catalog lacks: {some(surfaces)}. Add them to it.")


class _Labelling:
    """The decisions on the model's surfaces that leave something to choose, as arrays of one length."""

    def __init__(
        self, tables: Tables, catalog: Catalog, own: Mapping[str, Offer], decisions: pd.DataFrame, now: float
    ) -> None:
        self._tables, self._catalog, self._own = tables, catalog, own
        self._arms, eligible = eligibility(decisions)
        self._rules: Mapping[str, Rule] = rules(catalog, self._arms, own)
        self._groups = tuple(group_of(catalog, arm) for arm in self._arms)
        could = eligible.copy()
        eligible[:, [group == RETIRED for group in self._groups]] = False
        choice = eligible.any(axis=1)
        self._without_choice = int((~choice).sum())
        self._rows, frame = decisions.index.to_numpy()[choice], decisions[choice].reset_index(drop=True)
        self._eligible, self._frame = eligible[choice], frame
        self._surfaces = tuple(sorted(set(frame["surface"])))
        self._surface = pd.Categorical(frame["surface"], categories=list(self._surfaces)).codes.astype(np.intp)
        self._action = pd.Categorical(frame["offer"], categories=list(self._arms)).codes.astype(np.intp)
        within = np.array([self._rules[arm].within for arm in self._arms])
        self._at, self._within = seconds(frame["at"]), within[self._action]
        self._closed = self._at + self._longest(within, could[choice])
        self._until = known_until(tables, self._closed, now)

    def _longest(self, within: np.ndarray, could: np.ndarray) -> np.ndarray:
        """(rows,) the longest window of all that could be shown on the surface."""
        there = [could[self._surface == place].any(axis=0) for place in range(len(self._surfaces))]
        return np.array([within[arms].max() for arms in there])[self._surface]

    def logged(self, fresh: bool) -> Logged:
        matured = self._closed <= self._until
        outcomes = attributed(self._frame, self._tables.outcomes, self._at, self._within, self._until)
        delay = first_conversion(outcomes, self._frame["offer"].map({n: r.types for n, r in self._rules.items()}))
        # Matured users first, so that their codes have no gaps.
        order = np.argsort(~matured, kind="stable")
        user = np.empty(len(order), np.int64)
        user[order] = pd.factorize(self._frame["user_id"].to_numpy(object)[order])[0]
        columns = self._columns(user, np.isfinite(delay).astype(float))
        rows = np.flatnonzero(matured)
        place = np.full(len(matured), -1)
        place[rows] = np.arange(len(rows))
        outcomes = outcomes.assign(row=place[outcomes["row"].to_numpy()])
        open_ones = self._fresh(~matured, columns, delay) if fresh else None
        return self._logged(rows, columns, outcomes[outcomes["row"] >= 0], open_ones)

    def _columns(self, user: np.ndarray, conversion: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "user": user,
            "surface": self._surface,
            "action": self._action,
            "probability": self._frame["probability"].to_numpy(float),
            "eligible": self._eligible,
            "conversion": conversion,
        }

    def _logged(
        self, rows: np.ndarray, columns: Mapping[str, np.ndarray], outcomes: pd.DataFrame, fresh: Fresh | None
    ) -> Logged:
        catalog, own = self._catalog, self._own
        mine = {name: column[rows] for name, column in columns.items()}
        net = np.array([net_of(catalog, own, arm) for arm in self._arms])
        types = sorted({str(catalog.group(offer.group).converts_on) for offer in own.values()})
        primary = types[0] if len(types) == 1 else CONVERTED
        found = {primary: mine["conversion"]}
        if len(set(net)) > 1:
            found[NET_VALUE] = mine["conversion"] * net[mine["action"]]
        others = sorted(set(outcomes["type"]) - {primary, *NO_OUTCOME})
        found |= {kind: measured(outcomes, kind, len(rows)) for kind in others}
        return Logged(
            arms=self._arms,
            groups=self._groups,
            net=net,
            priority=np.array([catalog.offers[arm].priority if arm in catalog.offers else 0 for arm in self._arms]),
            surfaces=self._surfaces,
            **mine,
            primary=primary,
            outcomes=found,
            facts=known_facts(self._tables, catalog, self._rows[rows]),
            start=float(self._at[rows].min()),
            end=float(self._at[rows].max()),
            immature=len(self._at) - len(rows),
            fresh=fresh,
            at=self._at[rows],
            closed=self._closed[rows],
            without_choice=self._without_choice,
        )

    def _fresh(self, immature: np.ndarray, columns: Mapping[str, np.ndarray], delay: np.ndarray) -> Fresh | None:
        age = (self._until - self._at) / self._within
        rows = np.flatnonzero(immature & (age > 0))
        known = np.flatnonzero(~immature & np.isfinite(delay))
        if not len(rows) or not len(known):
            return None
        delays = Delays(columns["action"][known], delay[known] / self._within[known], self._groups)
        mine = {name: column[rows] for name, column in columns.items()}
        weight = np.where(mine["conversion"] > 0, 1.0 / delays.seen(mine["action"], age[rows]), 1.0)
        return Fresh(**mine, weight=weight, facts=known_facts(self._tables, self._catalog, self._rows[rows]))

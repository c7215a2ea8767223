"""Who may see what in the simulated world: the catalog's own conditions, as far as the world knows what they ask."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from decisioning.conditions import AllOf, AnyOf, Condition, holds
from decisioning.domain import Value
from evaluation.simulator.world import MARKET_SHARES, Population
from features.declared.account import TIERS


def eligible(people: Population, conditions: Mapping[str, Condition | None]) -> np.ndarray:
    """(people, offers) What the catalog asks of tier and market holds; whatever else it asks is taken to be so."""
    kinds = people.tier * len(MARKET_SHARES) + pd.factorize(people.market, sort=True)[0]
    out = np.zeros((len(people), len(conditions)), bool)
    for kind in np.unique(kinds):
        who = np.flatnonzero(kinds == kind)
        known = {"tier": TIERS[people.tier[who[0]]], "market": str(people.market[who[0]])}
        out[who] = [condition is None or may_hold(condition, known) for condition in conditions.values()]
    return out


def may_hold(condition: Condition, known: Mapping[str, Value]) -> bool:
    """Whether a condition may hold, where only some features are known. Exact for a tree without "not"."""
    match condition:
        case AllOf(children):
            return all(may_hold(child, known) for child in children)
        case AnyOf(children):
            return any(may_hold(child, known) for child in children)
    return condition.feature not in known or holds(condition, known, 0.0)

"""What could be shown, and what it is worth: the arms of a log beside the catalog of today."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.domain import NOTHING
from evaluation.labels.logged import RETIRED


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as a conversion of an arm, and for how many seconds."""

    types: tuple[str, ...]
    within: float


def rules(catalog: Catalog, arms: Collection[str], own: Collection[str]) -> dict[str, Rule]:
    """By arm. NOTHING and what has retired convert on what the model's own offers do, within their shortest window."""
    known = {*arms, *own} & set(catalog.offers)
    groups = {arm: catalog.group(catalog.offers[arm].group) for arm in known}
    found = {arm: Rule((str(group.converts_on),), group.within) for arm, group in groups.items()}
    types = tuple(sorted({kind for arm in own for kind in found[arm].types}))
    usual = Rule(types, min(found[arm].within for arm in own))
    return found | dict.fromkeys({*arms, NOTHING} - known, usual)


def group_of(catalog: Catalog, arm: str) -> str:
    if arm == NOTHING:
        return NOTHING
    return catalog.offers[arm].group if arm in catalog.offers else RETIRED


def net_of(catalog: Catalog, own: Collection[str], arm: str) -> float:
    """Value net of cost per conversion. One that came after showing NOTHING is worth the mean of the model's offers.

    Where all offers are worth the same, the reward's difference to NOTHING is exactly effect × net. What has retired
    has no value of today either: no policy can choose it.
    """
    if arm in catalog.offers:
        return catalog.offers[arm].score.net
    nets = [catalog.offers[other].score.net for other in sorted(own)]
    return nets[0] if len(set(nets)) == 1 else sum(nets) / len(nets)


def eligibility(decisions: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    """The arms, sorted, and (n, A) what could have been shown. Without lists: whatever was logged on the surface."""
    shown = decisions["offer"]
    if "eligible" in decisions.columns:
        arms, table = _listed(decisions["eligible"], set(shown))
    else:
        arms = tuple(sorted(set(shown)))
        seen = pd.crosstab(decisions["surface"], shown) > 0
        table = seen.loc[decisions["surface"], list(arms)].to_numpy(bool)
    action = pd.Categorical(shown, categories=list(arms)).codes
    table[np.arange(len(table)), action] = True
    return arms, table


def _listed(lists: pd.Series, shown: set[str]) -> tuple[tuple[str, ...], np.ndarray]:
    keys = lists.map(lambda cell: tuple(cell) if hasattr(cell, "__len__") else ())
    codes, sets = pd.factorize(keys)
    arms = tuple(sorted(shown.union(*sets)))
    place: Mapping[str, int] = {arm: index for index, arm in enumerate(arms)}
    table = np.zeros((len(sets), len(arms)), bool)
    for code, names in enumerate(sets):
        table[code, [place[name] for name in names]] = True
    return arms, table[codes]


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

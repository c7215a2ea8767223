"""What was known of the user at each decision, checked against what the catalog declares."""

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog, FeatureType
from decisioning.errors import UserError
from evaluation.labels.arms import some
from stores.tables import Tables

NUMBERS, TEXTS = ("b", "i", "u", "f"), ("O", "U", "T")
KINDS = {
    FeatureType.BOOL: ("b",),
    FeatureType.INT: NUMBERS,
    FeatureType.FLOAT: NUMBERS,
    FeatureType.ENUM: TEXTS,
    FeatureType.SET: TEXTS,
    FeatureType.TIME: ("M",),
    FeatureType.TEXT: TEXTS,
}
"""The kinds of column (numpy's letters) that can hold each type of feature."""


def check_features(tables: Tables, catalog: Catalog) -> None:
    """Raises UserError for features of the catalog that the facts lack, or hold as something else."""
    declared = {name: spec for name, spec in catalog.features.items() if not spec.from_context}
    missing = sorted(set(declared) - set(tables.feature_names))
    if missing:
        raise UserError(
            f"The facts lack {len(missing)} features of the catalog: {some(missing)}. "
            "Import facts with these columns, or take them out of features.yaml."
        )
    for name, spec in sorted(declared.items()):
        column = tables.facts[name]
        if column.dtype.kind not in KINDS[spec.type] and not column.isna().all():
            raise UserError(
                f"The catalog says that {name} is {spec.type}, and the facts hold it as {column.dtype}: "
                "import the facts again as declared, or change its type in features.yaml."
            )


def known_facts(tables: Tables, catalog: Catalog, rows: np.ndarray) -> pd.DataFrame:
    """Facts of some decisions, in order; values that were older than their feature's `max_age` are missing."""
    facts = tables.facts_of_decisions()
    if not tables.keyed_by_decision:
        limits = {name: spec.max_age for name, spec in catalog.features.items() if spec.max_age is not None}
        stale = [name for name in limits if name in facts.columns]
        if stale:
            age = _ages(tables)
            for name in stale:
                facts[name] = facts[name].mask(age > limits[name])
    whole = len(rows) == len(facts) and (rows == np.arange(len(facts))).all()
    return facts if whole else facts.iloc[rows].reset_index(drop=True)


def _ages(tables: Tables) -> np.ndarray:
    """(n,) seconds from each decision back to the facts that it takes."""
    left = (
        tables.decisions[["user_id", "at"]].assign(order=range(len(tables.decisions))).sort_values("at", kind="stable")
    )
    right = tables.facts[["user_id", "as_of"]].sort_values("as_of", kind="stable")
    joined = pd.merge_asof(left, right, left_on="at", right_on="as_of", by="user_id").sort_values("order")
    return (joined["at"] - joined["as_of"]).dt.total_seconds().to_numpy()

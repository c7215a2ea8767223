"""The catalogue of all features: what `segue features list` and `explain` say of each."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import sqlglot
import sqlglot.expressions as sge

from decisioning.catalog import FeatureSpec
from decisioning.domain import Value
from decisioning.errors import UserError
from decisioning.words import duration
from decisioning.yaml_nodes import did_you_mean
from features.definitions import FEATURES, TOPICS
from features.feature import Feature
from features.portable import SEEN, USER

FROM_EVENTS = "the events before the moment"
FROM_USER = "the user's own record"
FROM_CONTEXT = "the request: the client sends it"
FROM_IMPORT = "the imported facts"


@dataclass(frozen=True, slots=True)
class Entry:
    """One feature as people read of it."""

    spec: FeatureSpec
    source: str
    owner: str = ""
    meaning: str = ""
    topic: str = ""
    when_no_events: Value = None
    used: bool = False
    """Whether the catalog at hand declares it."""

    @property
    def name(self) -> str:
        return self.spec.name

    def to_json(self) -> dict[str, Any]:
        spec = self.spec
        default = sorted(spec.default) if isinstance(spec.default, frozenset) else spec.default
        return {
            **{"name": spec.name, "type": str(spec.type), "values": list(spec.values), "unit": spec.unit or None},
            **{"default": default, "max_age_seconds": spec.max_age, "blocks_if_missing": spec.blocks_if_missing},
            **{"owner": self.owner or None, "meaning": self.meaning or None, "topic": self.topic or None},
            **{"computed_from": self.source, "counts_on": spec.counts or None},
            "in_catalog": self.used,
        }


def entries(declared: Mapping[str, FeatureSpec]) -> tuple[Entry, ...]:
    """All definitions in their order, and then what else a catalog declares.

    A catalog may give a feature another default or maximum age than its definition: the catalog's is what counts.
    """
    others = {
        name: Entry(spec, FROM_CONTEXT if spec.from_context else FROM_IMPORT, used=True)
        for name, spec in declared.items()
        if not any(_is_it(feature, spec) for feature in FEATURES)
    }
    known = [
        Entry(
            declared.get(feature.name, feature.spec),
            FROM_USER if feature.of_user else FROM_EVENTS,
            *(feature.owner, feature.meaning, topic, feature.when_no_events, feature.name in declared),
        )
        for topic, features in TOPICS.items()
        for feature in features
        if feature.name not in others
    ]
    return (*known, *others.values())


def _is_it(feature: Feature, spec: FeatureSpec) -> bool:
    """Whether a declaration is of this definition, and not of another thing of the same name."""
    ours = feature.spec
    return (spec.name, spec.type, spec.values, spec.from_context) == (ours.name, ours.type, ours.values, False)


def entry(declared: Mapping[str, FeatureSpec], name: str) -> Entry:
    """Raises UserError for a name that nothing defines and the catalog doesn't declare, with the nearest right one."""
    found = {one.name: one for one in entries(declared)}
    if name not in found:
        raise UserError(f'There is no feature "{name}". {did_you_mean(name, found)}'.rstrip())
    return found[name]


def definition(feature: Feature) -> str:
    """The expression as it is declared, such as `p.count(seen, 'session', 7)`."""
    code = (feature.of_events or feature.of_user).__code__
    tree = ast.parse(Path(code.co_filename).read_text())
    written = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno]
    return ast.unparse(written[0].body)


def formula(feature: Feature) -> str:
    """The definition's expression as SQL for DuckDB; of one over events, as it stands in the aggregation."""
    told = (
        SEEN.aggregate(value=feature.of_events(SEEN)) if feature.of_events else USER.select(value=feature.of_user(USER))
    )
    tree: sge.Select = sqlglot.parse_one(str(ibis.to_sql(told, dialect="duckdb")), read="duckdb")
    for column in tree.find_all(sge.Column):
        column.set("table", None)  # there is only one
    for name in tree.find_all(sge.Identifier):
        name.set("quoted", False)
    return tree.selects[0].unalias().sql("duckdb")


def age_words(spec: FeatureSpec) -> str:
    return "" if spec.max_age is None else duration(spec.max_age)


def default_words(value: Value) -> str:
    """A default as the catalog writes it; nothing for none."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case frozenset():
            return f"[{', '.join(sorted(value))}]"
        case float():
            return f"{value:g}"
    return str(value)

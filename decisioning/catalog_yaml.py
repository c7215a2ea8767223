"""From the product managers' YAML to a checked Catalog, or to every error at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import TypeVar

from decisioning.catalog import Ablations, Catalog, Exploration, FeatureSpec
from decisioning.catalog_conditions import ConditionReader
from decisioning.catalog_experiments import (
    assign_ranges,
    read_ablations,
    read_experiment,
    read_exploration,
    read_holdout,
    read_test,
)
from decisioning.catalog_invariants import check_invariants
from decisioning.catalog_keys import NAMED, RULES, SECTIONS, SINGLE
from decisioning.catalog_offers import Context, read_feature, read_group, read_offer, read_surface
from decisioning.catalog_rules import (
    check_arbitration,
    read_bounds,
    read_budget,
    read_cap,
    read_context_weight,
    read_exclusive,
    read_guard,
    read_invariant,
    read_lever,
    read_quiet_hours,
    read_suppression,
)
from decisioning.catalog_warnings import find_warnings
from decisioning.domain import EventType, Place
from decisioning.yaml_fields import NAMING, Broken, attempt, is_name, text
from decisioning.yaml_nodes import MAX_BYTES, CatalogError, Node, Problem, Problems, did_you_mean, read_yaml

__all__ = ["SECTIONS", "CatalogError", "Problem", "catalog_hash", "check_catalog", "load_catalog"]

T = TypeVar("T")

MAX_TOTAL = 4_000_000
"""Bytes of all files together; 500,000 load within a second."""
MOST = {"offers": 1_000, "surfaces": 100, "context_weights": 100}
"""The limits that are published and tested. So many weights can't multiply a score to infinity."""


def load_catalog(files: Mapping[str, bytes]) -> Catalog:
    """The catalog that some files make together: file name, relative to the catalog's folder, to content.

    The order of files, and of what is in them, never matters. Raises CatalogError with everything that is wrong.
    """
    return _load(files)[0]


def check_catalog(files: Mapping[str, bytes], now: float) -> tuple[Catalog, tuple[Problem, ...]]:
    """The catalog as `load_catalog` gives it, and its warnings as of `now` (epoch seconds). Raises CatalogError."""
    catalog, sections, at = _load(files)

    def where(section: str, name: str) -> Place:
        return sections.named[section][name].key_place

    return catalog, find_warnings(catalog, now, at.conditions.proofs, at.problems, where, at.conditions.idle())


def _load(files: Mapping[str, bytes]) -> tuple[Catalog, "_Sections", Context]:
    problems = Problems()
    sections = _merge(files, problems)
    events = frozenset(EventType) | _texts(sections.named["groups"], "converts_on")
    features = _each(sections.named["features"], lambda name, node: read_feature(name, node, events, problems))
    at = _context(sections, features, events, problems)
    catalog = _build(sections, catalog_hash(files), at)
    check_invariants(catalog, at.conditions.proofs, problems)
    problems.raise_any()
    _check_there_is_something(sections, problems)
    return catalog, sections, at


def _check_there_is_something(sections: "_Sections", problems: Problems) -> None:
    """Where nothing else is wrong: a release that shows nothing anywhere is an accident."""
    for section in ("surfaces", "offers"):
        if not sections.named[section]:
            problems.add_at(
                Place("", 0), section, f"the catalog has no {section}", f"Write {section}: in any file of it."
            )
    problems.raise_any()


def catalog_hash(files: Mapping[str, bytes]) -> str:
    """16 hexadecimal digits that differ wherever a name or a byte differs."""
    digest = blake2b(digest_size=8)
    for name, content in sorted(files.items()):
        # Lengths first, so that no content can pass for another file's name.
        digest.update(b"%d %d " % (len(name.encode()), len(content)))
        digest.update(name.encode() + content)
    return digest.hexdigest()


# --- Files to sections ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sections:
    """The nodes of all files together, by section, in the order of their names."""

    named: dict[str, dict[str, Node]] = field(default_factory=lambda: {section: {} for section in NAMED})
    single: dict[str, Node] = field(default_factory=dict)
    tests: list[Node] = field(default_factory=list)


def _merge(files: Mapping[str, bytes], problems: Problems) -> _Sections:
    sections = _Sections()
    if not files:
        problems.add_at(Place("", 0), "", "there are no files", "A catalog is a folder of YAML files.")
    total = sum(len(content) for content in files.values() if len(content) <= MAX_BYTES)  # others are told one by one
    if total > MAX_TOTAL:
        problems.add_at(
            Place("", 0), "", f"the files have {total:,} bytes, more than the {MAX_TOTAL:,} that are allowed"
        )
        problems.raise_any()
    unread = False
    for name, content in sorted(files.items()):
        known = len(problems.found)
        root = read_yaml(name, content, problems)
        unread = unread or (root is None and len(problems.found) > known)
        if root is None or root.is_null:
            continue
        if not isinstance(root.value, dict):
            problems.add(root, "needs sections such as offers:, surfaces: or features:")
            continue
        for section, node in root.value.items():
            if not node.is_null:
                _add_section(section, node, sections, problems)
    if unread:  # whatever the others miss may be in there: their complaints would bury the mistake
        problems.raise_any()
    for section, most in MOST.items():
        nodes = list(sections.named[section].values())
        if len(nodes) > most:
            message = f"the catalog has {len(nodes):,} {section}, more than the {most:,} that are allowed"
            problems.add_at(nodes[most].key_place, section, message)
    sections.named = {section: dict(sorted(nodes.items())) for section, nodes in sections.named.items()}
    return sections


def _add_section(section: str, node: Node, sections: _Sections, problems: Problems) -> None:
    if section in NAMED and isinstance(node.value, dict):
        for name, item in node.value.items():
            _add_item(section, name, item, sections.named[section], problems)
    elif section == "tests" and isinstance(node.value, list):
        sections.tests += node.value
    elif section in SINGLE and section not in sections.single:
        sections.single[section] = node
    elif section in SINGLE:
        first = sections.single[section].key_place
        problems.add_at(node.key_place, section, f'"{section}" is given twice, first at {first}', "Keep one of them.")
    elif section in SECTIONS:
        problems.add(node, f"needs {'a list' if section == 'tests' else 'a mapping by name'}, got {node.kind}")
    else:
        problems.add_at(node.key_place, section, f'unknown section "{section}"', did_you_mean(section, SECTIONS))


def _add_item(section: str, name: str, node: Node, items: dict[str, Node], problems: Problems) -> None:
    if not is_name(name):
        problems.add_at(node.key_place, node.path, f'"{name}" can\'t be a name', NAMING)
    if name in items:
        first = items[name].key_place
        problems.add_at(node.key_place, node.path, f'"{name}" is given twice, first at {first}', "Rename one of them.")
    else:
        items[name] = node


# --- Sections to records ----------------------------------------------------------------------------------------------


def _build(sections: _Sections, digest: str, at: Context) -> Catalog:
    """The catalog of all that could be read; whatever could not has left problems."""
    nodes, problems = sections.named, at.problems

    def read(section: str, reader: Callable[[str, Node, Context], T]) -> dict[str, T]:
        return _each(nodes[section], lambda name, node: reader(name, node, at))

    offers = read("offers", read_offer)
    bounds = _single(sections, "lever_bounds", lambda node: read_bounds(node, at), (0.25, 4.0))
    _single(sections, "arbitration", lambda node: check_arbitration(node, at), None)
    experiments = read("experiments", read_experiment)
    tests = _each({str(i): node for i, node in enumerate(sections.tests)}, lambda _, node: read_test(node, at))
    return Catalog(
        hash=digest,
        currency=_single(sections, "currency", lambda node: attempt(text, node, problems, ""), "EUR"),
        features=at.conditions.features,
        audiences=_each(nodes["audiences"], lambda name, _: at.conditions.audience(name)),
        groups=read("groups", read_group),
        surfaces=read("surfaces", read_surface),
        offers=offers,
        guards=tuple(read("guards", read_guard).values()),
        invariants=tuple(read("invariants", read_invariant).values()),
        suppressions=tuple(read("suppress", read_suppression).values()),
        caps=tuple(read("caps", read_cap).values()),
        budgets=tuple(_each(nodes["budgets"], lambda name, node: read_budget(name, node, at, offers)).values()),
        quiet_hours=tuple(read("quiet_hours", read_quiet_hours).values()),
        exclusives=tuple(read("exclusive", read_exclusive).values()),
        levers=tuple(_each(nodes["levers"], lambda name, node: read_lever(name, node, at, bounds)).values()),
        lever_min=bounds[0],
        lever_max=bounds[1],
        context_weights=tuple(read("context_weights", read_context_weight).values()),
        holdouts=tuple(read("holdouts", read_holdout).values()),
        experiments=assign_ranges(tuple(experiments.values()), problems),
        ablations=_single(sections, "ablations", lambda node: read_ablations(node, at), Ablations()),
        exploration=_single(sections, "exploration", lambda node: read_exploration(node, at), Exploration()),
        tests=tuple(tests.values()),
    )


def _context(
    sections: _Sections, features: Mapping[str, FeatureSpec], events: frozenset[str], problems: Problems
) -> Context:
    """All names that exist, from the keys alone, so that one broken offer is not an unknown one elsewhere."""
    nodes = sections.named
    return Context(
        problems,
        ConditionReader(features, nodes["audiences"], problems, frozenset(nodes["features"])),
        groups=frozenset(nodes["groups"]) or _texts(nodes["offers"], "group"),
        surfaces=frozenset(nodes["surfaces"]),
        offers=frozenset(nodes["offers"]),
        settable={name: frozenset(nodes[name]) for name in ("offers", "levers", "context_weights", "surfaces")},
        rules=frozenset(chain.from_iterable(nodes[section] for section in RULES)),
        events=events,
    )


def _texts(nodes: Mapping[str, Node], key: str) -> frozenset[str]:
    """What items say under a key, wherever it is text."""
    values = (node.value.get(key) for node in nodes.values() if isinstance(node.value, dict))
    return frozenset(value.value for value in values if value is not None and isinstance(value.value, str))


def _each(nodes: Mapping[str, Node], read: Callable[[str, Node], T]) -> dict[str, T]:
    """The records of a section that could be read."""
    records: dict[str, T] = {}
    for name, node in nodes.items():
        try:
            records[name] = read(name, node)
        except Broken:
            continue
    return records


def _single(sections: _Sections, section: str, read: Callable[[Node], T], default: T) -> T:
    node = sections.single.get(section)
    try:
        return default if node is None else read(node)
    except Broken:
        return default

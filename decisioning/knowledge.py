"""From what was read and sent to what is known: freshness, defaults, and the names that the catalog declares."""

from collections.abc import Callable, Iterator, Mapping, Set
from math import inf

from decisioning.catalog import Catalog
from decisioning.domain import Facts, Request, Value
from decisioning.native import native

VERSION = 5
"""Of what Python and the extension `_user.c` ask of one another: both have the same."""

_extension = native("decisioning._user", VERSION)


class Knowledge:
    """What a catalog's declarations make of facts and context; looked up once per release."""

    def __init__(self, catalog: Catalog) -> None:
        features = catalog.features.values()
        self._defaults = {spec.name: spec.default for spec in features if spec.default is not None}
        self._context = frozenset(spec.name for spec in features if spec.from_context)
        self._max_age = {spec.name: spec.max_age for spec in features if spec.max_age and not spec.from_context}
        self.freshest = min(self._max_age.values(), default=inf)
        self.merge: Callable[[Mapping[str, Value], Mapping[str, Value]], dict[str, Value] | None] | None = None
        """(features, context) → `merged` by the extension; None for what is not as usual: a None, names that are not
        allowed, other mappings."""
        if _extension is not None:
            self.merge = _extension.Merger(self._defaults, self._context).merge

    def values(self, request: Request, facts: Facts) -> dict[str, Value]:
        """The values that conditions and models may read, by feature name; a missing one is absent.

        A value older than its `max_age` is missing; a missing value takes its default. Of the context, only
        names that the catalog declares `from: context` count: a client can't slip a feature past the rules.
        """
        known = None if self.merge is None else self.merge(facts.features, request.context)
        if known is None:
            known = merged(self._defaults, facts.features, request.context, self._context)
        as_of = facts.as_of
        if request.now - (_oldest(facts) if as_of is None else as_of) > self.freshest:
            for name in self._stale(request.now, facts):
                known.pop(name, None)
                if name in self._defaults:
                    known[name] = self._defaults[name]
        return known

    def is_stale(self, facts: Facts, now: float) -> bool:
        """Whether a value that was read is too old to be used."""
        as_of = facts.as_of
        return now - (_oldest(facts) if as_of is None else as_of) > self.freshest and any(self._stale(now, facts))

    def _stale(self, now: float, facts: Facts) -> Iterator[str]:
        for name, max_age in self._max_age.items():
            at = facts.fresh.get(name, facts.as_of)
            if at is not None and now - at > max_age and facts.features.get(name) is not None:
                yield name


def _oldest(facts: Facts) -> float:
    return facts.as_of if facts.as_of is not None else min(facts.fresh.values(), default=inf)


def merged(
    defaults: Mapping[str, Value], features: Mapping[str, Value], context: Mapping[str, Value], allowed: Set[str]
) -> dict[str, Value]:
    """The context's values before the features', and those before the defaults, which also stand in for None."""
    if not context.keys() <= allowed:
        context = {name: value for name, value in context.items() if name in allowed}
    known = {**defaults, **features, **context}
    if None in known.values():
        known = {name: defaults.get(name) if value is None else value for name, value in known.items()}
        known = {name: value for name, value in known.items() if value is not None}
    return known

"""Does what the words of a least change say, as a product manager would who reads them, and nothing else."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

from naive_screening import known

from decisioning.catalog import Catalog, FeatureType
from decisioning.domain import Facts, Request
from decisioning.engine import Release, decide
from decisioning.rules import Lever, Scope

Question = tuple[Request, Facts]
SAYS_NO = ("only ", "never, ", "not by ", "it would still not ")
UNITS = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}


def says_no(words: str) -> bool:
    """Whether the words themselves say that the offer would not be shown."""
    return any(clause.startswith(SAYS_NO) for clause in _clauses(words))


def would_show(release: Release, request: Request, facts: Facts, offer: str, words: str) -> bool:
    """Whether the best draw shows the offer once all that the words ask is so, for some user whom they fit."""
    catalog = replace(release.catalog, exploration=replace(release.catalog.exploration, uniform=0.0, challenger=0.0))
    questions: list[Question] = [(request, facts)]
    for clause in _clauses(words):
        catalog = _written(catalog, offer, clause)
        questions = [other for question in questions for other in _asked(catalog, question, offer, clause)]
    followed = Release(release.id, catalog, release.scorers, salt=release.salt)
    return any(offer in [one.offer for one in decide(followed, *question).slate] for question in questions)


def _clauses(words: str) -> list[str]:
    return [re.sub(r"^its score .*?: ", "", clause) for clause in re.split(r"; and (?:then )?", words)]


def _written(catalog: Catalog, offer: str, clause: str) -> Catalog:
    """What the clause has written otherwise."""
    if found := re.search(r" if its lever (?:is at least|were) ([^ ,]+)", clause):
        return _pulled(catalog, offer, float(found[1]))
    if found := re.fullmatch(r"(?:wins|shown) if its priority class is (-?\d+) or more", clause):
        return _changed(catalog, offer, priority=int(found[1]))
    if clause == "a later end of its live window":
        return _changed(catalog, offer, live_until=None)
    if found := re.fullmatch(r"if the quiet hours (\w+) were shorter", clause):
        return replace(catalog, quiet_hours=tuple(one for one in catalog.quiet_hours if one.name != found[1]))
    if found := re.fullmatch(r"if the budget (\w+) were more than (\d+) impressions", clause):
        budgets = [
            replace(one, impressions=int(found[2]) + 1) if one.name == found[1] else one for one in catalog.budgets
        ]
        return replace(catalog, budgets=tuple(budgets))
    if clause == "if the user were not held out":
        return replace(catalog, holdouts=())
    return catalog


def _changed(catalog: Catalog, offer: str, **changes) -> Catalog:
    return replace(catalog, offers={**catalog.offers, offer: replace(catalog.offers[offer], **changes)})


def _pulled(catalog: Catalog, offer: str, times: float) -> Catalog:
    """With this lever on the offer instead of those that it has."""
    others = [
        replace(lever, scope=replace(lever.scope, except_offers=lever.scope.except_offers | {offer}))
        for lever in catalog.levers
        if lever.name != "told"
    ]
    told = Lever("told", Scope(only_offers=frozenset({offer})), times, 4e9, "pm", "a test")
    return replace(catalog, levers=(*others, told), lever_max=max(catalog.lever_max, times))


def _asked(catalog: Catalog, question: Question, offer: str, clause: str) -> Iterator[Question]:
    """What the clause has otherwise about the user and the moment."""
    request, facts = question
    if clause == "revive it":
        yield request, replace(facts, killed=facts.killed - {offer})
    elif clause == "leave it out of the request's exclude":
        yield replace(request, exclude=request.exclude - {offer}), facts
    elif clause == "when the history can be read again":
        yield request, replace(facts, unread=facts.unread - {"history"})
    elif found := re.fullmatch(r"when the budget (\w+) can be read again", clause):
        yield request, replace(facts, budgets={**facts.budgets, found[1]: 0})
    elif found := re.match(r"again in ([^ ]+) (d|h|min|s), when ", clause):
        later = float(found[1]) * UNITS[found[2]]
        as_of = None if facts.as_of is None else facts.as_of + later
        yield replace(request, now=request.now + later), replace(facts, as_of=as_of)
    elif re.match(r"if (?!its |the )", clause):
        yield from _users(catalog, request, facts, clause.removeprefix("if ").split(" and "))
    else:
        assert re.match(
            r"(wins|shown|past the threshold) if its |a later end|if the |another draw shows it", clause
        ) or says_no(clause), clause
        yield question


# --- Users ------------------------------------------------------------------------------------------------------------


def _users(catalog: Catalog, request: Request, facts: Facts, claims: list[str]) -> Iterator[Question]:
    """Users like this one but for the features that are named, which fit what is said of them."""
    said: dict[str, list[str]] = {}
    for claim in claims:
        name, what = claim.split(" ", 1)
        said.setdefault(name, []).append(what)
    fitting = [
        [value for value in _values(catalog, name) if all(_fits(value, what) for what in whats)]
        for name, whats in said.items()
    ]
    values = known(catalog, request, facts)
    for chosen in product(*fitting):
        now = {**values, **dict(zip(said, chosen, strict=True))}
        context = {name: value for name, value in now.items() if catalog.features[name].from_context}
        features = {name: value for name, value in now.items() if not catalog.features[name].from_context}
        yield replace(request, context=context), replace(facts, features=features, as_of=request.now)


def _values(catalog: Catalog, name: str) -> list:
    spec = catalog.features[name]
    missing = [None] if spec.default is None else []
    match spec.type:
        case FeatureType.BOOL:
            return [False, True, *missing]
        case FeatureType.ENUM:
            return [*spec.values, *missing]
        case FeatureType.SET:
            return [
                frozenset(some) for n in range(len(spec.values) + 1) for some in combinations(spec.values, n)
            ] + missing
        case FeatureType.TEXT:
            return ["7", "8.4", "8.9.1", "other", *missing]
        case FeatureType.INT:
            return [*range(-1, 9), *missing]
    return [0.0, 2.0, 2.5, math.nextafter(2.5, 3), 3.0, 60.0, 61.0, *missing]


def _fits(value, what: str) -> bool:
    """Whether a value is what is said of it, such as "is at least 3"."""
    verb, rest = what.split(" ", 1)
    if rest == "missing" or value is None:
        return value is None and rest == "missing"
    if verb == "has":
        return _has(value, rest)
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    bounds = {
        "at least ": float.__ge__,
        "at most ": float.__le__,
        "more than ": float.__gt__,
        "less than ": float.__lt__,
    }
    for words, compare in bounds.items():
        if rest.startswith(words):
            return compare(float(value), float(rest.removeprefix(words)))
    if found := re.fullmatch(r"version (\S+) or later|a version before (\S+)", rest):
        numbers, bound = _version(text), _version(found[1] or found[2])
        return numbers is not None and (numbers >= bound if found[1] else numbers < bound)
    if rest == "known":
        return True
    for words, wanted in (("one of ", True), ("anything but ", False), ("none of ", False)):
        if rest.startswith(words):
            return (text in rest.removeprefix(words).split(", ")) is wanted
    return text == rest


def _has(value: frozenset, rest: str) -> bool:
    for words, fits in (
        ("all of ", value.issuperset),
        ("one of ", lambda names: not value.isdisjoint(names)),
        ("none of ", value.isdisjoint),
        ("no ", value.isdisjoint),
    ):
        if rest.startswith(words):
            return fits(rest.removeprefix(words).split(", "))
    return rest in value


def _version(text: str) -> list[int] | None:
    return [int(part) for part in text.split(".")] + [0] * 5 if re.fullmatch(r"[\d.]+", text) else None

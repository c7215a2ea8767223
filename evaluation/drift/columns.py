"""Windows of the decision log as columns of numbers: features as they were logged, scores, sources, ages."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import nan

import numpy as np

from decisioning.catalog import DAY, Catalog, FeatureSpec, FeatureType
from decisioning.domain import Source, Value
from stores.log.decision_log import DecisionRecord, decode

Key = tuple[str, ...]
"""What is counted: ("feature", its name), ("score", model), ("score", model, offer) or ("source",)."""
Column = tuple[np.ndarray, np.ndarray]
"""Values (float64, NaN where missing), and the numbers of the users whose they are."""
SOURCES = tuple(Source)


def floats() -> array:
    return array("d")


def numbers() -> array:
    return array("q")


@dataclass(slots=True)
class LoggedWindow:
    """The decisions of one span of time."""

    users: array = field(default_factory=numbers)
    """A number for each decision's user."""
    rows: array = field(default_factory=floats)
    """The features of each decision, one decision after another."""
    sources: array = field(default_factory=floats)
    scores: dict[tuple[str, str], tuple[array, array]] = field(
        default_factory=lambda: defaultdict(lambda: (floats(), numbers()))
    )
    """p_convert by model and offer, and whose it is."""
    ages: array = field(default_factory=floats)
    """Seconds between a decision and the moment that its features describe, where they were known."""
    models: set[str] = field(default_factory=set)
    """Labels of those that scored."""
    torn: int = 0
    """Lines that are no decision."""

    def columns(self, names: tuple[str, ...]) -> dict[Key, Column]:
        """All of them; `names` are the features in their order."""
        users = np.frombuffer(self.users, np.int64)
        table = np.frombuffer(self.rows).reshape(len(users), len(names))
        found: dict[Key, Column] = {("feature", name): (table[:, at].copy(), users) for at, name in enumerate(names)}
        found["source",] = np.frombuffer(self.sources), users
        of_model: dict[str, list[Column]] = defaultdict(list)
        for (model, offer), (p, owners) in self.scores.items():
            one = np.frombuffer(p), np.frombuffer(owners, np.int64)
            found["score", model, offer] = one
            of_model[model].append(one)
        for model, parts in of_model.items():
            found["score", model] = tuple(map(np.concatenate, zip(*parts, strict=True)))
        return found


class LogReader:
    """Reads lines into windows. Words get codes as they are met, the same in all windows."""

    def __init__(self, catalog: Catalog) -> None:
        specs = sorted(catalog.features.values(), key=lambda spec: spec.from_context)
        self.names = tuple(spec.name for spec in specs)
        self._specs = {spec.name: spec for spec in specs}
        self._of_facts = [spec.name for spec in specs if not spec.from_context]
        self._of_context = [spec.name for spec in specs if spec.from_context]
        self._words = {spec.name: _Words(zip(spec.values, map(float, range(999)), strict=False)) for spec in specs}
        coders = [(at, _coder(spec, self._words[spec.name])) for at, spec in enumerate(specs)]
        self._coders = [(at, code) for at, code in coders if code is not None]
        self._model_of = {name: offer.score.model for name, offer in catalog.offers.items() if offer.score.model}
        self._users: dict[str, int] = {}
        self._seen: set[str] = set()

    @property
    def specs(self) -> Mapping[str, FeatureSpec]:
        """The features, with all words that were met as their values."""
        return {name: replace(spec, values=tuple(self._words[name])) for name, spec in self._specs.items()}

    def read(self, lines: Iterable[bytes], until: float, length: float, windows: int) -> list[LoggedWindow]:
        """So many windows before `until`, each with its start and without its end; the latest first.

        A decision that was logged twice counts once. Lines that are none are told of with the latest window.
        """
        found = [LoggedWindow() for _ in range(windows)]
        for line in lines:
            try:
                record = decode(line)
            except ValueError:
                found[0].torn += 1
                continue
            at = -int((record.request.now - until) // length) - 1
            if 0 <= at < windows and record.decision.decision_id not in self._seen:
                self._seen.add(record.decision.decision_id)
                self._add(found[at], record)
        return found

    def _add(self, window: LoggedWindow, record: DecisionRecord) -> None:
        request, facts, decision = record.request, record.facts, record.decision
        user = self._users.setdefault(request.user, len(self._users))
        window.users.append(user)
        window.rows.extend(self._row(facts.features, request.context, facts.as_of or request.now))
        window.sources.append(SOURCES.index(decision.source))
        if facts.as_of is not None:
            window.ages.append(max(request.now - facts.as_of, 0.0))
        if decision.source is Source.MODEL and decision.model:
            window.models.update(decision.model.split(","))
            models = _names(decision.model)
            for offer, p in zip(decision.eligible, decision.p_convert, strict=True):
                model = self._model_of.get(offer)
                if model in models:
                    values, owners = window.scores[model, offer]
                    values.append(p)
                    owners.append(user)

    def _row(self, features: Mapping[str, Value], context: Mapping[str, Value], at: float) -> array:
        row = [features.get(name, nan) for name in self._of_facts]
        row += [context.get(name, nan) for name in self._of_context]
        for place, code in self._coders:
            if row[place] is not nan:
                row[place] = code(row[place], at)
        try:
            return array("d", row)
        except (TypeError, OverflowError):
            return array("d", map(_number, row))


@cache
def _names(labels: str) -> frozenset[str]:
    """The models that a decision's label names, without their versions."""
    return frozenset(label.rpartition("/")[0] or label for label in labels.split(","))


def _number(value: Value) -> float:
    """A value of another type, which an older catalog may have declared, counts as missing; so does a null."""
    try:
        return float(value) if isinstance(value, int | float) else nan
    except OverflowError:
        return nan


class _Words(dict):
    """Codes of words, in the order in which they were met after those declared."""

    def __missing__(self, word: str) -> float:
        return self.setdefault(word, float(len(self)))


def _coder(spec: FeatureSpec, words: _Words) -> Callable[[Value, float], float] | None:
    """A value as a number, given the moment that it describes; None where it is one.

    As `features.schema.encode`, but any word has a code of its own, and a moment is an age in days.
    """
    match spec.type:
        case FeatureType.ENUM | FeatureType.TEXT:
            return lambda value, _: words[value] if isinstance(value, str) else nan
        case FeatureType.SET:
            return lambda value, _: _mask(words, value) if isinstance(value, frozenset) else nan
        case FeatureType.TIME:
            return lambda value, at: (at - value) / DAY if isinstance(value, int | float) else nan
    return None


def _mask(words: _Words, members: frozenset[str]) -> float:
    """Exact for 52 members; what comes after them is one more."""
    return sum({2.0 ** min(words[one], 52.0) for one in members})

"""The `[search]` of a training config: which parameters may be searched for, and in what range."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from decisioning.errors import UserError
from models.fitting.boosting import NETWORK, OURS
from models.learners import LEARNERS
from scaling.search import Choice, Range, Space

KEYS = {"low", "high", "log"}


def read_space(found: object, learner: str, params: Mapping[str, Any], path: str) -> Space:
    """The table as a space. Raises UserError for what can't be searched, naming it."""
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: [search] must be a table of parameter = {{ low = …, high = … }} or [values].")
    space = {name: _dimension(name, said, path) for name, said in found.items()}
    for name, dimension in space.items():
        _check(name, dimension, learner, params, path)
    return space


def _dimension(name: str, said: object, path: str) -> Range | Choice:
    if (
        isinstance(said, list)
        and len(set(map(repr, said))) > 1
        and not any(isinstance(one, list | dict) for one in said)
    ):
        return Choice(tuple(said))
    if isinstance(said, Mapping) and {"low", "high"} <= set(said) <= KEYS:
        low, high, log = said["low"], said["high"], said.get("log", False)
        numbers = all(type(end) in (int, float) for end in (low, high))
        if numbers and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Range(low, high, log)
    raise UserError(
        f"{path}: [search] {name} must be {{ low = 1, high = 9 }}, low below high (and above 0 with log = true), or a "
        "list of two or more values."
    )


def _check(name: str, dimension: Range | Choice, learner: str, params: Mapping[str, Any], path: str) -> None:
    known: Collection[str] = LEARNERS[learner].defaults
    if name in (*OURS, *NETWORK) or (name not in known and not LEARNERS[learner].boosted):
        raise UserError(f"{path}: [search] {name} is no parameter of the {learner} that can be searched for.")
    if name not in params:
        raise UserError(f"{path}: [search] names {name}: say in [params] what it is without a search.")
    if params[name] not in dimension:
        raise UserError(f"{path}: [params] has {name} = {params[name]!r}, which is outside of its [search].")


def space_toml(space: Space) -> Iterator[str]:
    """The lines of the table."""
    for name, one in space.items():
        if isinstance(one, Choice):
            yield f"{json.dumps(name)} = {json.dumps(list(one.among))}"
        else:
            log = ", log = true" if one.log else ""
            yield f"{json.dumps(name)} = {{ low = {one.low!r}, high = {one.high!r}{log} }}"

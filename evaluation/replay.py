"""Run recorded decisions again: the same release, request and facts must give the same bytes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from decisioning.engine import Release, decide
from decisioning.errors import UserError
from stores.decision_log import canonical, decode


@dataclass(frozen=True, slots=True)
class Replay:
    """How many recorded decisions came out identical, and which did not."""

    decisions: int
    identical: int
    different: tuple[str, ...]
    """Ids of the decisions that came out otherwise."""
    unloadable: tuple[str, ...]
    """Releases that the log names and that can't be loaded; their decisions count as not identical."""

    @property
    def ok(self) -> bool:
        return self.decisions > 0 and self.identical == self.decisions


def replay(lines: Iterable[bytes], load: Callable[[str], Release]) -> Replay:
    """Decide every record of the decision log again. `load` gives a release by id, and raises UserError if it can't."""
    loaded = lru_cache(maxsize=None)(load)
    decisions = identical = 0
    different, unloadable = [], set()
    for line in lines:
        decisions += 1
        try:
            record = decode(line)
        except msgspec.MsgspecError:
            different.append("a line that is no decision")
            continue
        try:
            release = loaded(record.decision.release)
        except UserError:
            unloadable.add(record.decision.release)
            continue
        if canonical(decide(release, record.request, record.facts)) == canonical(record.decision):
            identical += 1
        else:
            different.append(record.decision.decision_id)
    return Replay(decisions, identical, tuple(different), tuple(sorted(unloadable)))

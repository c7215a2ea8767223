"""What a what-if found, as plain records: for tables, for JSON, and for thresholds to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decisioning.domain import MILLION
from evaluation.whatif.tallies import EVERYBODY, Cell, OfferTally, Segment, Tally, Worth

MOST_FLOWS = 20
ONE_STEP = (
    "Each decision meets the history that really happened: caps and cooldowns are as logged, and what an earlier "
    "decision would have changed of a later one is not in it."
)
FIRST_SLOT = "Value counts what follows the offer in slot 1; what other slots of a slate bring or lose is not in it."


@dataclass(frozen=True)
class Subject:
    """What was compared, in words."""

    before: str
    after: str
    since: float
    until: float
    judged: tuple[float, float]
    """From when until when decisions had a say in values."""
    currency: str
    longest_window: float
    """Seconds within which conversions count, at most."""
    caveats: tuple[str, ...] = ()


def report(tally: Tally, subject: Subject) -> dict[str, Any]:
    """Every figure of a what-if, JSON-ready; what can't be said is null, with a note."""
    whole = tally.all
    identical = not whole.policy_changed and not whole.slate_changed
    offers = [_offer(name, found, whole) for name, found in tally.offers.items()]
    return {
        "before": subject.before,
        "after": subject.after,
        "since": subject.since,
        "until": subject.until,
        "decisions": whole.decisions,
        "users": len(tally.users),
        "left_out": dict(sorted(tally.left_out.items())),
        "unloadable_releases": dict(sorted(tally.unloadable.items())),
        "identical": identical,
        **_changes(whole),
        "users_left_with_nothing": len(tally.users_with_nothing),
        "value": _value(tally, EVERYBODY, subject, identical),
        "offers": sorted(offers, key=lambda one: (one["before"] - one["after"], one["offer"])),
        "flows": _flows(tally),
        "segments": [_segment(tally, segment, subject, identical) for segment in sorted(tally.cells) if segment[0]],
        "caveats": [ONE_STEP, FIRST_SLOT, *subject.caveats],
    }


def _changes(cell: Cell) -> dict[str, Any]:
    n = cell.decisions
    return {
        "changed": cell.changed,
        "changed_share": _share(cell.changed, n),
        "slate_changed": cell.slate_changed,
        "slate_changed_share": _share(cell.slate_changed, n),
        "policy_changed_share": _share(cell.policy_changed, n),
        "left_with_nothing": cell.left_with_nothing,
        "left_with_nothing_share": _share(cell.left_with_nothing, n),
        "nothing_share": {"before": _share(cell.nothing_before, n), "after": _share(cell.nothing_after, n)},
        "fallback_share": {"before": _share(cell.fallback_before, n), "after": _share(cell.fallback_after, n)},
        "unjudged_share": _share(cell.unjudged / MILLION, n),
    }


def _offer(name: str, found: OfferTally, whole: Cell) -> dict[str, Any]:
    n = whole.decisions
    return {
        "offer": name,
        "before": found.before,
        "after": found.after,
        "before_share": _share(found.before, n),
        "after_share": _share(found.after, n),
        "change": found.after / found.before - 1 if found.before else None,
        "gained": found.gained,
        "lost": found.lost,
        "expected_before_share": _share(found.expected_before / MILLION, n),
        "expected_after_share": _share(found.expected_after / MILLION, n),
        "unjudged_share": _share(found.unjudged / MILLION, n),
    }


def _flows(tally: Tally) -> list[dict[str, Any]]:
    largest = sorted(tally.flows.items(), key=lambda one: (-one[1], one[0]))[:MOST_FLOWS]
    return [{"from": before, "to": after, "decisions": count} for (before, after), count in largest]


def _segment(tally: Tally, segment: Segment, subject: Subject, identical: bool) -> dict[str, Any]:
    cell = tally.cells[segment]
    return {
        "feature": segment[0],
        "value": segment[1],
        "decisions": cell.decisions,
        **_changes(cell),
        "worth": _value(tally, segment, subject, identical or not (cell.policy_changed or cell.slate_changed)),
    }


def _value(tally: Tally, segment: Segment, subject: Subject, identical: bool) -> dict[str, Any]:
    """The estimated difference of value a decision; with a note, and null, where it can't be told."""
    found = tally.worth.get(segment)
    told: dict[str, Any] = {
        "currency": subject.currency,
        "before": None,
        "difference": None,
        "low": None,
        "high": None,
        "relative": None,
        "decisions": found.difference.n if found else 0,
        "touched": found.touched if found else 0,
        "ess": round(found.difference.ess, 1) if found else 0.0,
        "note": None,
    }
    if segment == EVERYBODY:
        told |= {"young": tally.young, "impossible": tally.impossible}
        told |= {"since": subject.judged[0], "until": subject.judged[1]}
    if identical:
        return told | {"difference": 0.0, "relative": 0.0, "note": "identical: every chance is what it was"}
    why = _silence(found, subject)
    if why is not None or found is None:
        return told | {"note": why}
    low, high = found.difference.interval()
    before = found.before.value
    relative = found.difference.value / before if found.before.lacking() is None and before > 0 else None
    return told | {
        "before": before,
        "difference": found.difference.value,
        "low": low,
        "high": high,
        "relative": relative,
    }


def _silence(found: Worth | None, subject: Subject) -> str | None:
    """Why a value is not shown; None where it is."""
    if found is None or not found.difference.n:
        days = subject.longest_window / 86_400
        return f"not shown: no recorded decision is old enough, as conversions count for up to {days:g} days"
    if not found.touched:
        return "not shown: of what changes, the log can judge nothing"
    lacking = found.difference.lacking()
    return None if lacking is None else f"not shown: {lacking}"


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def offer_of(found: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """An offer's record in a report."""
    offers: Sequence[Mapping[str, Any]] = found["offers"]
    return next((one for one in offers if one["offer"] == name), None)

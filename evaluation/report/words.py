"""A report's summary in words: what was evaluated, what was found, what may be believed and what may not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from evaluation.report.numbers import digits_of, figure, half, interval, percent
from evaluation.values.judged import LOGGING, RANDOM, REFERENCE, TRAINED
from evaluation.values.reliability import LEAST_CONVERSIONS
from evaluation.values.segments import MARGIN, Status

Metrics = Mapping[str, Any]
NAMES = {REFERENCE: "best single offer", TRAINED: "trained policy", LOGGING: "what ran", RANDOM: "even draw"}


@dataclass(frozen=True, slots=True)
class Summary:
    """Sentences, plain text."""

    evaluated: tuple[str, ...]
    found: tuple[str, ...]
    believable: tuple[str, ...]
    doubtful: tuple[str, ...]
    alarm: bool
    """Whether a control failed."""


def summary(metrics: Metrics) -> Summary:
    broken = [one for one in metrics.get("controls", ()) if not one["held"]]
    return Summary(
        tuple(_evaluated(metrics)),
        tuple(_found(metrics)),
        tuple(_believable(metrics, broken)),
        tuple(_doubtful(metrics, broken)),
        bool(broken),
    )


def policy_name(policy: str) -> str:
    """A policy as people call it."""
    return NAMES.get(policy) or (f"only {policy.partition(':')[2]}" if policy.startswith("only:") else policy)


def outcome_name(outcome: str) -> str:
    return outcome.replace("_", " ")


def records_of(metrics: Metrics, outcome: str, estimator: str = "dr") -> dict[str, Metrics]:
    """By policy, without the intervals that older files gave in spite of a note."""
    rows = metrics["policy_values"]
    return {row["policy"]: _bounded(row) for row in rows if (row["outcome"], row["estimator"]) == (outcome, estimator)}


def _bounded(row: Metrics) -> Metrics:
    lacking = row.get("diff_note") or (row["note"] if row["policy"] != REFERENCE else None)
    found = {**row, "diff_note": lacking}
    if row["note"]:
        found |= {"low": None, "high": None}
    if lacking:
        found |= {"diff_low": None, "diff_high": None}
    return found


def day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %B %Y").lstrip("0")


def _evaluated(metrics: Metrics) -> Iterator[str]:
    yield (
        f"The learner {metrics['learner']} for the model {metrics['model']}, and the policy that it makes, on "
        f"{metrics['decisions']:,} logged decisions of {metrics['users']:,} users from {day(metrics['from'])} to "
        f"{day(metrics['until'])} (source: {metrics['source']}). {metrics['conversions']:,} of them were followed by "
        f"“{metrics['outcome']}” within its window."
    )
    yield (
        f"The procedure of training was judged, in {metrics['folds']} folds by user: every figure about a decision "
        "comes from models that never saw its user. Policies are compared by "
        f"{outcome_name(metrics['objective'])} per decision; the yardstick is the best single offer, picked on the "
        "training folds."
    )


def _found(metrics: Metrics) -> Iterator[str]:
    yield _worth(metrics)
    yield _shrinkage(metrics)
    if metrics.get("segments"):
        yield _segments(metrics["segments"])
    if metrics.get("ece") is not None:
        chance = metrics.get("ece_by_chance")
        beside = f", where chance alone would give {figure(chance)}" if chance is not None else ""
        yield (
            f"Predicted probabilities are off by {figure(metrics['ece'])} on average (ECE{beside}); the AUC is "
            f"{metrics['auc']:.3f}."
        )
    yield from (_uplift(one) for one in metrics.get("uplift_curves", ())[:1])


def _worth(metrics: Metrics) -> str:
    rows = records_of(metrics, metrics["objective"])
    ours, best = rows.get(TRAINED), rows.get(REFERENCE)
    if ours is None or best is None or ours["value"] is None:
        return "The trained policy has no value to show."
    lacking = ours["diff_note"] or best["note"]
    if lacking:
        return f"Whether the trained policy beats the best single offer can't be said: {lacking}."
    low, high, diff = ours["diff_low"], ours["diff_high"], ours["diff"]
    told = _worth_figures(ours, best, outcome_name(metrics["objective"]))
    if diff == 0:
        return f"The trained policy chooses as the best single offer does: {told}"
    if low is not None and low > 0:
        return f"The trained policy earns more than the best single offer: {told}"
    if high is not None and high < 0:
        return f"The trained policy earns significantly less than the best single offer: {told}"
    return f"No difference from the best single offer could be shown: {told}"


def _worth_figures(ours: Metrics, best: Metrics, what: str) -> str:
    digits = digits_of([half(ours), half(best)])
    share = f" ({percent(ours['diff'] / abs(best['value']), 1, signed=True)})" if best["value"] else ""
    return (
        f"{figure(ours['value'], digits)} against {figure(best['value'], digits)} {what} per decision; paired "
        f"difference {figure(ours['diff'], digits, signed=True)}{share}, 95 % interval "
        f"{interval(ours['diff_low'], ours['diff_high'], digits, signed=True)}."
    )


def _shrinkage(metrics: Metrics) -> str:
    chosen = ", ".join(f"{one:g}" for one in metrics.get("fold_shrinkages", ()))
    folds = f" In the folds, where it is chosen anew, λ came out as {chosen}." if chosen else ""
    if not metrics["shrinkage"]:
        return f"The version stays at λ = 0: everybody gets the best single offer that they are eligible for.{folds}"
    way = percent(metrics["shrinkage"])
    return f"The version goes {way} of the way from the best single offer to full personalisation.{folds}"


def _segments(segments: Sequence[Metrics]) -> str:
    kinds = {status: [one for one in segments if one["status"] == status] for status in Status}
    shown, margin = len(segments) - len(kinds[Status.NOT_SHOWN]), percent(MARGIN)
    told = f"{len(segments)} segments were looked into, and {shown} have enough data to say anything: "
    if kinds[Status.WORSE]:
        named = ", ".join(f"{one['feature']} {one['value']}" for one in kinds[Status.WORSE])
        return f"{told}significantly worse by more than {margin} in {named}."
    return (
        f"{told}none is significantly worse by more than {margin}; in {len(kinds[Status.WITHIN])} a loss of that "
        f"size is ruled out, in {len(kinds[Status.OPEN])} it is open."
    )


def _uplift(curve: Metrics) -> str:
    versus = f"{curve['treatment']} rather than {curve['control'].replace('_', ' ')}"
    if curve["note"]:
        return f"How well decisions are ranked by what they gain from {versus} is not shown: {curve['note']}."
    beyond, top, random = (curve[f"uplift_{name}"] for name in ("beyond_random", "top", "random"))
    better = "more than" if beyond["low"] > 0 else "less than" if beyond["high"] < 0 else "not shown to differ from"
    digits = digits_of([half(top), half(random)])
    return (
        f"Ranked by what they should gain from {versus}, the first {percent(curve['top'])} gain "
        f"{figure(top['value'], digits)} each: {better} the {figure(random['value'], digits)} of a random order."
    )


def _believable(metrics: Metrics, broken: Sequence[Metrics]) -> Iterator[str]:
    if broken:
        yield "Nothing yet: a control failed, and until that is explained no interval here holds what it promises."
        return
    yield _bounds(metrics)
    if metrics.get("controls"):
        many = len(metrics["controls"])
        yield f"The log itself: all {many} controls, whose true value is known beforehand, came out as they should."


def _bounds(metrics: Metrics) -> str:
    """Which of DR's figures have an interval to be believed in."""
    outcomes = dict.fromkeys(row["outcome"] for row in metrics["policy_values"])
    rows = [row for outcome in outcomes for row in records_of(metrics, outcome).values()]
    many = sum(row["low"] is not None for row in rows)
    differences = sum(row["diff_low"] is not None for row in rows)
    if not many and not differences:
        return "No value and no difference: not one policy has enough support in the log for an interval."
    what = "Values and differences" if many and differences else "Values" if many else "Differences"
    some = "" if many == len(rows) else f" where one is shown ({many} of {len(rows)} values have enough support)"
    none = "" if differences else " No difference may: the best single offer, or all others, have too little support."
    return (
        f"{what} by DR, within their intervals{some}: the probabilities of showing each offer were logged, so they "
        f"need no model to be right. Intervals are clustered by user.{none}"
    )


def _doubtful(metrics: Metrics, broken: Sequence[Metrics]) -> Iterator[str]:
    for one in broken:
        yield (
            f"Nothing here, until this is explained: {one['what']} should be {one['truth']:g} and is "
            f"{figure(one['value'])} ({interval(one['low'], one['high'])}). The logged probabilities or the eligible "
            "offers are not what ran."
        )
    rows = records_of(metrics, metrics["objective"])
    thin = [policy_name(name) for name, row in rows.items() if row["note"]]
    if thin:
        yield f"The values of {', '.join(thin)}: too little support in the log, so that they have no interval."
    yield "DM, Switch-DR and DRos are for ranking candidates: their intervals don't know of their bias."
    unseen = [one for one in metrics.get("segments", ()) if one["status"] == Status.NOT_SHOWN]
    if unseen:
        yield f"Segments that are not shown ({len(unseen)}) are not safe: there is too little data to see harm there."
    cells = metrics.get("calibration_cells", ())
    few = sum(one["conversions"] < LEAST_CONVERSIONS for one in cells)
    if few:
        yield (
            f"Calibration per offer and market is not shown for {few} of {len(cells)} pairs: fewer than "
            f"{LEAST_CONVERSIONS} conversions each."
        )
    if metrics.get("immature"):
        many = f"{metrics['immature']:,}"
        yield f"{many} more decisions are too young to judge: their window was still open. They are left out."
    yield "Effects after the windows, and those of one decision on the next (fatigue, habit), are not in these figures."

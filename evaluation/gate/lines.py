"""The promotion gate: what a version has to show before it is used, line by line. Pure: evidence in, lines out.

Steps 1 to 4 of the design's policy page: shadow, calibration, evidence, no hidden harm. docs/adr/0007 tells where its
words leave room, and what was measured before this reading was chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import erfc, sqrt
from typing import Any

from evaluation.values.reliability import CalibrationCell
from evaluation.values.segments import MARGIN, SegmentDifference, Status, holm

MOST_SKEW = 0.001
"""The share of feature values that may differ between what was logged and the offline snapshot."""
LEAST_COMPARED = 3_000
"""Values to compare before the share is known at all: none off in n says at most 3 / n off (rule of three)."""
LEAST_TIMED = 1_000
MOST_ECE = 0.01
CHANCE = 1.5
"""By chance alone an ECE of ten even bins exceeds 1.5 times its mean about twice in a hundred."""
RATIOS = (0.9, 1.1)
ALPHA = 0.05
ALLOWED_LOSS = 0.01
"""The one-sided 95 % lower bound may lie this share of the other policy's value below it."""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "FAIL"
    UNSHOWN = "not shown"
    """Too little data, or none: it doesn't stand in the way, and it is never called safe."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of evidence."""

    check: str
    verdict: Verdict
    detail: str
    forceable: bool = True
    """Whether a person may overrule it; a release that would not work can't be forced."""

    @property
    def passed(self) -> bool:
        return self.verdict is not Verdict.FAIL

    def __str__(self) -> str:
        return f"{self.verdict:<9}  {self.check}: {self.detail}"


def checked(check: str, ok: bool, detail: str, *, forceable: bool = True) -> Line:
    return Line(check, Verdict.PASS if ok else Verdict.FAIL, detail, forceable)


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a challenger showed while it scored live traffic."""

    decisions: int
    compared: int
    """Feature values held against the offline snapshot of their moment."""
    off: int
    """Those that differ from it."""
    uncompared: int
    """Decisions whose snapshot is gone, or doesn't know the user."""
    timed: int
    """Decisions whose time was taken, at the surface that has least of its deadline left."""
    p99: float
    """Seconds: a whole decision there, with both models scored."""
    deadline: float
    """Of that surface, in seconds."""
    scoring_p99: float
    """Seconds: the challenger's scoring alone."""
    replayed: int
    identical: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How cross-fitted probabilities of what was shown came true."""

    ece: float
    by_chance: float | None
    """What the ECE would be on average if every prediction were true."""
    cells: tuple[CalibrationCell, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired DR difference of the candidate to another policy, on the same decisions."""

    against: str
    """In words, such as "the champion upsell/2"."""
    outcome: str
    value: float
    """What the other policy is worth per decision."""
    difference: float
    lower: float | None
    """Its one-sided 95 % lower bound; None where it can't be bounded."""
    ess: float
    note: str | None = None
    """Why there is not enough support, where there is not."""
    differing: float | None = None
    """The share of decisions on which the two choose differently."""
    source: str = ""
    """Which decisions, and how both policies' choices on them were found."""


def log_lines(problems: Sequence[str], controls: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Whether what was learned and judged from is what the logged probabilities say. If not, no figure of it holds.

    `problems` are those of the own log, `controls` the registered figures whose truth is known beforehand.
    """
    off = [f"{one['what']} should be {one['truth']:g} and is {one['value']:.4g}" for one in controls if not one["held"]]
    found = [*off, *problems]
    if found:
        return [Line("log", Verdict.FAIL, f"it is not what its probabilities say: {'; '.join(found)}")]
    if not controls:
        return [Line("log", Verdict.UNSHOWN, "no control was measured with this version")]
    return [Line("log", Verdict.PASS, f"{len(controls)} of {len(controls)} controls come out as they must")]


def shadow_lines(shadow: Shadow | None) -> list[Line]:
    """Step 1. A version that never scored live traffic has nothing to show yet, which is said and stops nobody."""
    if shadow is None or not shadow.decisions:
        return [Line("shadow", Verdict.UNSHOWN, "it has scored no live traffic (`segue challenge` lets it)")]
    return [_skew(shadow), _latency(shadow), _replay(shadow)]


def _skew(shadow: Shadow) -> Line:
    beyond = f"; {shadow.uncompared:,} decisions had no snapshot to compare with" if shadow.uncompared else ""
    if not shadow.compared:
        return Line("skew", Verdict.UNSHOWN, f"no logged feature could be compared{beyond}")
    share = shadow.off / shadow.compared
    detail = f"{shadow.off:,} of {shadow.compared:,} logged feature values differ from the snapshot ({share:.3%})"
    if share >= MOST_SKEW and shadow.off > 1:
        return Line("skew", Verdict.FAIL, f"{detail}, under {MOST_SKEW:.1%} asked{beyond}")
    if shadow.compared < LEAST_COMPARED:
        return Line("skew", Verdict.UNSHOWN, f"{detail}; it takes {LEAST_COMPARED:,} to know{beyond}")
    return Line("skew", Verdict.PASS, detail + beyond)


def _latency(shadow: Shadow) -> Line:
    ok = shadow.p99 <= shadow.deadline
    detail = (
        f"p99 {shadow.p99 * 1000:.2f} ms of {shadow.deadline * 1000:g} ms with both models scored, "
        f"{shadow.scoring_p99 * 1000:.2f} ms the challenger's own"
    )
    if shadow.timed < LEAST_TIMED:
        return Line("latency", Verdict.UNSHOWN, f"{shadow.timed:,} decisions timed, it takes {LEAST_TIMED:,}; {detail}")
    return checked("latency", ok, detail)


def _replay(shadow: Shadow) -> Line:
    same = shadow.identical == shadow.replayed > 0
    return checked("replay", same, f"{shadow.identical:,} of {shadow.replayed:,} decisions come out identical")


def calibration_lines(calibration: Calibration | None) -> list[Line]:
    """Step 2. What lies outside by no more than chance explains is not shown, as a true model often lies there."""
    if calibration is None:
        return [Line("calibration", Verdict.UNSHOWN, "none was measured with this version")]
    return [_ece(calibration), _ratios(calibration.cells)]


def _ece(found: Calibration) -> Line:
    detail = f"ECE {found.ece:.4f}, at most {MOST_ECE:g}"
    if found.ece <= MOST_ECE:
        return Line("calibration", Verdict.PASS, detail)
    if found.by_chance is None:
        return Line("calibration", Verdict.UNSHOWN, f"{detail}; how much of it is chance was not measured")
    if found.ece <= CHANCE * found.by_chance:
        return Line("calibration", Verdict.UNSHOWN, f"{detail}; chance explains {found.by_chance:.4f}: too little data")
    return Line("calibration", Verdict.FAIL, f"{detail}; on little data `train --config logistic` strays less")


def _ratios(cells: Sequence[CalibrationCell]) -> Line:
    """Outside 0.9 to 1.1, and by more than chance: with 200 conversions a true ratio is outside one time in six."""
    shown = [cell for cell in cells if cell.is_shown]
    if not shown:
        return Line("calibration by offer", Verdict.UNSHOWN, "no offer has 200 conversions in a market")
    chance = holm([_two_sided(cell) for cell in shown])
    outside = [(cell, p) for cell, p in zip(shown, chance, strict=True) if not RATIOS[0] <= cell.ratio <= RATIOS[1]]
    wrong = [cell for cell, p in outside if p < ALPHA]
    if wrong:
        return Line("calibration by offer", Verdict.FAIL, f"predicted/observed is {_named(wrong)}; 0.9 to 1.1 is asked")
    said = f"predicted/observed of {len(shown)} of {len(cells)} offers by market with 200 conversions"
    if outside:
        named = _named([cell for cell, _ in outside])
        return Line("calibration by offer", Verdict.UNSHOWN, f"{said}: {named}, which chance explains")
    return Line("calibration by offer", Verdict.PASS, f"{said} lies within 0.9 to 1.1")


def _two_sided(cell: CalibrationCell) -> float:
    """p-value of a true ratio of 1, from the cell's clustered 95 % interval.

    The interval is as wide as what was observed makes it; √ratio turns it to what was predicted (a score test).
    """
    half = (cell.ratio_high - cell.ratio) if cell.ratio_high is not None else 0.0
    return erfc(abs(cell.ratio - 1.0) * sqrt(cell.ratio) / (half / 1.96) / sqrt(2)) if half > 0 else 1.0


def _named(cells: Sequence[CalibrationCell]) -> str:
    return ", ".join(f"{cell.ratio:.2f} for {cell.offer} in {cell.market}" for cell in cells)


def evidence_lines(found: Comparison, *, proof: bool) -> list[Line]:
    """Step 3. The difference above zero, and how surely.

    With `proof` the difference must lie above zero and its lower bound not below: what is asked of a personalised
    policy that wants the champion's place. Without, the difference may be zero, and the bound lie 1 % of the other's
    value below: against the best single offer, and for the best single offer itself. Where there is not enough
    support, nothing else is said.
    """
    against = found.against
    if found.note is not None:
        return [Line(f"support against {against}", Verdict.FAIL, found.note)]
    if found.differing == 0.0 and found.difference == 0.0:
        return [Line(against, Verdict.PASS, f"chooses the same on every decision ({found.source})")]
    allowed = 0.0 if proof else -ALLOWED_LOSS * abs(found.value)
    lower = "none" if found.lower is None else f"{found.lower:+.4g}"
    differing = f"; they differ on {found.differing:.1%} of them" if found.differing is not None else ""
    source = f" ({found.source}{differing})" if found.source else ""
    relative = f" ({found.difference / abs(found.value):+.1%})" if found.value else ""
    is_ahead = found.difference > 0 if proof else found.difference >= 0
    is_certain = found.lower is not None and found.lower >= allowed
    return [
        Line(f"support against {against}", Verdict.PASS, f"effective sample size {found.ess:,.0f}{source}"),
        checked(f"worth against {against}", is_ahead, f"{found.difference:+.4g} {found.outcome}{relative}"),
        checked(
            f"certainty against {against}", is_certain, f"one-sided 95 % lower bound {lower}, at least {allowed:+.4g}"
        ),
    ]


def segment_lines(segments: Sequence[SegmentDifference], against: str) -> list[Line]:
    """Step 4. No segment significantly worse than −5 % of what the other policy is worth there (Holm)."""
    check = f"segments against {against}"
    if not segments:
        return [Line(check, Verdict.UNSHOWN, "none was measured: the data have no market, tier or the like")]
    worse = [one for one in segments if one.status is Status.WORSE]
    if worse:
        named = ", ".join(f"{one.feature} {one.value} ({one.diff:+.4g})" for one in worse)
        return [Line(check, Verdict.FAIL, f"significantly worse than −{MARGIN:.0%}: {named}")]
    counts = {status: sum(one.status is status for one in segments) for status in Status}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    if counts[Status.NOT_SHOWN] == len(segments):
        return [Line(check, Verdict.UNSHOWN, f"too little data in each of {len(segments)}")]
    return [Line(check, Verdict.PASS, f"none of {len(segments)} significantly worse than −{MARGIN:.0%}: {told}")]


def refused(lines: Sequence[Line], *, force: bool = False) -> list[Line]:
    """The lines that stand in the way; with `force`, those that no person may overrule."""
    return [line for line in lines if not line.passed and not (force and line.forceable)]

"""The report that people read: `metrics.json` as one self-contained HTML page, pictures over their tables."""

from collections.abc import Iterator, Mapping

from evaluation.report import tables
from evaluation.report.figures import MOST_CELLS, figures
from evaluation.report.numbers import percent
from evaluation.report.page import page, picture, text
from evaluation.report.words import Metrics, outcome_name, summary
from evaluation.values.estimators import DROS_SHRINK, LEAST_ESS, LEAST_POSITIVES, MOST_WEIGHT, SWITCH_LIMIT
from evaluation.values.reliability import LEAST_CONVERSIONS
from evaluation.values.segments import MARGIN, Status

VALUES = (
    "Each mark is an estimate from the log, its line the 95 % interval. Right of the dashed line is better than the "
    "best single offer; a line that crosses it shows no difference. The paired difference is sharper than the two "
    "values beside each other, as both policies are judged on the same decisions. Where the log has not enough support "
    "no line is drawn; the table says why."
)
BESIDE = (
    "IPS and SNIPS use no model; DM nothing but the model. DM, Switch-DR and DRos are for ranking candidates only: "
    "where they leave DR by more than its interval, q̂ or the largest weights deserve a look."
)
SEGMENTS = (
    "Thick lines are the 95 % interval of one segment alone, thin ones hold for all segments at once. A segment "
    f"counts as harmed where it is worse by more than {percent(MARGIN)} of the best single offer's value there, after"
    " Holm's correction for looking at so many."
)
UPLIFT = (
    "Decisions are treated in the order of their predicted gain, from left to right. The farther the curve lies "
    "above the dashed line, the better the order; the area between is the Qini coefficient. A curve that bends down "
    "at its end says that some are better left alone. With treatments shuffled, the Qini must be about 0."
)
RELIABILITY = (
    "Bins of about as many decisions each, from the lowest prediction to the highest; lines are 95 % intervals, "
    "clustered by user. On the dashed line, what was predicted came true. Shrinkage pulls what is served towards "
    "each offer's mean: its curve may leave the line, as it stands for less than the learner knows."
)
CELLS = "Right of 1 the model promises more than what follows. Lines are 95 % intervals."
CONTROLS = "Figures whose true value is known beforehand. One that fails says that the log is not what it claims to be."


def report(metrics: Metrics, drawings: Mapping[str, str] | None = None) -> str:
    """The page. `drawings` are `figures(metrics)`, drawn here unless given.

    Everything in it comes from `metrics`, as `train` and `evaluate` write them, so that an old file makes the page
    again. Parts that the metrics lack are left out.
    """
    drawn = figures(metrics) if drawings is None else drawings
    title = f"{metrics['model']}, version {metrics['version']}: what the evidence says"
    body = [
        f"<h1>{text(title)}</h1>",
        *_summary(metrics),
        *_values(metrics, drawn),
        *_segments(metrics, drawn),
        *_uplift(metrics, drawn),
        *_calibration(metrics, drawn),
        *_controls(metrics),
        *_how(metrics),
    ]
    return page(title, body)


def _summary(metrics: Metrics) -> Iterator[str]:
    told = summary(metrics)
    yield f'<section class="summary{" alarm" if told.alarm else ""}">'
    parts = (
        ("What was evaluated", told.evaluated),
        ("What was found", told.found),
        ("What may be believed", told.believable),
        ("What may not", told.doubtful),
    )
    for heading, sentences in parts:
        yield f"<h2>{heading}</h2><ul>{''.join(f'<li>{text(one)}</li>' for one in sentences)}</ul>"
    yield "</section>"


def _drawn(drawings: Mapping[str, str], name: str, caption: str) -> Iterator[str]:
    if name in drawings:
        yield picture(drawings[name], caption)


def _values(metrics: Metrics, drawings: Mapping[str, str]) -> Iterator[str]:
    yield "<h2>What each policy would have earned</h2>"
    yield from _drawn(drawings, "policy_values", VALUES)
    outcomes = dict.fromkeys(row["outcome"] for row in metrics["policy_values"])
    for outcome in sorted(outcomes, key=lambda name: name != metrics["objective"]):
        yield f"<h3>{text(outcome_name(outcome).capitalize())} per decision</h3>"
        yield tables.value_table(metrics, outcome)
    yield f"<h3>The other estimators, for {text(outcome_name(metrics['objective']))}</h3>"
    yield tables.beside_table(metrics)
    yield f'<p class="dim">{BESIDE}</p>'


def _segments(metrics: Metrics, drawings: Mapping[str, str]) -> Iterator[str]:
    found = metrics.get("segments")
    if not found:
        return
    shown = [one for one in found if one["status"] != Status.NOT_SHOWN]
    thin = [one for one in found if one["status"] == Status.NOT_SHOWN]
    yield "<h2>Is harm hidden in a segment?</h2>"
    yield from _drawn(drawings, "segments", SEGMENTS)
    if shown:
        yield tables.segment_table(shown)
    if thin:
        yield "<h3>Not shown: too little data, which is not to say safe</h3>"
        yield tables.thin_table(thin)


def _uplift(metrics: Metrics, drawings: Mapping[str, str]) -> Iterator[str]:
    if metrics.get("uplift_curves"):
        yield "<h2>Does the model find those who gain?</h2>"
        yield from _drawn(drawings, "uplift", UPLIFT)
        yield tables.uplift_table(metrics["uplift_curves"])


def _calibration(metrics: Metrics, drawings: Mapping[str, str]) -> Iterator[str]:
    if "reliability" not in drawings:
        return
    yield "<h2>Do predicted probabilities come true?</h2>"
    yield from _drawn(drawings, "reliability", RELIABILITY)
    yield tables.reliability_table({name: curve["bins"] for name, curve in metrics["reliability"].items()})
    cells, shown = metrics.get("calibration_cells") or (), tables.judged_cells(metrics)
    most = f" The {MOST_CELLS} farthest from 1 are drawn." if len(shown) > MOST_CELLS else ""
    yield "<h3>Per offer and market</h3>"
    yield (
        f"<p>{len(shown)} of {len(cells)} pairs have the {LEAST_CONVERSIONS} conversions that it takes to judge "
        f"them.{most}</p>"
    )
    yield from _drawn(drawings, "calibration", CELLS)
    if shown:
        yield tables.cell_table(shown)


def _controls(metrics: Metrics) -> Iterator[str]:
    if metrics.get("controls"):
        yield f"<h2>Controls</h2><p>{CONTROLS}</p>"
        yield tables.control_table(metrics["controls"])


def _how(metrics: Metrics) -> Iterator[str]:
    params = ", ".join(f"{name} {value}" for name, value in metrics.get("params", {}).items())
    yield "<h2>How it was computed</h2>"
    yield (
        f"<p>Learner <code>{text(metrics['learner'])}</code> ({text(params) or 'no parameters'}), {metrics['folds']} "
        f"folds by user, seed {metrics['seed']}. DR is the mean of Σ π q̂ + w (r − q̂), with w the policy's probability "
        "of what was shown over the logged one. Intervals are Student's t over users, and never narrower than the rule "
        "of three allows.</p>"
    )
    yield (
        f"<p>“Not enough support” is an effective sample size under {LEAST_ESS:,.0f}, a weight over {MOST_WEIGHT:g}, "
        f"or fewer than {LEAST_POSITIVES} matched positives. Switch-DR leaves weights over {SWITCH_LIMIT:g} "
        f"uncorrected; DRos shrinks weights with λ = {DROS_SHRINK:g}.</p>"
    )

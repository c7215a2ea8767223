"""Thresholds on a what-if, for pull requests: `changed>0.2`, `nothing>1%`, `value<-0.01`, `offer:premium_annual<-0.3`.

    threshold = measure ("<" | "<=" | ">" | ">=") number        number: 0.2, 1e-3, 20% or 20 %
    measure   = "changed" | "slate" | "nothing" | "fallback" | "unjudged" | "value" | "low" | "gain"
              | "offer:" name | "share:" name

One trips where the report says what it says: a threshold states what must not be.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from decisioning.errors import UserError
from decisioning.yaml_nodes import did_you_mean
from evaluation.whatif.report import offer_of

Report = Mapping[str, Any]
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
FORM = re.compile(
    r"\s*([a-z]+)(?::([^<>=\s]+))?\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*(%?)\s*"
)


def _relative_low(report: Report) -> float | None:
    value = report["value"]
    if value["note"] and report["identical"]:
        return 0.0
    if value["relative"] is None or value["low"] is None:
        return None
    return float(value["low"] / value["before"])


MEASURES: Mapping[str, tuple[str, Callable[[Report], float | None]]] = {
    "changed": ("share of decisions with another first offer", lambda report: report["changed_share"]),
    "slate": ("share of decisions with another offer in any slot", lambda report: report["slate_changed_share"]),
    "nothing": ("share of decisions left with nothing", lambda report: report["left_with_nothing_share"]),
    "fallback": (
        "growth of the share of decisions that fall back",
        lambda report: report["fallback_share"]["after"] - report["fallback_share"]["before"],
    ),
    "unjudged": ("share of choices that the log can't judge", lambda report: report["unjudged_share"]),
    "value": ("estimated change of value, relative", lambda report: report["value"]["relative"]),
    "low": ("lower end of its 95 % interval, relative", _relative_low),
    "gain": ("estimated change of value a decision, in money", lambda report: report["value"]["difference"]),
}
OF_OFFERS = {
    "offer": "change of an offer's share of first places, relative",
    "share": "an offer's share of first places afterwards",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """What must not be."""

    text: str
    measure: str
    offer: str
    operator: str
    limit: float

    def measured(self, report: Report) -> float | None:
        """What the report says; None where it says nothing."""
        if not self.offer:
            return MEASURES[self.measure][1](report)
        found = offer_of(report, self.offer)
        if self.measure == "share":
            return found["after_share"] if found else 0.0
        if found is None or (not found["before"] and not found["after"]):
            return 0.0
        return float("inf") if not found["before"] else found["change"]

    def verdict(self, report: Report) -> "Verdict":
        found = self.measured(report)
        return Verdict(self, found, found is not None and OPERATORS[self.operator](found, self.limit))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A threshold, and what was found."""

    threshold: Threshold
    found: float | None
    tripped: bool

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.threshold.text}: can't be judged, as this figure is not shown"
        told = "more than none before" if self.found == float("inf") else f"{self.found:.4g}"
        return f"{self.threshold.text}: {'TRIPPED' if self.tripped else 'holds'}, found {told}"

    def to_json(self) -> dict[str, Any]:
        found = None if self.found == float("inf") else self.found
        return {"threshold": self.threshold.text, "found": found, "tripped": self.tripped, "says": str(self)}


def read_threshold(text: str, offers: Collection[str]) -> Threshold:
    """Raises UserError for one of another form, an unknown measure, or an offer that neither catalog has."""
    match = FORM.fullmatch(text)
    if match is None:
        raise UserError(
            f"--fail-if can't read {text!r}: write a measure, < or >, and a number, such as changed>0.2, nothing>1% or "
            "offer:premium_annual<-0.3."
        )
    measure, offer, operator, number, percent = match.groups()
    if measure not in {*MEASURES, *OF_OFFERS}:
        known = ", ".join([*MEASURES, *(f"{name}:OFFER" for name in OF_OFFERS)])
        raise UserError(f"--fail-if knows no measure {measure!r} (in {text!r}). It knows: {known}.")
    if (measure in OF_OFFERS) != (offer is not None):
        raise UserError(
            f"--fail-if {text!r}: {measure} "
            + ("needs an offer, such as offer:premium_annual<-0.3." if measure in OF_OFFERS else "takes no offer.")
        )
    if offer is not None and offer not in offers:
        raise UserError(f"--fail-if {text!r}: neither catalog has this offer. {did_you_mean(offer, offers)}".rstrip())
    return Threshold(text.strip(), measure, offer or "", operator, float(number) / (100 if percent else 1))

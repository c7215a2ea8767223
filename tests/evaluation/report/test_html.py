"""The page is made from figures alone, so most of it is tested on figures made up here."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from evaluation.labels.labels import label
from evaluation.report.figures import figures
from evaluation.report.findings import findings
from evaluation.report.html import report
from evaluation.report.numbers import digits_of, figure, interval
from evaluation.report.page import printable, short
from evaluation.report.tables import value_table
from evaluation.report.words import records_of, summary
from evaluation.values.crossfit import CrossFit
from evaluation.values.policy_values import policy_values
from models.encoding import Encoding
from models.learners import fit
from terminal import policy_table

HOSTILE = '<script>alert("$x$")</script>&"\'\x00\u202e\ud800'


@pytest.fixture(scope="module")
def metrics(trial):
    """A world with a gain to find, three arms (NOTHING among them) and two markets."""
    from decisioning.catalog import DAY, Catalog, FeatureSpec, FeatureType, Group, Offer, Score, Surface

    tables = trial(n=9000, arms=("a", "b", "nothing"))
    tables.facts["market"] = pd.array(np.where(np.arange(9000) % 8 < 7, "de", "us"), dtype="string")
    offers = {name: Offer(name, "pm", "plans", ("home",), Score("m", value=1.0)) for name in "ab"}
    catalog = Catalog(
        "h",
        features={"taste": FeatureSpec("taste", FeatureType.BOOL)},
        groups={"plans": Group("plans", "convert", 14 * DAY)},
        surfaces={"home": Surface("home", allow_nothing=True)},
        offers=offers,
    )
    logged = label(tables, catalog, "m")
    encoding = Encoding.of(catalog, logged.surfaces, logged.arms)
    table = policy_values(CrossFit(logged, encoding, lambda sample: fit("logistic", encoding, sample, {}, 0)))
    about = {"model": "m", "version": 3, "shrinkage": 1.0, "learner": "logistic", "params": {"C": 1.0}, "folds": 5}
    about |= {"outcome": "convert", "objective": "convert", "decisions": logged.n, "users": logged.n, "immature": 7}
    about |= {"conversions": int(logged.conversion.sum()), "from": logged.start, "until": logged.end, "seed": 0}
    about |= {"source": "test", "auc": 0.7, "fold_shrinkages": list(table.shrinkages), "policy_values": table.records}
    return about | findings(table.judged)


class Reader(HTMLParser):
    """The tags that are open, and all that the page would show or fetch."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.links, self.words = [], set(), [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in ("meta", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_says_what_was_found_and_needs_nothing_else(metrics):
    page = report(metrics)
    reader = Reader(page)
    words = " ".join(reader.words)
    assert reader.open == []
    assert {"svg", "table", "h2"} <= reader.seen
    assert not reader.seen & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in reader.links)
    assert "url(http" not in page
    assert "@import" not in page
    assert "The trained policy earns more than the best single offer" in words
    assert "7 more decisions are too young" in words
    assert "market: de" in words
    assert "1 of" not in words.split("What was found")[0]


def test_each_picture_is_there_and_told_to_who_cannot_see_it(metrics):
    drawings = figures(metrics)
    assert set(drawings) == {"policy_values", "segments", "reliability", "calibration", "uplift"}
    for drawing in drawings.values():
        assert re.match(r'<svg role="img" aria-label="[^"]+"', drawing)
        assert "<metadata>" not in drawing
        assert "only nothing" in drawings["policy_values"]


def test_the_same_figures_make_the_same_page(metrics):
    assert report(metrics) == report(json.loads(json.dumps(metrics)))


def test_texts_from_data_stay_texts(metrics):
    hostile = json.loads(json.dumps(metrics))
    hostile |= {
        "model": HOSTILE,
        "outcome": HOSTILE,
        "source": HOSTILE,
        "learner": HOSTILE,
        "params": {HOSTILE: HOSTILE},
    }
    for segment in hostile["segments"]:
        segment["feature"] = segment["value"] = HOSTILE
    for cell in hostile["calibration_cells"]:
        cell["offer"] = cell["market"] = HOSTILE
    for curve in hostile["uplift_curves"]:
        curve["treatment"] = HOSTILE
    for row in hostile["policy_values"]:
        if row["policy"].startswith("only:"):
            row["policy"] = f"only:{HOSTILE}"
    page = report(hostile)
    reader = Reader(page)
    assert "script" not in reader.seen
    assert any('<script>alert("$x$")' in word for word in reader.words)
    page.encode()  # no lone surrogate
    assert not set(page) & {"\x00", "\u202e"}


@given(st.text(max_size=200))
def test_any_text_becomes_printable_and_short(value):
    printable(value).encode()
    assert len(short(value)) <= 36
    assert not re.search(r"[\x00-\x1f\x7f]", printable(value))


def test_an_old_file_without_the_newer_parts_makes_a_page(metrics):
    new = ("segments", "reliability", "calibration_cells", "uplift_curves", "controls", "ece_by_chance")
    page = report({key: value for key, value in metrics.items() if key not in new})
    assert "What each policy would have earned" in page
    assert "Is harm hidden" not in page


def test_a_control_that_fails_is_the_first_thing_said(metrics):
    broken = metrics | {"controls": [{**metrics["controls"][0], "held": False, "value": 1.3}]}
    told = summary(broken)
    assert told.alarm
    assert told.doubtful[0].startswith("Nothing here, until this is explained")
    assert [one.split(":")[0] for one in told.believable] == ["Nothing yet"]
    assert 'class="summary alarm"' in report(broken)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.02, "earns more"), (-0.02, -0.01, "significantly less"), (-0.01, 0.01, "No difference")],
)
def test_the_verdict_follows_the_interval(metrics, low, high, says):
    rows = json.loads(json.dumps(metrics["policy_values"]))
    for row in rows:
        if row["policy"] == "trained":
            row |= {"diff": (low + high) / 2 + 1e-9, "diff_low": low, "diff_high": high}
    assert says in summary(metrics | {"policy_values": rows}).found[0]
    for row in rows:
        row["note"] = "not enough support: effective sample size 12, needs 1,000"
    assert "can't be said: not enough support" in summary(metrics | {"policy_values": rows}).found[0]


LACKING = "not enough support: effective sample size 0, needs 1,000"


def thin(metrics, *policies):
    """Metrics in which some policies lack support, in the way of older files: with the intervals they had."""
    rows = json.loads(json.dumps(metrics["policy_values"]))
    for row in rows:
        if row["policy"] in policies or not policies:
            row |= {"value": 0.1077, "low": 0.1062, "high": 0.1092, "note": LACKING}
    return metrics | {"policy_values": rows}


def test_too_little_support_is_said_instead_of_an_interval(metrics):
    few = thin(metrics, "only:b")
    reader = Reader(value_table(few, "convert"))
    assert "0.108" in reader.words
    assert LACKING in reader.words
    assert reader.words.count("not shown") == 2
    assert not any("0.106" in word for word in reader.words)
    drawing = figures(few)["policy_values"]
    assert drawing.count("not shown: not enough support") == 2
    assert "not shown" not in figures(metrics)["policy_values"]
    told = summary(few)
    assert any("values have enough support" in one for one in told.believable)
    assert any(one.startswith("The values of only b: too little support") for one in told.doubtful)


def test_what_ran_keeps_its_value_where_only_the_reference_lacks_support(metrics):
    few = thin(metrics, "best_single_offer")
    for row in few["policy_values"]:
        if row["policy"] != "best_single_offer":
            row["diff_note"] = f"{LACKING} (of the best single offer)"
    rows = records_of(few, "convert")
    assert rows["logging"]["low"] is not None
    assert rows["logging"]["diff_low"] is None
    told = summary(few)
    assert "can't be said: not enough support" in told.found[0]
    assert told.believable[0].startswith("Values by DR")
    assert "No difference may" in told.believable[0]
    assert figures(few)["policy_values"].count("not shown: not enough support") == len(rows)


def test_where_no_policy_has_support_nothing_by_dr_is_to_be_believed(metrics):
    few = thin(metrics)
    assert summary(metrics).believable[0].startswith("Values and differences by DR, within their intervals: ")
    assert summary(few).believable[0].startswith("No value and no difference")
    assert "policy_values" not in figures(few)
    assert "0.1062" not in report(few)


def test_the_terminal_gives_the_reason_instead_of_an_interval(metrics):
    few = thin(metrics, "only:b")
    for row in few["policy_values"]:
        if row["policy"] == "only:b":
            row["diff_note"] = LACKING
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(policy_table(few["policy_values"], "convert"))
    told = console.export_text()
    line = next(one for one in told.splitlines() if one.strip().startswith("only:b "))
    assert "0.1077 ± not shown" in line
    assert line.count("not shown") == 2
    assert f"only:b: {LACKING}" in " ".join(told.split())


def test_what_is_not_bounded_is_said_to_be_so(metrics):
    rows = [{**row, "low": None, "high": None, "diff_low": None, "diff_high": None} for row in metrics["policy_values"]]
    page = report(metrics | {"policy_values": rows})
    assert "not bounded" in page
    assert "policy_values" not in figures(metrics | {"policy_values": rows})


@given(st.floats(-1e9, 1e9), st.integers(0, 6))
@settings(max_examples=200)
def test_no_number_reads_as_nothing_but_nothing(value, digits):
    told = figure(value, digits)
    assert (value == 0) == (not re.search("[1-9]", told))
    assert told.startswith("\u2212") == (value < 0)


def test_digits_follow_the_interval():
    assert [digits_of([half]) for half in (0.0041, 0.00085, 0.2, 30.0)] == [4, 5, 2, 0]
    assert interval(-0.004, 0.0123, 3, signed=True) == "\u22120.004 to +0.012"
    assert figure(0.00004, 3) == "4.0e\u221205"
    assert figure(None) == "not shown"


@pytest.mark.parametrize("users", [1, 3000])
@pytest.mark.parametrize("case", ["nobody converts on b", "one arm", "no markets"])
def test_poor_data_makes_a_page_without_nan(trial, make_catalog, users, case):
    tables = trial(n=3000, users=max(users, 3), arms=("a",) if case == "one arm" else ("a", "b"))
    if case == "nobody converts on b":
        shown = tables.decisions["offer"].to_numpy()[tables.outcomes["decision_id"].str[1:].astype(int)]
        tables.outcomes.drop(tables.outcomes.index[shown == "b"], inplace=True)
    logged = label(tables, make_catalog(), "m")
    encoding = Encoding.of(make_catalog(), logged.surfaces, ["a", "b"])
    fits = CrossFit(logged, encoding, lambda sample: fit("constant", encoding, sample, {}, 0), folds=3)
    table = policy_values(fits)
    found = {"model": "m", "version": 1, "shrinkage": 0.0, "learner": "constant", "params": {}, "folds": 3, "seed": 0}
    found |= {"outcome": "convert", "objective": "convert", "decisions": logged.n, "users": users, "auc": 0.5}
    found |= {"conversions": 1, "from": 0.0, "until": 1.0, "source": "x", "policy_values": table.records}
    words = " ".join(Reader(report(found | findings(table.judged))).words)
    assert not re.search(r"\b(nan|inf|None)\b", words)

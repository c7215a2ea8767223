"""Reads what is tried and measured: holdouts, experiments, exploration, and the catalog's own tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from decisioning.catalog import Ablations, Arm, CatalogTest, Experiment, Exploration, Factor, Holdout
from decisioning.catalog_conditions import whole_value_of
from decisioning.catalog_keys import KEYS
from decisioning.catalog_offers import Context, amount
from decisioning.conditions import Condition
from decisioning.domain import DECISION, Stage, Value
from decisioning.experiments import ABLATION
from decisioning.yaml_fields import (
    NAMING,
    Broken,
    Fields,
    Parser,
    attempt,
    duration,
    integer,
    is_name,
    moment,
    number,
    one_of,
    plain_name,
    some_of,
    text,
)
from decisioning.yaml_nodes import Node, Problems, did_you_mean

_ROUNDING = 1e-9
"""Percents such as 33.3 are binary fractions: sums may miss by a little."""


def read_holdout(name: str, node: Node, at: Context) -> Holdout:
    fields = Fields(node, at.problems, *KEYS["holdouts"])
    percent = fields.required("percent", number(above=0, high=100))
    salt = fields.required("salt", text, "A fresh one each quarter holds other users out.")
    fields.optional("show", one_of(("best_single_offer",), "policy"))
    surfaces = fields.optional("surfaces", some_of(one_of(at.surfaces, "surface")), ())
    fields.finish()
    return Holdout(name, percent, salt, frozenset(surfaces), node.key_place)


def read_exploration(node: Node, at: Context) -> Exploration:
    fields = Fields(node, at.problems, *KEYS["exploration"])
    uniform = fields.optional("uniform", number(0, 1), Exploration().uniform)
    challenger = fields.optional("challenger", number(0, 1), Exploration().challenger)
    if uniform + challenger > 1:
        fields.wrong("challenger", f"uniform and challenger add up to {uniform + challenger:g}, more than 1")
    fields.finish()
    return Exploration(uniform, challenger)


def read_ablations(node: Node, at: Context) -> Ablations:
    """Each factor's arm can grow to its share of the layer, and no further."""
    fields = Fields(node, at.problems, *KEYS["ablations"])
    percent = fields.required(
        "percent", number(above=0, high=100 / len(Factor)), "Of users, for each factor; such as 1."
    )
    named = fields.optional("factors", some_of(one_of(tuple(Factor), "factor")), tuple(Factor))
    fields.finish()
    return Ablations(percent, tuple(factor for factor in Factor if factor in named), node.key_place)


# --- Experiments ------------------------------------------------------------------------------------------------------


def read_experiment(name: str, node: Node, at: Context) -> Experiment:
    fields = Fields(node, at.problems, *KEYS["experiments"])
    layer = fields.required("layer", plain_name, "Experiments of one layer never share a user.")
    if ABLATION in (name, layer):
        message = f'"{ABLATION}" is what the arms that switch off a factor are called'
        at.problems.add_at(node.key_place, node.path, message, "Rename it.")
    percent = fields.optional("percent", number(above=0, high=100), 100.0)
    starts_at = fields.optional("starts_at", number(0, 100), _UNASSIGNED)
    if starts_at + percent > 100 + _ROUNDING:
        fields.wrong("starts_at", f"{starts_at:g} and {percent:g} percent end beyond 100")
    arms = _arms(fields, at)
    audience = _audience(fields, at)
    fields.finish()
    return Experiment(name, layer, arms, audience, starts_at, percent, node.key_place)


def _audience(experiment: Fields, at: Context) -> Condition | None:
    """A named audience, or a condition of its own."""
    node = experiment.child("audience")
    if node is None or isinstance(node.value, dict):
        return at.condition(experiment, "audience")
    return at.conditions.condition(replace(node, value={"audience": node}))


def _arms(experiment: Fields, at: Context) -> tuple[Arm, ...]:
    node = experiment.child("arms")
    if node is None or not isinstance(node.value, dict) or not node.value:
        if node or experiment.lacks("arms"):
            experiment.wrong(
                "arms", "an experiment needs arms", "Such as {control: {percent: 50}, other: {percent: 50}}."
            )
        return ()
    arms = tuple(_arm(name, arm, at) for name, arm in sorted(node.value.items()))
    total = sum(arm.percent for arm in arms)
    if abs(total - 100) > 1e-6:
        experiment.wrong("arms", f"the arms add up to {total:g} percent, needs 100", 'For less traffic, set "percent".')
    return arms


def _arm(name: str, node: Node, at: Context) -> Arm:
    fields = Fields(node, at.problems, *KEYS["experiments.arms"])
    if not is_name(name):
        at.problems.add_at(node.key_place, node.path, f'"{name}" can\'t be a name', NAMING)
    percent = fields.required("percent", number(0, 100)) or 0.0
    overrides: dict[str, float] = {}
    settings = fields.child("set")
    if settings is not None and not isinstance(settings.value, dict):
        fields.wrong("set", "needs paths and their values", "Such as {offers.premium_annual.score.value: 32.0}.")
    elif settings is not None and isinstance(settings.value, dict):
        for path, value in settings.value.items():
            parse = _setting(path, value, at)
            if parse:
                overrides[path] = attempt(parse, value, at.problems, 0.0)
    return Arm(name, percent, overrides)


SETTINGS: Mapping[tuple[str, str], Parser[float]] = {
    ("offers", "score.value"): amount,
    ("offers", "score.cost"): amount,
    ("offers", "priority"): integer(-1000, 1000),
    ("levers", "times"): number(above=0, high=1000),
    ("context_weights", "times"): number(above=0, high=100),
    ("surfaces", "min_score"): number(),
}
"""What an arm may set: `<section>.<name>.<this>`."""


def _setting(path: str, node: Node, at: Context) -> Parser[float] | None:
    """The parser of what an arm may set at a path; None after reporting that it may not."""
    section, _, rest = path.partition(".")
    name, _, what = rest.partition(".")
    parse = SETTINGS.get((section, what))
    names = at.settable.get(section, frozenset())
    if parse and name in names:
        return parse
    known = {f"{section}.{name}.{what}" for section, what in SETTINGS} if not parse else names
    kind = section.removesuffix("s").replace("_", " ")
    message = f'an arm can\'t set "{path}"' if not parse else f'unknown {kind} "{name}"'
    at.problems.add_at(node.key_place, node.path, message, did_you_mean(name if parse else path, known))
    return None


_UNASSIGNED = -1.0


def assign_ranges(experiments: Sequence[Experiment], problems: Problems) -> tuple[Experiment, ...]:
    """Checks that no two experiments of a layer share a user. One that is alone in its layer begins at 0 if it likes.

    Where there are several, each says where it begins: a range that hung on the others would move when they grow, and
    lose its users to them.
    """
    placed: list[Experiment] = []
    for layer in sorted({experiment.layer for experiment in experiments}):
        members = [experiment for experiment in experiments if experiment.layer == layer]
        total = sum(member.percent for member in members)
        if total > 100 + _ROUNDING:
            message = f"the experiments of layer {layer} take {total:g} percent of it, more than 100"
            problems.add_at(members[-1].place, f"experiments.{members[-1].name}", message, "Lower their percents.")
        elif len(members) == 1:
            placed.append(replace(members[0], starts_at=max(0.0, members[0].starts_at)))
        else:
            placed += _apart(layer, members, problems)
    return tuple(sorted(placed, key=lambda experiment: experiment.name))


def _apart(layer: str, members: Sequence[Experiment], problems: Problems) -> list[Experiment]:
    """The experiments of a layer, each in a range of its own."""
    placed = sorted((one for one in members if one.starts_at >= 0), key=lambda one: (one.starts_at, one.name))
    taken = [(one.starts_at, one.starts_at + one.percent) for one in placed]
    for (one, (start, end)), (other, (begins, ends)) in pairwise(zip(placed, taken, strict=True)):
        if begins < end - _ROUNDING:
            message = (
                f"{begins:g} to {ends:g} percent of layer {layer} overlaps {one.name}, which has {start:g} to {end:g}"
            )
            free = _first_gap(taken, other.percent)
            move = "" if free is None else f", or begin the newer of the two elsewhere: {free:g} is free"
            hint = f"Lower the percent of {one.name} to {begins - start:g}{move}."
            problems.add_at(other.place, f"experiments.{other.name}", message, hint)
    for one in members:
        if one.starts_at < 0:
            free = _first_gap(taken, one.percent)
            message = f'"starts_at" is missing: it shares layer {layer}, and where it begins may not hang on the others'
            hint = "Nothing that wide is free: lower its percent, or another's."
            if free is not None:
                taken = sorted([*taken, (free, free + one.percent)])
                keeps = " One that has run alone in the layer keeps 0." if free else ""
                hint = f"Write starts_at: {free:g}, which is free.{keeps}"
            problems.add_at(one.place, f"experiments.{one.name}", message, hint)
    return placed


def _first_gap(taken: Sequence[tuple[float, float]], width: float) -> float | None:
    """Where the first range of some percent that nobody takes begins, given ranges by their beginnings."""
    free = 0.0
    for start, end in (*taken, (100.0, 100.0)):
        if start - free >= width - _ROUNDING:
            return free
        free = max(free, end)
    return None


# --- The catalog's own tests ------------------------------------------------------------------------------------------


def read_test(node: Node, at: Context) -> CatalogTest:
    fields = Fields(node, at.problems, *KEYS["tests"])
    name = fields.required("name", text)
    surface = fields.required("on", one_of(at.surfaces, "surface"))
    expected = fields.child("expect")
    if expected is None or not expected.value:
        if expected or fields.lacks("expect"):
            at.problems.add(node, "a test needs to expect something", 'Give "never", "eligible" or "because".')
        raise Broken
    expect = Fields(expected, at.problems, *KEYS["tests.expect"])
    offers = some_of(one_of(at.offers, "offer"))
    never, eligible = expect.optional("never", offers, ()), expect.optional("eligible", offers, ())
    because = _because(expect, at)
    features, history, now = _given(fields, at)
    fields.finish()
    return CatalogTest(name, surface, features, history, never, eligible, because, now, node.place)


def _because(expect: Fields, at: Context) -> dict[str, str]:
    node = expect.child("because")
    if node is None:
        return {}
    because = Fields(node, at.problems, *at.offers)
    causes = at.rules | at.offers | frozenset(Stage) | {"min_score", "min_p_convert"}
    return {offer: because.optional(offer, one_of(causes, "rule"), "") for offer in because.entries}


def _given(test: Fields, at: Context) -> tuple[dict[str, Value], tuple[tuple[str, str, float], ...], float | None]:
    node = test.child("given")
    if node is None:
        return {}, (), None
    specs = at.conditions.features
    given = Fields(node, at.problems, *at.conditions.known, *KEYS["tests.given"])
    features = {name: given.optional(name, whole_value_of(specs[name])) for name in given.entries if name in specs}
    history = given.child("history")
    if history is not None and not isinstance(history.value, list):
        given.wrong("history", "needs a list", "Such as [{impression: premium_annual, ago: 1d}].")
    events = [_past(item, at) for item in history.value] if history and isinstance(history.value, list) else []
    return features, tuple(events), given.optional("now", moment)


def _past(node: Node, at: Context) -> tuple[str, str, float]:
    """`{impression: premium_annual, ago: 1d}`."""
    events = {*at.events, DECISION}
    fields = Fields(node, at.problems, *sorted(events), "ago")
    named = [key for key in fields.entries if key in events]
    ago = fields.required("ago", duration) or 0.0
    if len(named) != 1:
        at.problems.add(node, "needs one event and its offer", "Such as {impression: premium_annual, ago: 1d}.")
        return "", "", ago
    return named[0], fields.optional(named[0], one_of(at.offers, "offer"), ""), ago

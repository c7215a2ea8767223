"""Reads what there is: features, groups, surfaces and offers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from decisioning.catalog import Creative, FeatureSpec, FeatureType, Group, Offer, Score, Surface
from decisioning.catalog_conditions import RESERVED, ConditionReader, whole_value_of
from decisioning.catalog_keys import KEYS
from decisioning.conditions import Condition
from decisioning.domain import NOTHING, EventType
from decisioning.yaml_fields import (
    NAMING,
    Fields,
    Wrong,
    duration,
    end_of,
    flag,
    integer,
    is_name,
    list_of,
    moment,
    number,
    one_of,
    plain_name,
    some_of,
    text,
)
from decisioning.yaml_nodes import Node, Problems


@dataclass(frozen=True, slots=True)
class Context:
    """What the readers of sections share: the names that exist anywhere in the catalog, and where problems go."""

    problems: Problems
    conditions: ConditionReader
    groups: frozenset[str]
    """Those that `groups:` declares; where it declares none, whatever the offers say."""
    surfaces: frozenset[str]
    offers: frozenset[str]
    settable: Mapping[str, frozenset[str]]
    """What an experiment's arm may change, by section."""
    rules: frozenset[str]
    events: frozenset[str]

    def is_sent(self, name: str) -> bool:
        """Whether a feature of that name is text that clients send, so that it means what the service takes it for."""
        spec = self.conditions.features.get(name)
        if spec is None:
            return name in self.conditions.known  # what could not be read has its own problem
        return spec.from_context and spec.type is FeatureType.TEXT

    def condition(self, fields: Fields, key: str) -> Condition | None:
        """A field's condition, which some user has to be able to meet. Raises Broken."""
        node = fields.child(key)
        return None if node is None else self.conditions.condition(node)


# --- Features ---------------------------------------------------------------------------------------------------------

_MOST_IN_A_SET = 24  # a set is packed as a bit mask that has to be exact in a float32


def read_feature(name: str, node: Node, events: frozenset[str], problems: Problems) -> FeatureSpec:
    """`events`: the types of events that the catalog knows."""
    fields = Fields(node, problems, *KEYS["features"])
    kind = fields.required("type", one_of(tuple(FeatureType), "type"))
    spec = FeatureSpec(
        name,
        FeatureType(kind or FeatureType.TEXT),
        values=fields.optional("values", list_of(text), ()),
        max_age=fields.optional("max_age", duration),
        blocks_if_missing=fields.optional("if_missing", one_of(("block",), "choice")) is not None,
        from_context=fields.optional("from", one_of(("context", "snapshot"), "source")) == "context",
        unit=fields.optional("unit", text, ""),
        counts=fields.optional("counts", one_of(events, "event"), ""),
    )
    if name in RESERVED:
        problems.add_at(node.key_place, node.path, f'"{name}" means something in conditions', "Choose another name.")
    if kind:
        _check_values(spec, fields)
        default = fields.optional("default", whole_value_of(spec))
        fields.finish()
        return replace(spec, default=default)
    fields.finish()
    return spec


def _check_values(spec: FeatureSpec, fields: Fields) -> None:
    if spec.type in (FeatureType.ENUM, FeatureType.SET):
        if not spec.values and (fields.lacks("values") or fields.child("values")):
            fields.wrong("values", f"{spec.type} feature needs its values", "Such as values: [free, premium].")
        if spec.type is FeatureType.SET and len(spec.values) > _MOST_IN_A_SET:
            fields.wrong("values", f"a set has at most {_MOST_IN_A_SET} values, this one has {len(spec.values)}")
    elif spec.values:
        fields.wrong("values", f"only enum and set features have values, this one is {spec.type}")
    if spec.type is FeatureType.TEXT and not spec.from_context:
        fields.wrong("type", "text is for what clients send", "Write from: context, or make it an enum.")
    if spec.from_context and spec.max_age:
        fields.wrong("max_age", "a value from the request is never old", "Take it away.")
    if spec.counts and (spec.type is not FeatureType.INT or spec.from_context):
        fields.wrong("counts", "only whole numbers of the snapshot count events", "Make it type: int, or take it away.")
    if spec.blocks_if_missing and fields.child("default"):
        fields.wrong("if_missing", "with a default it is never missing", "Keep one of the two.")


# --- Groups and surfaces ----------------------------------------------------------------------------------------------


def read_group(name: str, node: Node, at: Context) -> Group:
    fields = Fields(node, at.problems, *KEYS["groups"])
    converts_on = fields.optional("converts_on", text, EventType.CONVERT)
    within = fields.optional("within", duration, Group(name).within)
    fields.finish()
    return Group(name, converts_on, within)


def read_surface(name: str, node: Node, at: Context) -> Surface:
    fields = Fields(node, at.problems, *KEYS["surfaces"], nullable="fallback")
    slots = fields.optional("slots", integer(1, 100), 1)
    if fields.lacks("fallback"):
        fields.wrong("fallback", '"fallback" is missing', "Name an offer, or say fallback: null.")
    fallback = fields.optional("fallback", one_of(at.offers, "offer"))
    min_score = fields.optional("min_score", number())
    min_p_convert = fields.optional("min_p_convert", number(0, 1))
    deadline = fields.optional("deadline", duration, Surface(name).deadline)
    allow_nothing = fields.optional("allow_nothing", flag, False)
    max_per_group = fields.optional("max_per_group", integer(1))
    if fields.optional("diversity", one_of(("group",), "diversity")):
        if max_per_group is not None:
            fields.wrong("diversity", "diversity: group says max_per_group: 1", "Keep one of the two.")
        max_per_group = 1
    sticky = fields.optional("sticky", duration, 0.0)
    fields.finish()
    return Surface(
        name, slots, fallback, min_score, min_p_convert, deadline, allow_nothing, max_per_group, sticky, node.key_place
    )


# --- Offers -----------------------------------------------------------------------------------------------------------


def read_offer(name: str, node: Node, at: Context) -> Offer:
    fields = Fields(node, at.problems, *KEYS["offers"])
    if name == NOTHING:
        at.problems.add_at(node.key_place, node.path, f'"{NOTHING}" is what showing no offer is called', "Rename it.")
    owner = fields.required("owner", text, "Say who answers for it.")
    group = fields.required("group", one_of(at.groups, "group"))
    if group and not is_name(group):  # where no groups are declared
        fields.wrong("group", f'"{group}" can\'t be a name', NAMING)
    surfaces = fields.required("surfaces", list_of(one_of(at.surfaces, "surface")), "Say [] for a mere fallback.")
    live_from, live_until = _live(fields, at)
    score = _score(fields, at)
    attributes = _attributes(fields, at)
    creative = _creative(fields, at)
    priority = fields.optional("priority", integer(-1000, 1000), 0)
    eligible = at.condition(fields, "eligible")
    fields.finish()
    return Offer(
        name,
        owner,
        group,
        surfaces,
        score,
        live_from,
        live_until,
        attributes,
        eligible,
        creative,
        priority,
        node.key_place,
    )


def _live(offer: Fields, at: Context) -> tuple[float | None, float | None]:
    node = offer.child("live")
    if node is None:
        return None, None
    fields = Fields(node, at.problems, *KEYS["offers.live"])
    start, end = fields.optional("from", moment), fields.optional("until", end_of)
    if start is not None and end is not None and start >= end:
        offer.wrong("live", "it ends before it starts")
    return start, end


MOST_MONEY = 1e9
"""Of one conversion, in the catalog's currency: whatever multiplies it, a score stays finite."""
amount = number(low=0, high=MOST_MONEY)


def _score(offer: Fields, at: Context) -> Score:
    node = offer.child("score")
    if node is None:
        return Score()
    fields = Fields(node, at.problems, *KEYS["offers.score"])
    score = Score(
        model=fields.optional("model", plain_name),
        value=fields.optional("value", amount, Score().value),
        cost=fields.optional("cost", amount, Score().cost),
        prior=fields.optional("prior", number(low=0, high=1), Score().prior),
    )
    if score.net < 0:
        fields.wrong("cost", f"it costs {score.cost:g} to earn {score.value:g}: every conversion would lose money")
    return score


def _attributes(offer: Fields, at: Context) -> dict[str, float | str]:
    """Numbers where they look like numbers and are not in quotes, else text."""
    node = offer.child("attributes")
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        offer.wrong("attributes", "needs a mapping", "Such as {price: 109.0, kind: annual}.")
        return {}
    fields = Fields(node, at.problems, *node.value)
    return {key: fields.optional(key, _attribute, "") for key in node.value}


def _attribute(node: Node) -> float | str:
    try:
        return text(node) if node.quoted else number()(node)
    except Wrong:
        return text(node)


def _creative(offer: Fields, at: Context) -> Creative | None:
    node = offer.child("creative")
    if node is None:
        return None
    fields = Fields(node, at.problems, *KEYS["offers.creative"])
    key = fields.required("key", text)
    locales = fields.optional("locales", some_of(text), ())
    fallback = fields.optional("fallback_locale", text, "en")
    if locales and fallback not in locales:
        fields.wrong("fallback_locale", f"the fallback locale {fallback} is not among the locales")
    return Creative(key, locales, fallback)

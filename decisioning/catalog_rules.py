"""Reads what may not happen and what should weigh more: guards, suppression, caps, budgets, quiet hours, levers."""

from zoneinfo import ZoneInfo

from decisioning.catalog import Offer
from decisioning.catalog_keys import KEYS
from decisioning.catalog_offers import Context
from decisioning.domain import DECISION
from decisioning.rules import (
    Budget,
    Cap,
    CapBy,
    ContextWeight,
    Exclusive,
    Guard,
    Invariant,
    Lever,
    QuietHours,
    Same,
    Scope,
    Suppression,
)
from decisioning.yaml_fields import (
    Broken,
    Fields,
    clock,
    duration,
    end_of,
    flag,
    integer,
    moment,
    number,
    one_of,
    some_of,
    text,
    wrong,
)
from decisioning.yaml_nodes import Node


def read_scope(fields: Fields, at: Context) -> Scope:
    """What `only:` and `except:` say."""
    only = _names(fields, "only", at)
    excluded = _names(fields, "except", at)
    return Scope(*only, *excluded)


def _names(rule: Fields, key: str, at: Context) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Offers, groups and surfaces named under a key."""
    node = rule.child(key)
    if node is None:
        return frozenset(), frozenset(), frozenset()
    fields = Fields(node, at.problems, *KEYS["scope"])
    if fields.is_mapping and not fields.entries:
        rule.wrong(key, "says nothing", "Such as {group: plan_upgrade}.")
    return (
        frozenset(fields.optional("offer", some_of(one_of(at.offers, "offer")), ())),
        frozenset(fields.optional("group", some_of(one_of(at.groups, "group")), ())),
        frozenset(fields.optional("surface", some_of(one_of(at.surfaces, "surface")), ())),
    )


def read_guard(name: str, node: Node, at: Context) -> Guard:
    fields = Fields(node, at.problems, *KEYS["guards"])
    scope = read_scope(fields, at)
    allows, blocks = at.condition(fields, "require"), at.condition(fields, "block_if")
    if fields.lacks("require") and fields.lacks("block_if"):
        at.problems.add(node, 'a guard needs "require" or "block_if"')
    fields.finish()
    return Guard(name, scope, allows, blocks, node.key_place)


def read_invariant(name: str, node: Node, at: Context) -> Invariant:
    fields = Fields(node, at.problems, *KEYS["invariants"])
    if fields.lacks("when") or fields.lacks("never"):
        at.problems.add(node, 'an invariant needs "when" and "never"')
    never = Scope(*_names(fields, "never", at))
    when = at.condition(fields, "when")
    fields.finish()
    if when is None:
        raise Broken
    return Invariant(name, when, never, node.key_place)


def read_suppression(name: str, node: Node, at: Context) -> Suppression:
    fields = Fields(node, at.problems, *KEYS["suppress"])
    after, count, within = _after(fields, at)
    same = fields.optional("same", one_of(tuple(Same), "choice"), Same.OFFER)
    lasts = fields.required("for", duration)
    scope = read_scope(fields, at)
    fields.finish()
    return Suppression(name, after, lasts, count, within, Same(same), scope, node.key_place)


def _after(rule: Fields, at: Context) -> tuple[str, int, float | None]:
    """`after: dismiss`, or `after: {impression: 3, within: 7d}`: the event, how many, within how long."""
    event = one_of(at.events, "event")
    node = rule.child("after")
    if node is None or not isinstance(node.value, dict):
        return rule.required("after", event), 1, None
    fields = Fields(node, at.problems, *sorted(at.events), "within")
    named = [key for key in fields.entries if key in at.events]
    if len(named) != 1:
        rule.wrong("after", "needs one event with its count", "Such as {impression: 3, within: 7d}.")
        return "", 1, None
    count = fields.optional(named[0], integer(1), 1)
    within = fields.optional("within", duration)
    if count > 1 and within is None:
        rule.wrong("after", f"{count} events need a time", "Add within: 7d.")
    return named[0], count, within


def read_cap(name: str, node: Node, at: Context) -> Cap:
    fields = Fields(node, at.problems, *KEYS["caps"])
    most = fields.required("max", integer(0))
    per = fields.required("per", duration)
    by = fields.required("by", one_of(tuple(CapBy), "choice"))
    counts = fields.optional("counts", one_of({*at.events, DECISION}, "event"), "impression")
    scope = read_scope(fields, at)
    fields.finish()
    return Cap(name, most, per, CapBy(by), counts, scope, node.key_place)


def read_budget(name: str, node: Node, at: Context, offers: dict[str, Offer]) -> Budget:
    """`offers` are those that could be read: pacing starts when the first of its own goes live."""
    fields = Fields(node, at.problems, *KEYS["budgets"])
    named = frozenset(fields.required("offers", some_of(one_of(at.offers, "offer"))) or ())
    impressions = fields.required("impressions", integer(1))
    starts, until = fields.optional("from", moment), fields.optional("until", end_of)
    even = fields.optional("pace", one_of(("even", "fast"), "pace"), "fast") == "even"
    if even and starts is None:
        starts = min((o.live_from for n in named if (o := offers.get(n)) and o.live_from is not None), default=None)
    if even and (starts is None or until is None):
        fields.wrong("pace", "an even pace needs a beginning and an end", 'Add "from" and "until".')
    if starts is not None and until is not None and starts >= until:
        fields.wrong("until", "it ends before it starts")
    hard = fields.optional("hard", flag, True)
    fields.finish()
    return Budget(name, named, impressions, until, starts, even, hard, node.key_place)


def read_quiet_hours(name: str, node: Node, at: Context) -> QuietHours:
    fields = Fields(node, at.problems, *KEYS["quiet_hours"])
    surfaces = fields.required("surfaces", some_of(one_of(at.surfaces, "surface")))
    start, end = fields.required("from", clock), fields.required("to", clock)
    if start is not None and start == end:
        fields.wrong("to", "it ends when it starts: that is no time at all")
    zone = fields.optional("timezone", _timezone, "user")
    named = fields.child("timezone")
    if (fields.lacks("timezone") or (named and named.value == "user")) and not at.is_sent("timezone"):
        message = "it goes by the user's time zone, which no feature tells"
        hint = "Declare features: {timezone: {type: text, from: context}}, or write timezone: UTC."
        fields.wrong("timezone", message, hint)
    fields.finish()
    return QuietHours(name, frozenset(surfaces), start, end, None if zone == "user" else zone, node.key_place)


def _timezone(node: Node) -> str:
    name = text(node)
    try:
        return name if name == "user" else ZoneInfo(name).key
    except (ValueError, LookupError, OSError):  # zoneinfo raises OSError for the name of a folder, such as "Europe"
        raise wrong(
            node, f'unknown time zone "{name}"', "Write user, UTC, or a name such as Europe/Stockholm."
        ) from None


def read_exclusive(name: str, node: Node, at: Context) -> Exclusive:
    fields = Fields(node, at.problems, *KEYS["exclusive"])
    offers = fields.required("offers", some_of(one_of(at.offers, "offer")))
    lasts = fields.required("for", duration)
    if offers and len(offers) < 2:
        fields.wrong("offers", "one offer alone excludes nothing", "Name at least two.")
    fields.finish()
    return Exclusive(name, frozenset(offers), lasts, node.key_place)


def read_bounds(node: Node, at: Context) -> tuple[float, float]:
    """`lever_bounds`: the least and the most that levers together may multiply by."""
    fields = Fields(node, at.problems, *KEYS["lever_bounds"])
    low = fields.optional("min", number(above=0, high=1), 0.25)
    high = fields.optional("max", number(low=1, high=1000), 4.0)
    fields.finish()
    return low, high


def read_lever(name: str, node: Node, at: Context, bounds: tuple[float, float]) -> Lever:
    fields = Fields(node, at.problems, *KEYS["levers"])
    scope = read_scope(fields, at)
    times = fields.required("times", number(*bounds))
    starts = fields.optional("from", moment)
    until = fields.required("until", end_of, "A lever needs an end; otherwise it is for ever.")
    owner = fields.required("owner", text, "Say who answers for it.")
    why = fields.required("why", text, "Say what it is for.")
    if starts is not None and until is not None and starts >= until:
        fields.wrong("until", "it ends before it starts")
    fields.finish()
    return Lever(name, scope, times, until, owner, why, starts, node.key_place)


def read_context_weight(name: str, node: Node, at: Context) -> ContextWeight:
    fields = Fields(node, at.problems, *KEYS["context_weights"])
    scope = read_scope(fields, at)
    if fields.lacks("when"):
        at.problems.add(node, '"when" is missing', "A condition; a weight that always holds is a lever.")
    times = fields.required("times", number(above=0, high=100))
    owner = fields.required("owner", text, "Say who answers for it.")
    why = fields.required("why", text, "Say what it is for.")
    when = at.condition(fields, "when")
    fields.finish()
    if when is None:
        raise Broken
    return ContextWeight(name, scope, when, times, owner, why, node.key_place)


def check_arbitration(node: Node, at: Context) -> None:
    """There is one way to arbitrate so far. Writing it down is allowed; asking for another is not."""
    fields = Fields(node, at.problems, *KEYS["arbitration"])
    order = fields.optional("order", some_of(one_of(("priority", "score"), "factor")), ("priority", "score"))
    if order != ("priority", "score"):
        fields.wrong("order", "offers are ranked by priority, then score", "Write [priority, score], or leave it out.")
    fields.optional("tie_break", one_of(("hash",), "tie break"))

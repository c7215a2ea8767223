"""Random catalogs as YAML text, the users and histories that go with them, and a scorer."""

import random

import yaml
from hypothesis import strategies as st

from decisioning.catalog import Catalog
from decisioning.catalog_yaml import CatalogError, load_catalog
from decisioning.domain import Facts, HistoryEvent, Request, Scores
from decisioning.engine import Release

NOW = 1_800_000_000.0  # 2027-01-15T08:00Z
DAY = 86_400.0
NAMES = ("annual", "day_pass", "duo", "family", "vinyl", "tickets")
GROUPS = ("upgrade", "merch")
SURFACES = ("home", "push")
TIERS = ["free", "basic", "premium"]
ZONES = ["Europe/Stockholm", "Asia/Kolkata", "America/Sao_Paulo", "Pacific/Auckland"]

FEATURES = {
    "tier": {"type": "enum", "values": TIERS},
    "sessions": {"type": "int", "default": 0, "max_age": "36h"},
    "minutes": {"type": "float"},
    "addons": {"type": "set", "values": ["hifi", "audiobooks"]},
    "consent": {"type": "bool", "if_missing": "block"},
    "device": {"type": "enum", "values": ["phone", "tv"], "from": "context"},
    "app_version": {"type": "text", "from": "context"},
    "timezone": {"type": "text", "from": "context"},
}


def one_of(**clauses):
    """At most some of the clauses, at least none."""
    return st.fixed_dictionaries({}, optional=clauses)


def some(values, least=1):
    return st.lists(st.sampled_from(values), min_size=least, unique=True)


def spans(least, most):
    return st.integers(least, most).map(lambda hours: f"{hours}h")


clauses = one_of(
    tier=some(TIERS) | some(TIERS[:2]).map(lambda tiers: {"not": tiers}),
    sessions=st.integers(0, 5).map(lambda n: {"min": n}) | st.integers(0, 5).map(lambda n: {"below": n + 1}),
    minutes=st.sampled_from([{"above": 2.5}, {"max": 60}, {"missing": True}]),
    addons=st.sampled_from([{"has": "hifi"}, {"lacks": "audiobooks"}, {"has_any": ["hifi", "audiobooks"]}]),
    device=st.sampled_from(["phone", {"not": "tv"}]),
    app_version=st.just({"version_min": "8.4"}),
)
eligible = clauses | st.builds(
    lambda own, ways: {**own, "any": ways}, clauses, st.lists(clauses.filter(bool), min_size=1, max_size=2)
)
scopes = st.sampled_from(
    [
        {},
        {"only": {"group": "upgrade"}},
        {"except": {"offer": "duo"}},
        {"only": {"surface": "home"}},
        {"except": {"surface": "push"}},
    ]
)
live = st.sampled_from(
    [None, {"from": "2027-01-10"}, {"until": "2027-01-20"}, {"from": "2027-02-01"}, {"until": "2027-01-10"}]
)


def offer(name):
    return st.fixed_dictionaries(
        {
            "owner": st.just("pm"),
            "group": st.just("merch" if name in ("vinyl", "tickets") else "upgrade"),
            "surfaces": some(SURFACES),
            "score": st.fixed_dictionaries(
                {"model": st.just("upsell"), "value": st.integers(1, 40), "prior": st.sampled_from([0.01, 0.03])}
            ),
        },
        optional={"eligible": eligible.filter(bool), "live": live.filter(bool), "priority": st.sampled_from([0, 1])},
    )


FREE = {"except": {"group": "fallback"}}
SIGNED = {"until": "2027-12-31", "owner": "pm", "why": "a test"}
guards = one_of(
    needs_consent=st.sampled_from([FREE, {"only": {"surface": "push"}}]).map(
        lambda scope: {"require": {"consent": True}, **scope}
    ),
    no_tv=st.just({"block_if": {"device": "tv"}, "only": {"group": "merch"}}),
    no_strangers=st.just({"block_if": {"tier": {"missing": True}}, "only": {"surface": "push"}}),
)
suppress = one_of(
    after_dismiss=st.builds(
        lambda event, hours, same, scope: {"after": event, "same": same, "for": hours, **scope},
        st.sampled_from(["dismiss", "dismiss", "convert"]),
        spans(1, 400),
        st.sampled_from(["offer", "group", "any"]),
        scopes,
    ),
    tired=st.builds(
        lambda count, within, hours: {"after": {"impression": count, "within": within}, "same": "offer", "for": hours},
        st.integers(2, 3),
        spans(1, 100),
        spans(1, 200),
    ),
)
caps = st.dictionaries(
    st.sampled_from(["first_cap", "second_cap"]),
    st.builds(
        lambda most, per, by, counts, scope: {"max": most, "per": per, "by": by, "counts": counts, **scope},
        st.integers(0, 3),
        spans(1, 300),
        st.sampled_from(["offer", "group", "surface", "user"]),
        st.sampled_from(["impression", "impression", "click", "convert"]),
        scopes,
    ),
)
surface = st.fixed_dictionaries(
    {"slots": st.integers(1, 3), "fallback": st.none()},
    optional={
        "min_score": st.sampled_from([0.1, 0.4]),
        "min_p_convert": st.just(0.012),
        "allow_nothing": st.booleans(),
        "max_per_group": st.sampled_from([1, 2]),
    },
)
levers = one_of(
    up=st.just({"only": {"offer": "annual"}, "times": 3.0, **SIGNED}),
    down=st.just({"only": {"group": "upgrade"}, "times": 0.5, **SIGNED}),
)
halves = {"a": {"percent": 50}, "b": {"percent": 50, "set": {"offers.annual.score.value": 3.0}}}
experiments = one_of(
    price=st.just({"layer": "pricing", "starts_at": 0, "percent": 60, "arms": halves}),
    look=st.just(
        {"layer": "looks", "audience": {"tier": "free"}, "arms": {"a": {"percent": 30}, "b": {"percent": 70}}}
    ),
)


def documents(**fixed):
    """Catalogs as the documents that their YAML holds. `fixed` takes the place of sections."""
    sections = {
        "features": st.just(FEATURES),
        "groups": st.just({"upgrade": {}, "merch": {"converts_on": "purchase"}, "fallback": {"converts_on": "click"}}),
        "surfaces": st.fixed_dictionaries({"home": surface, "push": surface}),
        "offers": st.fixed_dictionaries(
            {name: offer(name) for name in NAMES[:4]}, optional={n: offer(n) for n in NAMES[4:]}
        ),
        "guards": guards,
        "suppress": suppress,
        "caps": caps,
        "levers": levers,
        "experiments": experiments,
        "budgets": one_of(
            hard=st.just({"offers": ["duo"], "impressions": 10, "hard": True}),
            ended=st.just({"offers": ["family"], "impressions": 5, "until": "2027-01-01"}),
            paced=st.just(
                {
                    "offers": ["annual"],
                    "impressions": 20,
                    "from": "2027-01-01",
                    "until": "2027-01-31",
                    "pace": "even",
                    "hard": False,
                }
            ),
        ),
        "quiet_hours": one_of(
            night=st.just({"surfaces": ["push"], "from": "22:00", "to": "07:00", "timezone": "user"})
        ),
        "exclusive": one_of(
            story=st.builds(lambda hours: {"offers": ["annual", "duo"], "for": hours}, spans(1, 300)),
            plans=st.just({"offers": ["duo", "family", "day_pass"], "for": "1h"}),
        ),
        "holdouts": one_of(small=st.just({"percent": 20, "salt": "s1"})),
        "ablations": st.sampled_from([{}, {}, {"percent": 25, "factors": ["model", "levers"]}]),
        "exploration": st.builds(lambda share: {"uniform": share}, st.sampled_from([0, 0.05, 0.3, 1])),
    }
    sections |= {name: st.just(section) for name, section in fixed.items()}
    return st.builds(_whole, st.fixed_dictionaries(sections), st.sampled_from([[], [], ["home"]]))


def _whole(document, competes):
    """With a fallback on the one surface where no rule can take it away; it may be among those that compete there."""
    document["surfaces"]["home"]["fallback"] = "mix"
    document["offers"]["mix"] = {"owner": "pm", "group": "fallback", "surfaces": competes}
    if not document.get("ablations"):
        document.pop("ablations", None)
    return document


def files_of(document, shuffle: random.Random | None = None) -> dict[str, bytes]:
    """The document as YAML: in one file, or its parts strewn over several, in any order."""
    if shuffle is None:
        return {"catalog.yaml": _text(document)}
    parts: dict[str, dict] = {}
    for section, content in document.items():
        for name, item in content.items() if section not in ("exploration", "ablations") else [(None, content)]:
            file = parts.setdefault(f"{shuffle.choice('abc')}.yaml", {})
            if name is None:
                file[section] = item
            else:
                file.setdefault(section, {})[name] = item
    return {name: _text(_turned(part, shuffle)) for name, part in sorted(parts.items(), key=lambda _: shuffle.random())}


def _turned(part: dict, shuffle: random.Random) -> dict:
    """The same mapping, its sections and what they name in another order."""
    turned = {}
    for section in shuffle.sample(sorted(part), len(part)):
        names = shuffle.sample(sorted(part[section]), len(part[section]))
        turned[section] = {name: part[section][name] for name in names}
    return turned


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data) -> bool:
        """The language has no anchors."""
        return True


def _text(document) -> bytes:
    return yaml.dump(document, Dumper=_Dumper, default_flow_style=None, sort_keys=False).encode()


def loaded(files) -> Catalog | None:
    """The catalog; None where the checker refuses it, as it does what nobody can meet."""
    try:
        return load_catalog(files)
    except CatalogError:
        return None


contexts = one_of(
    device=st.sampled_from(["phone", "tv"]),
    timezone=st.sampled_from(ZONES),
    app_version=st.sampled_from(["8.9.1", "7"]),
    tier=st.just("premium"),  # not the client's to say
    sessions=st.just(9),
    unheard_of=st.just(1),
)
requests = st.builds(
    lambda number, user, surface, now, context, exclude, slots: Request(
        f"d{number}", f"u{user}", surface, now, context, slots, frozenset(exclude)
    ),
    st.integers(0, 10**6),
    st.integers(0, 500),
    st.sampled_from(SURFACES),
    st.integers(0, 47).map(lambda hours: NOW + hours * 3600.0),
    contexts,
    st.sampled_from([(), (), (), *zip(NAMES, strict=True)]),
    st.none() | st.integers(1, 4),
)
events = st.sampled_from(
    [
        HistoryEvent(type, offer, surface, NOW + hours * 3600.0)
        for hours in sorted(range(-200, 51), key=abs)
        for type in ("impression", "impression", "click", "dismiss", "convert", "purchase")
        for offer in (*NAMES, "gone")
        for surface in (*SURFACES, "elsewhere")
    ]
)
"""Drawn in one go rather than field by field: of all that is random here, histories are the most."""
facts = st.builds(
    lambda features, age, history, budgets, killed, unread: Facts(
        features,
        None if age is None else NOW - age * 3600.0,
        tuple(history),
        budgets,
        frozenset(killed),
        frozenset(unread),
    ),
    one_of(
        tier=st.sampled_from(TIERS),
        sessions=st.integers(0, 7),
        minutes=st.sampled_from([0.0, 2.5, 60.0, 61.0]),
        addons=st.frozensets(st.sampled_from(["hifi", "audiobooks"])),
        consent=st.sampled_from([True, True, False]),
    ),
    st.none() | st.integers(0, 60),
    st.lists(events, max_size=4) | st.lists(events, min_size=8, max_size=25),
    one_of(hard=st.integers(8, 11), paced=st.integers(0, 21)),
    st.sampled_from([(), (), (), *zip([*NAMES, "mix"], strict=True)]),
    st.sampled_from([(), (), (), ("history",), ("features",), ("budgets",)]),
)
visits = st.lists(st.tuples(requests, facts), min_size=4, max_size=6)
"""Several to a catalog: reading it is what takes the time."""


class Fickle:
    """A model that gives each user and offer a chance of their own."""

    label = "upsell/1"

    def score(self, features, surface, offers):
        chance = random.Random(f"{sorted(features.get('addons') or ())}{features.get('sessions')}")
        by_name = {name: chance.uniform(0.005, 0.04) for name in NAMES}
        found = [by_name[offer] for offer in offers]
        return Scores(found, found)

    def prior(self, surface, offers):
        found = [0.01 + NAMES.index(offer) / 1000 for offer in offers]
        return Scores(found, found)


def release_of(catalog: Catalog) -> Release:
    return Release("r", catalog, {"upsell": Fickle()}, salt="s")

"""Reach: what one query counts is what every single decision would have found."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pandas as pd
import pytest

import evaluation
import features.snapshots as snapshots
from decisioning.catalog import Catalog, FeatureSpec, FeatureType, Offer, Surface
from decisioning.catalog_yaml import load_catalog
from decisioning.conditions import AllOf, AnyOf, Op, Test, conjuncts, holds
from decisioning.domain import Facts, Request, Stage, Value
from decisioning.errors import UserError
from decisioning.knowledge import Knowledge
from decisioning.plan import SurfacePlan
from decisioning.rules import Guard, Invariant, Scope
from evaluation.reach import reach
from features.frames import DTYPES
from features.schema import Schema
from features.snapshots import Snapshot, build_snapshot, snapshot_rows
from stores.catalog_files import read_catalog_files

SAMPLE = Path(evaluation.__file__).parent.parent / "catalog"
AS_OF = pd.Timestamp("2026-11-22T10:20:30Z")
STAGES = (Stage.ELIGIBLE, Stage.INVARIANT, Stage.GUARD)


@pytest.fixture
def snapshot_of(tmp_path, monkeypatch):
    """A snapshot of some users' values, in parts of a few rows, under a name that a careless query would trip over."""
    monkeypatch.setattr(snapshots, "PART_ROWS", 40)
    data, folder = tmp_path / "data", tmp_path / "o'neil [1]*"
    data.mkdir()

    def make(schema: Schema, users: Sequence[Mapping[str, Value]]) -> Snapshot:
        frame = pd.DataFrame({"user_id": [f"u{n:06d}" for n in range(len(users))], "as_of": AS_OF})
        for spec in schema.specs:
            cells = [_cell(spec, user.get(spec.name)) for user in users]
            frame[spec.name] = pd.Series(cells, dtype=object).astype(DTYPES[spec.type])
        frame.to_parquet(data / "facts.parquet")
        pd.DataFrame({"decision_id": []}).to_parquet(data / "decisions.parquet")
        (data / "dataset.json").write_text(json.dumps({"features": schema.to_json()}))
        return build_snapshot(data, folder, schema=schema)

    return make


def _cell(spec: FeatureSpec, value: Value) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return pd.Timestamp(value, unit="s", tz="UTC") if spec.type is FeatureType.TIME and value is not None else value


def by_single_decisions(catalog: Catalog, snapshot: Snapshot, context: Mapping[str, Value]) -> Mapping[tuple, int]:
    """(surface, offer, stage, rule) → users, from the values that servers get, one `screen` at a time."""
    found: Counter[tuple] = Counter()
    knowledge = Knowledge(catalog)
    for surface in catalog.surfaces.values():
        plan = SurfacePlan(catalog, surface)
        for user, packed in snapshot_rows(snapshot, bytes(32)):
            facts = Facts(snapshot.schema.unpack(packed), snapshot.as_of)
            request = Request("d", user, surface.name, snapshot.as_of, context)
            values = knowledge.values(request, facts)
            drops = [drop for drop in plan.screen(request, facts, values).drops if drop[0] in STAGES]
            for offer in catalog.offers_on(surface.name):
                drop = next((drop for drop in drops if drop[2] & plan.bits[offer.name]), None)
                if drop is None:
                    found[surface.name, offer.name, "left"] += 1
                elif drop[0] is Stage.ELIGIBLE:
                    clauses = enumerate(conjuncts(offer.eligible))
                    first = next(n for n, clause in clauses if not holds(clause, values, request.now))
                    found[surface.name, offer.name, drop[0], first] += 1
                else:
                    found[surface.name, offer.name, drop[0], plan.rules[drop[1]].name] += 1
    return found


def by_reach(catalog: Catalog, snapshot: Snapshot, context: Mapping[str, Value]) -> Mapping[tuple, int]:
    found: Counter[tuple] = Counter()
    for one in reach(catalog, snapshot, context=context):
        found[one.surface, one.offer, "left"] += one.eligible
        for position, drop in enumerate(one.dropped):
            stage = drop.hurdle.stage
            rule = position if stage is Stage.ELIGIBLE else drop.hurdle.rule
            found[one.surface, one.offer, stage, rule] += drop.users
        assert one.eligible + sum(drop.users for drop in one.dropped) == one.users == snapshot.rows
    return +found


def random_values(schema: Schema, random: Random) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for spec in schema.specs:
        if random.random() < 0.85:
            match spec.type:
                case FeatureType.BOOL:
                    found[spec.name] = random.random() < 0.5
                case FeatureType.INT:
                    found[spec.name] = random.choice((0, 1, 3, 7, 20, 40, 700))
                case FeatureType.FLOAT:
                    found[spec.name] = random.choice((0.0, 0.1, 0.3, random.random(), 600.0))
                case FeatureType.ENUM:
                    found[spec.name] = random.choice(spec.values)
                case FeatureType.SET:
                    found[spec.name] = frozenset(name for name in spec.values if random.random() < 0.3)
    return found


@pytest.mark.parametrize("context", [{}, {"device": "tv"}, {"device": "phone", "country": "SE"}])
def test_reach_of_the_sample_catalog_counts_what_single_decisions_find(snapshot_of, context):
    catalog, random = load_catalog(read_catalog_files(SAMPLE)), Random(4)
    schema = Schema.of(catalog.features)
    snapshot = snapshot_of(schema, [random_values(schema, random) for _ in range(190)])
    assert by_reach(catalog, snapshot, context) == +by_single_decisions(catalog, snapshot, context)


FEATURES = (
    FeatureSpec("tier", FeatureType.ENUM, ("free", "premium"), blocks_if_missing=True),
    FeatureSpec("share", FeatureType.FLOAT),
    FeatureSpec("plays", FeatureType.INT, default=3, max_age=1.0),
    FeatureSpec("joined", FeatureType.TIME),
    FeatureSpec("addons", FeatureType.SET, ("hifi", "books")),
    FeatureSpec("gone", FeatureType.BOOL),
    FeatureSpec("device", FeatureType.ENUM, ("phone", "tv"), from_context=True),
    FeatureSpec("app", FeatureType.TEXT, from_context=True),
)


def catalog_of(offers, guards=(), invariants=(), specs=FEATURES) -> Catalog:
    """Offers by name with their conditions, all of group "g" on "home"."""
    return Catalog(
        "h",
        features={spec.name: spec for spec in specs},
        surfaces={"home": Surface("home")},
        offers={name: Offer(name, "pm", "g", ("home",), eligible=eligible) for name, eligible in offers.items()},
        guards=tuple(guards),
        invariants=tuple(invariants),
    )


def eligible(catalog: Catalog, snapshot: Snapshot, context: Mapping[str, Value] | None = None) -> dict[str, int]:
    return {one.offer: one.eligible for one in reach(catalog, snapshot, context=context)}


def test_numbers_and_times_are_as_exact_as_servers_hold_them(snapshot_of):
    now = AS_OF.timestamp()
    catalog = catalog_of(
        {
            "at_most_a_tenth": Test("share", Op.MAX, 0.1),
            "at_least_a_tenth": Test("share", Op.MIN, 0.1),
            "big": Test("plays", Op.IS, (16_777_216,)),
            "plays": Test("plays", Op.PRESENT),
            "young": Test("joined", Op.WITHIN, 3600.0),
            "share_known": Test("share", Op.PRESENT),
        }
    )
    users = [
        {"share": 0.1, "plays": 16_777_217, "joined": now - 3600.0},
        {"share": 1e300, "plays": -(2**62), "joined": now - 3599.0},
        {"share": -0.5, "joined": now - 3500.0},
        {"joined": now - 86_400 * 365 * 40},
    ]
    snapshot = snapshot_of(Schema.of(FEATURES), users)
    assert by_reach(catalog, snapshot, {}) == +by_single_decisions(catalog, snapshot, {})
    assert eligible(catalog, snapshot) == {
        "at_most_a_tenth": 1,  # 0.1 in float32 is a little more than 0.1
        "at_least_a_tenth": 1,
        "big": 1,
        "plays": 4,  # by its default
        "young": 1,  # in whole minutes
        "share_known": 2,
    }


def test_a_set_that_is_known_of_nobody_in_one_part_is_no_obstacle(snapshot_of):
    catalog = catalog_of({"sells": Test("addons", Op.LACKS, ("hifi",))})
    users: list[dict[str, Value]] = [{} for _ in range(40)] + [{"addons": frozenset()}, {"addons": frozenset({"hifi"})}]
    assert eligible(catalog, snapshot_of(Schema.of(FEATURES), users)) == {"sells": 1}


def test_a_value_that_the_catalog_no_longer_declares_counts_as_missing(snapshot_of):
    older = [FeatureSpec("tier", FeatureType.ENUM, ("free", "premium", "gold")), *FEATURES[1:]]
    snapshot = snapshot_of(Schema.of(older), [{"tier": "gold"}, {"tier": "premium"}])
    assert eligible(catalog_of({"upgrade": Test("tier", Op.IS_NOT, ("free",))}), snapshot) == {"upgrade": 1}


def test_the_first_clause_that_fails_in_the_order_of_evaluation_takes_the_user(snapshot_of):
    catalog = catalog_of(
        {"offer": AllOf((Test("share", Op.MIN, 0.5), AllOf((Test("gone", Op.IS, (False,)),))))},
        guards=[Guard("known_tier", Scope(), blocks=Test("tier", Op.IS, ("premium",)))],
        invariants=[Invariant("no_books", Test("addons", Op.HAS, ("books",)), Scope())],
    )
    good: dict[str, Value] = {"share": 1.0, "gone": False, "tier": "free"}
    users = [
        good,
        {**good, "share": 0.1, "gone": True},
        {**good, "gone": None, "tier": "premium"},
        {**good, "addons": frozenset({"books"}), "tier": None},
        {**good, "tier": None},
        {**good, "tier": "premium"},
    ]
    [one] = reach(catalog, snapshot_of(Schema.of(FEATURES), users))
    assert (one.eligible, one.users) == (1, 6)
    assert [(drop.hurdle.stage, drop.hurdle.words, drop.users) for drop in one.dropped] == [
        (Stage.ELIGIBLE, "share is at least 0.5", 1),
        (Stage.ELIGIBLE, "gone is false", 1),
        (Stage.INVARIANT, "no_books: never where addons has books", 1),
        (Stage.GUARD, "known_tier: only where tier is known", 1),
        (Stage.GUARD, "known_tier: blocked where tier is premium", 1),
    ]


def test_an_offer_that_hangs_on_the_request_says_so_and_how_far_it_may_reach(snapshot_of):
    catalog = catalog_of(
        {
            "screens": AllOf((Test("device", Op.IS, ("phone",)), Test("share", Op.MIN, 0.5))),
            "either": AnyOf((Test("app", Op.VERSION_MIN, "8.9"), Test("share", Op.MIN, 0.5))),
            "anyone": None,
        },
        guards=[Guard("no_tv", Scope(only_offers=frozenset({"anyone"})), blocks=Test("device", Op.IS, ("tv",)))],
    )
    snapshot = snapshot_of(Schema.of(FEATURES), [{"share": 0.7}, {"share": 0.2}, {}])
    found = {one.offer: (one.eligible, one.hangs_on, one.at_most) for one in reach(catalog, snapshot)}
    assert found == {"screens": (0, ("device",), 1), "either": (1, ("app",), 3), "anyone": (3, ("device",), 3)}
    given = {one.offer: one for one in reach(catalog, snapshot, context={"device": "tv", "app": "8.10"})}
    assert {name: (one.eligible, one.hangs_on) for name, one in given.items()} == {
        "screens": (0, ()),
        "either": (3, ()),
        "anyone": (0, ()),
    }


def test_a_live_window_is_told_and_changes_no_count(snapshot_of):
    base = catalog_of({})
    offer = Offer("past", "pm", "g", ("home",), live_until=AS_OF.timestamp())
    catalog = Catalog("h", features=base.features, surfaces=base.surfaces, offers={"past": offer})
    [one] = reach(catalog, snapshot_of(Schema.of(FEATURES), [{}]))
    assert (one.eligible, one.live) == (1, False)


def test_a_snapshot_that_does_not_fit_the_catalog_is_refused_with_the_feature(snapshot_of):
    snapshot = snapshot_of(Schema.of(FEATURES), [{}])
    with pytest.raises(UserError, match="has no streak, which the catalog declares"):
        reach(catalog_of({}, specs=[*FEATURES, FeatureSpec("streak", FeatureType.INT)]), snapshot)
    with pytest.raises(UserError, match=r"declares share as int, the snapshot .* has it as float"):
        reach(catalog_of({}, specs=[FeatureSpec("share", FeatureType.INT)]), snapshot)
    with pytest.raises(UserError, match=r"no surface paywal\. It has: home"):
        reach(catalog_of({}), snapshot, surface="paywal")


def test_where_no_offer_competes_there_is_no_reach_to_tell(snapshot_of):
    assert reach(catalog_of({}), snapshot_of(Schema.of(FEATURES), [{}])) == ()

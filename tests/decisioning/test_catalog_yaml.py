"""YAML to Catalog: what the language means, and every error with its place and what to do about it."""

from itertools import accumulate
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.catalog import DAY, Catalog, Factor
from decisioning.catalog_yaml import CatalogError, load_catalog
from decisioning.conditions import AllOf, AnyOf, Op, Test, holds
from decisioning.domain import Place
from decisioning.experiments import Assignment
from decisioning.rules import Cap, CapBy, Same, Scope

BASE = """\
features:
  tier: {type: enum, values: [free, basic, premium]}
  country: {type: enum, values: [SE, GB, US, NO], from: context}
  sessions_7d: {type: int, default: 0, max_age: 36h}
  minutes: {type: float}
  student: {type: bool}
  addons: {type: set, values: [hifi, books]}
  joined: {type: time}
  app: {type: text, from: context}
  timezone: {type: text, from: context}
  consent: {type: bool, if_missing: block}
audiences:
  engaged: {tier: free, any: [{sessions_7d: {min: 3}}, {student: true}]}
groups:
  upgrade: {converts_on: convert, within: 14d}
  free_stuff: {}
  x: {}
surfaces:
  banner: {slots: 1, fallback: mix, deadline: 30ms}
  shelf: {slots: 4, fallback: null}
offers:
  mix: {owner: a, group: free_stuff, surfaces: []}
  annual: {owner: a, group: upgrade, surfaces: [banner]}
"""


def load(*texts: str) -> Catalog:
    """The base catalog with other files next to it."""
    files = {f"{number}.yaml": dedent(text).encode() for number, text in enumerate(texts)}
    return load_catalog({"base.yaml": BASE.encode(), **files})


def offer(eligible: str, rest: str = "") -> str:
    return f"offers: {{tested: {{owner: a, group: x, surfaces: [shelf], eligible: {eligible}{rest}}}}}\n"


def eligible(text: str):
    return load(offer(text)).offers["tested"].eligible


def problems(*texts: str) -> list[str]:
    """The first line of each problem, without the place."""
    with pytest.raises(CatalogError) as caught:
        load(*texts)
    return [str(problem).splitlines()[0].split(": ", 1)[-1] for problem in caught.value.problems]


def only_problem(*texts: str) -> str:
    found = problems(*texts)
    assert len(found) == 1, found
    return found[0]


# --- How errors look --------------------------------------------------------------------------------------------------


def test_an_error_says_where_what_and_the_nearest_right_name_and_shows_the_line():
    text = "offers:\n  tested:\n    owner: a\n    group: x\n    surfaces: [shelf]\n    eligible:\n      contry: US\n"
    with pytest.raises(CatalogError) as caught:
        load_catalog({"base.yaml": BASE.encode(), "offers/t.yaml": text.encode()})
    assert str(caught.value).splitlines() == [
        "The catalog has one problem:",
        'offers/t.yaml:7:7: offers.tested.eligible.contry: unknown feature "contry". Did you mean "country"?',
        "          contry: US",
        "          ^",
    ]


def test_everything_that_is_wrong_is_reported_at_once_in_the_order_of_places():
    text = """\
    offers:
      tested:
        group: x
        surfaces: [shelv]
        eligible: {tier: gold, any: [{sessions_7d: {min: x}}, {nope: 1}]}
        colour: red
    caps: {c: {max: 3, per: 7 days, by: offers}}
    """
    assert len(problems(text)) == 8


def test_a_broken_offer_is_not_an_unknown_one_elsewhere():
    text = "offers: {tested: {owner: a, group: x, surfaces: [shelf], priority: high}}\n"
    caps = "caps: {c: {max: 3, per: 7d, by: offer, only: {offer: tested}}}\n"
    assert only_problem(text, caps) == 'offers.tested.priority: needs a whole number, got "high".'


# --- YAML that is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: &x 1\nb: *x\n", "anchors and aliases"),
        (b"caps: !!python/object:x {}\n", "tags such as"),
        (b"&k caps: {}\n", "bad.yaml:1:1: anchors and aliases"),
        (b"caps:\n  &k c: {max: 1, per: 1d, by: user}\n", "bad.yaml:2:3: caps: anchors and aliases"),
        (b"caps: {*k : 1}\n", "bad.yaml:1:8: caps: anchors and aliases"),
        (b"!!python/object:os.system caps: {}\n", "bad.yaml:1:1: tags such as"),
        (b"{!!str caps: {}}\n", "tags such as"),
        (b"caps:\n\tx: 1\n", "there is a tab"),
        (b"caps: \xff\n", "not UTF-8"),
        (b"caps: {x: [}\n", "this is not YAML"),
        (b"caps: \x01\n", "this is not YAML"),
        (b"caps: {}\n---\ncaps: {}\n", "a second document"),
        (b"caps: " + b"[" * 30 + b"]" * 30, "nested more than 20 deep"),
        (b"#" + b"x" * 2_000_000, "more than the 2,000,000 that are allowed"),
        (b"? [a]\n: 1\n", "a key has to be a name"),
        (b"- a\n", "needs sections"),
        (b"caps: {c: {max: 1, max: 2, per: 1d, by: user}}\n", '"max" is given twice'),
        (b"cap: {}\n", 'unknown section "cap". Did you mean "caps"?'),
        (b"caps: []\n", "needs a mapping by name, got a list"),
        (b"caps: {'a.b': {max: 1, per: 1d, by: user}}\n", "can't be a name"),
    ],
)
def test_what_the_language_does_not_have_is_refused_with_a_clear_error(content, message):
    with pytest.raises(CatalogError) as caught:
        load_catalog({"base.yaml": BASE.encode(), "bad.yaml": content})
    assert message in str(caught.value)
    assert all(problem.place.file == "bad.yaml" for problem in caught.value.problems)


def test_the_same_name_in_two_files_is_an_error_that_names_both_places():
    with pytest.raises(CatalogError, match=r'(?s)1\.yaml:1:10: offers\.x: "x" is given twice, first at 0\.yaml:1'):
        load(*["offers: {x: {owner: a, group: x, surfaces: [shelf]}}"] * 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the catalog has no offers. Write offers: in any file of it."),
        (b"# to be written", "the catalog has no surfaces. Write surfaces: in any file of it."),
        (b"surfaces: {shelf: {fallback: null}}\noffers:\n", "the catalog has no offers."),
        (b"offers: {mix: {owner: a, group: x, surfaces: [shelf]}}", 'unknown surface "shelf"'),
    ],
)
def test_a_catalog_that_shows_nothing_anywhere_is_none(content, message):
    with pytest.raises(CatalogError) as caught:
        load_catalog({"empty.yaml": content})
    assert message in str(caught.value)


def test_an_empty_file_next_to_others_is_none_the_worse():
    assert load("", "# later", "caps:\n").offers.keys() == {"mix", "annual"}


EMPTY = [
    ("offers: {x: {owner: a, group: x, surfaces: [shelf], eligible: }}", "offers.x.eligible"),
    ("offers: {x: {owner: a, group: x, surfaces: [shelf], eligible: null}}", "offers.x.eligible"),
    ("offers: {x: {owner: , group: x, surfaces: [shelf]}}", "offers.x.owner"),
    ("offers: {x: {owner: a, group: x, surfaces: [shelf], live: {until: ~}}}", "offers.x.live.until"),
    ("offers: {x: {owner: a, group: x, surfaces: [shelf], attributes: {price: }}}", "offers.x.attributes.price"),
    ("levers: {l: {only: , times: 2, until: 2027-01-01, owner: a, why: b}}", "levers.l.only"),
    ("caps: {c: {max: 1, per: 1d, by: user, except: {group: }}}", "caps.c.except.group"),
    ("guards: {g: {require: }}", "guards.g.require"),
    ("invariants: {i: {when: , never: {group: x}}}", "invariants.i.when"),
    ("invariants: {i: {when: {tier: free}, never: }}", "invariants.i.never"),
    ("context_weights: {w: {when: , times: 2, owner: a, why: b}}", "context_weights.w.when"),
    ("experiments: {e: {layer: l, arms: }}", "experiments.e.arms"),
    ("experiments: {e: {layer: l, arms: {a: {percent: 100, set: }}}}", "experiments.e.arms.a.set"),
    ("experiments: {e: {layer: l, audience: , arms: {a: {percent: 100}}}}", "experiments.e.audience"),
    ("tests: [{name: t, on: shelf, expect: {never: }}]", "tests[0].expect.never"),
    ("tests: [{name: t, on: shelf, expect: }]", "tests[0].expect"),
    ("tests: [{name: t, on: shelf, given: {tier: }, expect: {never: [mix]}}]", "tests[0].given.tier"),
    ("features: {f: {type: enum, values: }}", "features.f.values"),
]


@pytest.mark.parametrize(("text", "path"), EMPTY)
def test_a_key_without_a_value_is_an_error(text, path):
    key = path.rsplit(".", 1)[-1]
    assert only_problem(text) == f'{path}: "{key}" has no value. Give it a value, or take the key away.'


def test_a_surface_says_null_where_it_has_no_fallback():
    assert load("surfaces: {wall: {fallback: null}, side: {fallback: ~}}").surfaces["wall"].fallback is None
    found = only_problem("surfaces: {wall: {fallback: }}")
    assert found == 'surfaces.wall.fallback: "fallback" has no value. Name one, or say null.'


def test_no_files_are_no_catalog():
    with pytest.raises(CatalogError, match="there are no files"):
        load_catalog({})


# --- Types come from the declared feature -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("{country: NO}", ("country", Op.IS, ("NO",))),
        ("{country: [NO, SE]}", ("country", Op.IS, ("NO", "SE"))),
        ("{country: {not: NO}}", ("country", Op.IS_NOT, ("NO",))),
        ("{student: true}", ("student", Op.IS, (True,))),
        ("{sessions_7d: 3}", ("sessions_7d", Op.IS, (3,))),
        ("{sessions_7d: {min: 3}}", ("sessions_7d", Op.MIN, 3)),
        ("{minutes: {below: 3}}", ("minutes", Op.BELOW, 3.0)),
        ("{addons: {has: hifi}}", ("addons", Op.HAS, ("hifi",))),
        ("{addons: {has_any: [hifi, books]}}", ("addons", Op.HAS_ANY, ("hifi", "books"))),
        ("{joined: {older_than: 36h}}", ("joined", Op.OLDER_THAN, 129_600.0)),
        ("{joined: {min: 2026-12-01}}", ("joined", Op.MIN, 1_796_083_200.0)),
        ("{app: {version_min: 8.10}}", ("app", Op.VERSION_MIN, "8.10")),
        ("{app: 8.10}", ("app", Op.IS, ("8.10",))),
        ("{tier: {missing: true}}", ("tier", Op.MISSING, None)),
        ("{tier: {missing: false}}", ("tier", Op.PRESENT, None)),
        ("{none: [{tier: free}]}", ("tier", Op.IS_NOT, ("free",))),
    ],
)
def test_types_come_from_the_feature_and_never_from_yaml(text, meaning):
    condition = eligible(text)
    if isinstance(condition, AllOf):
        (condition,) = condition.children
    assert (condition.feature, condition.op, condition.value) == meaning


def test_conditions_combine():
    condition = eligible("{audience: engaged, none: [{country: SE}], minutes: {min: 1, max: 2}}")
    known = {"tier": "free", "sessions_7d": 3, "country": "GB", "minutes": 1.5}
    assert holds(condition, known, 0)
    for change in ({"tier": "basic"}, {"sessions_7d": 2}, {"country": "SE"}, {"country": None}, {"minutes": 2.5}):
        assert not holds(condition, known | change, 0)


def test_several_audiences_mean_any_of_them():
    texts = "audiences: {payers: {tier: premium}}", offer("{audience: [engaged, payers]}")
    assert isinstance(load(*texts).offers["tested"].eligible, AnyOf)


def test_a_clause_knows_its_line():
    text = "offers:\n  t:\n    owner: a\n    group: x\n    surfaces: [shelf]\n    eligible:\n      tier: free\n"
    condition = load(text).offers["t"].eligible
    assert condition == Test("tier", Op.IS, ("free",))
    assert condition.place == Place("0.yaml", 7, 13)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{tier: gold}", 'eligible.tier: unknown tier value "gold". Known: basic, free, premium.'),
        ("{tier: fre}", 'eligible.tier: unknown tier value "fre". Did you mean "free"?'),
        ("{tier: []}", "eligible.tier: the list is empty."),
        ("{tier: [free, free]}", 'eligible.tier[1]: "free" is given twice. Keep one of them.'),
        ("{tier: {min: free}}", 'eligible.tier.min: enum features have no operator "min". Known: missing, not.'),
        ("{student: yes}", 'eligible.student: needs true or false, got "yes".'),
        ("{sessions_7d: {min: 2.5}}", 'eligible.sessions_7d.min: needs a whole number, got "2.5".'),
        ("{minutes: {min: .nan}}", 'eligible.minutes.min: needs a number, got ".nan".'),
        ("{minutes: {min: 1e999}}", 'eligible.minutes.min: needs a number, got "1e999".'),
        ("{sessions_7d: {mim: 2}}", 'int features have no operator "mim". Did you mean "min"?'),
        ("{sessions_7d: {}}", "eligible.sessions_7d: says nothing."),
        ("{addons: hifi}", "eligible.addons: addons is a set."),
        ("{joined: {within: 7}}", 'within: needs a duration, got "7".'),
        ("{joined: {min: soon}}", 'min: needs a date, got "soon".'),
        ("{app: {version_min: new}}", 'version_min: needs a version, got "new".'),
        ("{audience: engagd}", 'eligible.audience: unknown audience "engagd". Did you mean "engaged"?'),
        ("{any: {tier: free}}", 'eligible.any: "any" needs a list of conditions, got a mapping.'),
        ("{any: []}", 'eligible.any: "any" needs a list of conditions'),
        ("free", "eligible: needs a mapping of conditions"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text, message):
    assert message in only_problem(offer(text))


# --- Contradictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{sessions_7d: {min: 5, max: 3}}",
        "{sessions_7d: {above: 3, below: 4}}",
        "{minutes: {min: 3, below: 3}}",
        "{joined: {within: 7d, older_than: 8d}}",
        "{addons: {has: hifi, lacks: [hifi, books]}}",
        "{addons: {has_any: [hifi, books], lacks: [hifi, books]}}",
        "{app: {version_min: 9.0, version_below: 8.5}}",
        "{tier: {not: [free, basic, premium]}}",
        "{sessions_7d: {missing: true}, student: true}",  # it has a default, so it is never missing
        "{tier: free, none: [{tier: [free, basic]}]}",
        "{audience: engaged, sessions_7d: {max: 1}, student: false}",
        "{tier: premium, any: [{tier: free}, {tier: basic}]}",
        "{tier: {missing: true}, any: [{tier: free}, {tier: {not: free}}]}",
        "{any: [{student: true}, {all: [{sessions_7d: {min: 5}}, {sessions_7d: {max: 3}}]}]}",
        "{any: [{student: true}, {tier: free, none: [{tier: free}]}]}",
        "{none: [{student: true}, {tier: free, none: [{tier: free}]}]}",
        "{any: [{student: true}, {tier: {not: [free, basic, premium]}}]}",
    ],
)
def test_a_condition_that_nobody_can_meet_is_an_error(text):
    found = only_problem(offer(text))
    assert "no value can do" in found or "nobody can meet it" in found


@pytest.mark.parametrize(
    "text",
    [
        "{sessions_7d: {min: 3, max: 3}}",
        "{minutes: {above: 3, below: 3.0001}}",
        "{addons: {has_any: [hifi, books], lacks: hifi}}",
        "{app: {version_min: 8.5, version_below: 9}}",
        "{tier: {missing: true}, any: [{tier: free}, {student: true}]}",
        "{audience: engaged, sessions_7d: {max: 1}}",
    ],
)
def test_a_condition_that_somebody_can_meet_is_none(text):
    assert eligible(text) is not None


NOBODY = "audiences: {nobody: {all: [{sessions_7d: {min: 5}}, {sessions_7d: {max: 3}}]}}"


@pytest.mark.parametrize(
    "more", ["", offer("{any: [{audience: nobody}, {student: true}]}"), offer("{none: [{audience: nobody}]}")]
)
def test_an_audience_that_nobody_is_in_is_one_error_wherever_it_is_used(more):
    assert only_problem(NOBODY, more) == "audiences.nobody: contradicts itself: nobody can meet it."


def test_audiences_in_a_circle_are_told_as_one():
    text = "audiences: {a: {audience: b}, b: {all: [{audience: c}]}, c: {audience: a}}"
    assert "audiences go in a circle: a → b → c → a" in only_problem(text)


def test_audiences_of_audiences_can_not_grow_without_bound():
    lines = ["audiences:", "  a0: {any: [{tier: free}, {student: true}]}"]
    lines += [f"  a{n}: {{any: [{', '.join([f'{{audience: a{n - 1}}}'] * 10)}]}}" for n in range(1, 18)]
    assert "has 2000 clauses with its audiences, more than 200" in only_problem("\n".join(lines))


# --- Sections ---------------------------------------------------------------------------------------------------------


def test_rules_mean_what_they_say():
    catalog = load(
        """\
        guards:
          ok: {require: {consent: true}, only: {offer: annual}}
          pay: {block_if: {student: true}, only: {surface: shelf}, except: {group: upgrade}}
        suppress:
          tired: {after: {impression: 3, within: 7d}, same: group, for: 10d}
          dismissed: {after: dismiss, for: 2w}
        caps: {c: {max: 3, per: 7d, by: surface, counts: click, only: {offer: [annual]}}}
        budgets: {b: {offers: annual, impressions: 10, from: 2026-01-01, until: 2026-12-31, pace: even, hard: false}}
        quiet_hours: {night: {surfaces: [shelf], from: 22:00, to: "07:00", timezone: Europe/Stockholm}}
        exclusive: {one: {offers: [annual, mix], for: 30d}}
        levers: {push: {only: {offer: annual}, times: 1.3, until: 2026-12-27, owner: pm, why: winter}}
        lever_bounds: {min: 0.5, max: 2}
        context_weights: {tv: {when: {country: SE}, only: {offer: annual}, times: 0.5, owner: pm, why: small}}
        holdouts: {h: {percent: 2, salt: s, show: best_single_offer}}
        ablations: {percent: 1.5, factors: [levers, model]}
        exploration: {uniform: 0.1, challenger: 0.05}
        currency: SEK
        """
    )
    assert [guard.name for guard in catalog.guards] == ["ok", "pay"]
    assert catalog.guards[0].scope == Scope(only_offers=frozenset({"annual"}))
    assert catalog.guards[1].scope == Scope(only_surfaces=frozenset({"shelf"}), except_groups=frozenset({"upgrade"}))
    dismissed, tired = catalog.suppressions
    assert (tired.after, tired.count, tired.within, tired.same, tired.lasts) == (
        "impression", 3, 7 * DAY, Same.GROUP, 10 * DAY,
    )  # fmt: skip
    assert (dismissed.after, dismissed.count, dismissed.same, dismissed.lasts) == ("dismiss", 1, Same.OFFER, 14 * DAY)
    scope = Scope(only_offers=frozenset({"annual"}))
    assert catalog.caps == (Cap("c", 3, 7 * DAY, CapBy.SURFACE, "click", scope, catalog.caps[0].place),)
    assert catalog.budgets[0].until == 1_798_761_600.0  # the end of that day, UTC
    assert (catalog.budgets[0].even, catalog.budgets[0].hard) == (True, False)
    assert (catalog.quiet_hours[0].start, catalog.quiet_hours[0].end) == (22 * 60, 7 * 60)
    assert catalog.exclusives[0].offers == {"annual", "mix"}
    assert (catalog.levers[0].times, catalog.lever_min, catalog.lever_max) == (1.3, 0.5, 2.0)
    (weight,) = catalog.context_weights
    assert (weight.when.feature, weight.times, weight.owner, weight.why) == ("country", 0.5, "pm", "small")
    assert weight.scope == scope
    assert (catalog.ablations.percent, catalog.ablations.factors) == (1.5, (Factor.MODEL, Factor.LEVERS))
    assert catalog.holdouts[0].percent == 2
    assert (catalog.exploration.uniform, catalog.exploration.challenger) == (0.1, 0.05)
    assert catalog.currency == "SEK"


def test_an_offer_means_what_it_says():
    found = load(
        """\
        surfaces: {wall: {slots: 3, fallback: null, diversity: group, sticky: 1d, min_score: 0.1, allow_nothing: true}}
        offers:
          winter:
            owner: pm
            group: upgrade
            surfaces: wall
            live: {from: 2026-12-01, until: 2027-01-06}
            score: {model: upsell, value: 38.4, cost: 2, prior: 0.02}
            attributes: {price: 109.0, kind: annual, code: "7"}
            creative: {key: winter, locales: [en, sv]}
            priority: 2
        """
    )
    winter, wall = found.offers["winter"], found.surfaces["wall"]
    assert (winter.live_from, winter.live_until) == (1_796_083_200.0, 1_799_280_000.0)
    assert (winter.score.model, winter.score.net, winter.score.prior) == ("upsell", 36.4, 0.02)
    assert winter.attributes == {"price": 109.0, "kind": "annual", "code": "7"}
    assert winter.creative.localised("sv-SE") == "winter.sv"
    assert (winter.surfaces, winter.priority) == (("wall",), 2)
    assert (wall.max_per_group, wall.sticky, wall.min_score, wall.allow_nothing) == (1, DAY, 0.1, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features: {x: {type: number}}", 'unknown type "number"'),
        ("features: {x: {type: enum}}", "enum feature needs its values"),
        ("features: {x: {type: text}}", "text is for what clients send"),
        ("features: {any: {type: int}}", '"any" means something in conditions'),
        ("features: {x: {type: int, default: many}}", 'features.x.default: needs a whole number, got "many"'),
        ("features: {x: {type: int, default: 0, if_missing: block}}", "with a default it is never missing"),
        ("surfaces: {x: {slots: 2}}", '"fallback" is missing'),
        ("surfaces: {x: {fallback: mixx}}", 'unknown offer "mixx". Did you mean "mix"?'),
        ("surfaces: {x: {fallback: null, slots: 0}}", "is 0, needs at least 1"),
        ("offers: {nothing: {owner: a, group: x, surfaces: [shelf]}}", "what showing no offer is called"),
        ("offers: {x: {owner: a, group: x, surfaces: []}}", "nobody can ever see it"),
        (
            "offers: {x: {owner: a, group: upgrad, surfaces: [shelf]}}",
            'unknown group "upgrad". Did you mean "upgrade"?',
        ),
        ("offers: {x: {group: x, surfaces: [shelf]}}", '"owner" is missing'),
        (offer("{tier: free}", ", live: {from: 2026-02-01, until: 2026-01-01}"), "it ends before it starts"),
        (offer("{tier: free}", ", score: {value: 1, cost: 2}"), "every conversion would lose money"),
        (offer("{tier: free}", ", score: {prior: 2}"), "is 2, needs at most 1"),
        ("guards: {x: {only: {offer: mix}}}", 'a guard needs "require" or "block_if"'),
        ("guards: {x: {block_if: {tier: free}, only: {groups: upgrade}}}", 'unknown key "groups"'),
        ("guards: {x: {block_if: {tier: free}, only: {group: upgrad}}}", 'unknown group "upgrad"'),
        ("suppress: {x: {after: dismis, for: 1d}}", 'unknown event "dismis". Did you mean "dismiss"?'),
        ("suppress: {x: {after: {impression: 3}, for: 1d}}", "3 events need a time"),
        ("suppress: {x: {after: dismiss}}", '"for" is missing'),
        ("caps: {x: {max: 3, per: 7, by: offer}}", 'needs a duration, got "7"'),
        ("budgets: {x: {offers: [annual], impressions: 5, pace: even}}", "an even pace needs a beginning and an end"),
        ("quiet_hours: {x: {surfaces: [shelf], from: 22:00, to: 22:00}}", "no time at all"),
        ("quiet_hours: {x: {surfaces: [shelf], from: 25:00, to: 22:00}}", "needs a time of day"),
        ("quiet_hours: {x: {surfaces: [shelf], from: 2:00, to: 3:00, timezone: Mars}}", 'unknown time zone "Mars"'),
        ("exclusive: {x: {offers: [annual], for: 1d}}", "one offer alone excludes nothing"),
        ("offers: {x: {owner: a, group: x, surfaces: [shelf], score: {value: 1e308}}}", "needs at most 1e+09"),
        ("offers: {x: {owner: a, group: x, surfaces: [shelf], score: {cost: 1000000001}}}", "needs at most 1e+09"),
        (
            "offers: {x: {owner: a, group: x, surfaces: [shelf], score: {model: ../../etc/passwd}}}",
            'offers.x.score.model: "../../etc/passwd" can\'t be a name. Use letters, digits, _ and -, at most 80.',
        ),
        ("experiments: {x: {layer: a|b, arms: {a: {percent: 100}}}}", 'experiments.x.layer: "a|b" can\'t be a name'),
        ('experiments: {x: {layer: l, arms: {"a|b": {percent: 100}}}}', '"a|b" can\'t be a name'),
        ("levers: {x: {times: 2, until: 2026-01-01, owner: a}}", '"why" is missing'),
        ("levers: {x: {times: 2, until: 2026-01-01, why: a}}", '"owner" is missing'),
        ("levers: {x: {times: 2, owner: a, why: a}}", '"until" is missing. A lever needs an end'),
        ("levers: {x: {times: 9, until: 2026-01-01, owner: a, why: a}}", "is 9, needs at most 4"),
        ("lever_bounds: {min: 2}", "is 2, needs at most 1"),
        ("arbitration: {order: [score, priority]}", "ranked by priority, then score"),
        ("holdouts: {x: {percent: 101, salt: s}}", "is 101, needs at most 100"),
        ("holdouts: {x: {percent: 1, salt: s, show: nobody}}", 'unknown policy "nobody"'),
        ("exploration: {uniform: 0.7, challenger: 0.7}", "add up to 1.4, more than 1"),
        ("context_weights: {x: {times: 2, owner: a, why: b}}", '"when" is missing. A condition; a weight that always'),
        ("context_weights: {x: {when: {tier: gold}, times: 2, owner: a, why: b}}", 'unknown tier value "gold"'),
        ("context_weights: {x: {when: {tier: free}, times: 0, owner: a, why: b}}", "is 0, needs more than 0"),
        ("context_weights: {x: {when: {tier: free}, times: 2, owner: a}}", '"why" is missing'),
        ("context_weights: {x: {when: {tier: free}, times: 2, why: a}}", '"owner" is missing'),
        ("context_weights: {x: {when: {tier: free}, times: 2, owner: a, why: b, until: 2027-01-01}}", 'key "until"'),
        ("ablations: {factors: [model]}", '"percent" is missing. Of users, for each factor; such as 1.'),
        ("ablations: {percent: 26}", "is 26, needs at most 25"),
        ("ablations: {percent: 1, factors: [price]}", 'unknown factor "price". Known: context, levers, model, value'),
        ("ablations: {percent: 1, factors: [model, model]}", '"model" is given twice'),
        ("experiments: {ablation: {layer: l, arms: {a: {percent: 100}}}}", "are called. Rename it."),
        ("caps: {x: {max: 3, per: 7d, by: offer, counts: decisions}}", 'event "decisions". Did you mean "decision"?'),
        ("suppress: {x: {after: decision, for: 1d}}", 'unknown event "decision"'),
    ],
)
def test_a_wrong_section_says_what_is_wrong(text, message):
    assert message in only_problem(text)


@pytest.mark.parametrize(
    "declared",
    ["", "features: {timezone: {type: enum, values: [UTC], from: context}}\n"],
)
def test_quiet_hours_in_the_users_time_need_a_feature_that_tells_it(declared):
    small = "surfaces: {home: {fallback: null}}\noffers: {a: {owner: a, group: g, surfaces: [home]}}\n"
    for zone in ("", ", timezone: user"):
        quiet = f"quiet_hours: {{q: {{surfaces: [home], from: 22:00, to: 7:00{zone}}}}}\n"
        with pytest.raises(CatalogError) as caught:
            load_catalog({"a.yaml": (declared + small + quiet).encode()})
        assert (
            "it goes by the user's time zone, which no feature tells. Declare features: {timezone: {type: text, from"
            in (str(caught.value))
        )
    with pytest.raises(CatalogError, match="The catalog has one problem"):
        load_catalog({"a.yaml": (declared + small + quiet.replace("user", "Mars")).encode()})
    named = small + quiet.replace("user", "Europe/Stockholm")
    assert load_catalog({"a.yaml": named.encode()}).quiet_hours[0].timezone == "Europe/Stockholm"


def test_groups_that_are_not_declared_are_plain_names_too():
    small = 'surfaces: {home: {fallback: null}}\noffers: {a: {owner: a, group: "g\\nh", surfaces: [home]}}\n'
    with pytest.raises(CatalogError, match=r'offers\.a\.group: "g\\nh" can\'t be a name'):
        load_catalog({"a.yaml": small.encode()})


def test_a_section_of_one_may_stand_in_one_file_only():
    assert '"currency" is given twice, first at 0.yaml:1' in only_problem("currency: EUR", "currency: SEK")


# --- Fallbacks, invariants, reach -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "rule"),
    [
        ("guards: {g: {block_if: {tier: free}}}", "guards.g"),
        ("quiet_hours: {q: {surfaces: [banner], from: 1:00, to: 2:00}}", "quiet_hours.q"),
        ("budgets: {b: {offers: [mix], impressions: 5}}", "budgets.b"),
        (
            "offers: {o: {owner: a, group: x, surfaces: [], eligible: {tier: free}}}\nsurfaces: {s: {fallback: o}}",
            "offers.o.eligible",
        ),
        (
            "offers: {o: {owner: a, group: x, surfaces: [], live: {until: 2026-01-01}}}\nsurfaces: {s: {fallback: o}}",
            "offers.o.live",
        ),
    ],
)
def test_a_fallback_that_can_be_filtered_away_is_an_error(rest, rule):
    assert f"can be filtered away by {rule}" in only_problem(rest)


@pytest.mark.parametrize(
    "limit",
    [
        "caps: {c: {max: 1, per: 1d, by: offer}}",
        "suppress: {s: {after: dismiss, for: 1d}}",
        "exclusive: {e: {offers: [usual, annual], for: 1d}}",
        "budgets: {b: {offers: [usual], impressions: 5, hard: false}}",
    ],
)
def test_a_limit_on_a_fallback_that_competes_as_well_is_an_error_and_on_a_mere_one_is_none(limit):
    wall = "surfaces: {wall: {fallback: usual}}"
    both, mere = (f"offers: {{usual: {{owner: a, group: x, surfaces: [{on}]}}}}" for on in ("wall", ""))
    assert 'surfaces.wall.fallback: the fallback "usual" can be filtered away by' in only_problem(both, wall, limit)
    assert load(mere, wall, limit).surfaces["wall"].fallback == "usual"


@pytest.mark.parametrize("surfaces", ["[]", "[shelf]", "[wall, shelf]"])
def test_an_invariant_filters_a_fallback_wherever_else_it_is_shown(surfaces):
    texts = (
        f"offers: {{usual: {{owner: a, group: x, surfaces: {surfaces}}}}}",
        "surfaces: {wall: {fallback: usual}}",
        "invariants: {never_there: {when: {tier: premium}, never: {surface: wall, group: x}}}",
    )
    assert 'the fallback "usual" can be filtered away by invariants.never_there.' in only_problem(*texts)
    assert load(*texts[:2]).surfaces["wall"].fallback == "usual"


INVARIANT = "invariants: {no_upsell: {when: {tier: premium}, never: {group: x}}}"


@pytest.mark.parametrize(
    "text", ["{tier: free}", "{tier: {not: premium}}", "{audience: engaged}", "{tier: {missing: true}}"]
)
def test_an_invariant_is_proved_from_eligibility(text):
    assert load(INVARIANT, offer(text)).invariants[0].name == "no_upsell"


@pytest.mark.parametrize(
    "text", ["{tier: [free, premium]}", "{student: true}", "{any: [{tier: free}, {student: true}]}"]
)
def test_an_invariant_that_eligibility_does_not_prove_is_an_error(text):
    found = only_problem(INVARIANT, offer(text))
    assert found.startswith("offers.tested.eligible: its eligibility lets users through for whom tier is premium.")
    assert "invariants.no_upsell (0.yaml:1) forbids it" in found


def test_no_rule_that_lets_an_offer_in_gets_past_an_invariant():
    forbidden = "invariants: {no_free_stuff: {when: {tier: premium}, never: {group: free_stuff}}}"
    assert 'the fallback "mix" can be filtered away by invariants.no_free_stuff.' in only_problem(forbidden)
    guard = "guards: {g: {block_if: {tier: premium}, only: {group: x}}}"
    assert "its eligibility lets users through" in only_problem(INVARIANT, guard, offer("{student: true}"))


def pigeons(holes: int) -> tuple[str, str]:
    """More pigeons than holes, and each wants a hole of its own: nobody can do it, and it is hard to see why."""
    features = ", ".join(f"hole{n}: {{type: int}}" for n in range(holes))
    wants = (", ".join(f"{{hole{n}: {pigeon}}}" for n in range(holes)) for pigeon in range(holes + 1))
    return f"features: {{{features}}}", f"{{all: [{', '.join(f'{{any: [{some}]}}' for some in wants)}]}}"


def test_what_can_not_be_proved_in_time_is_an_error_too():
    features, hard = pigeons(13)
    assert "has too many alternatives to check" in only_problem(features, offer(hard))


def test_an_offer_that_a_guard_makes_unreachable_is_an_error():
    guard = "guards: {g: {require: {tier: free}, only: {surface: shelf}}}"
    assert "nobody can ever see it: its eligibility contradicts g" in only_problem(guard, offer("{tier: premium}"))


# --- Experiments ------------------------------------------------------------------------------------------------------


def experiment(name: str, rest: str, arms: str = "{a: {percent: 50}, b: {percent: 50}}") -> str:
    return f"experiments: {{{name}: {{layer: l, {rest}, arms: {arms}}}}}"


def test_an_experiment_alone_in_its_layer_begins_at_the_first_user_unless_it_says_otherwise():
    catalog = load(experiment("a", "percent: 20"), experiment("b", "percent: 30, starts_at: 25").replace("l,", "m,"))
    assert {e.name: (e.starts_at, e.percent) for e in catalog.experiments} == {"a": (0, 20), "b": (25, 30)}


def seated(percents: list[int], rooms: list[int], order) -> list[str]:
    """Experiments of one layer, the first in `order` first: each has a percent, and room to grow to."""
    starts = dict(zip(order, accumulate((rooms[n] for n in order), initial=0), strict=False))
    return [experiment(f"e{n}", f"starts_at: {starts[n]}, percent: {percent}") for n, percent in enumerate(percents)]


@settings(max_examples=30)
@given(st.data())
def test_raising_the_percent_of_any_experiment_moves_nobody_of_any(data):
    rooms = data.draw(st.lists(st.integers(2, 20), min_size=2, max_size=5))
    percents = [data.draw(st.integers(1, room)) for room in rooms]
    order = data.draw(st.permutations(range(len(rooms))))
    grown = data.draw(st.sampled_from(range(len(rooms))))
    larger = percents.copy()
    larger[grown] = rooms[grown]
    texts = seated(percents, rooms, order)
    before = Assignment(load(*texts))
    after = Assignment(load(*data.draw(st.permutations(seated(larger, rooms, order)))))
    for user in map(str, range(300)):
        was, now = before.arms(user, -1), after.arms(user, -1)
        assert was.items() <= now.items()
        assert len(now) <= 1
        assert now.keys() - was.keys() <= {f"e{grown}"}


def test_two_experiments_of_a_layer_that_do_not_say_where_they_begin_are_an_error_that_names_what_is_free():
    found = problems(*(experiment(name, "percent: 10") for name in "ef"))
    assert [message.rsplit(". ", 2)[1:] for message in found] == [
        ["Write starts_at: 0, which is free."],
        ["Write starts_at: 10, which is free", "One that has run alone in the layer keeps 0."],
    ]


@pytest.mark.parametrize(
    "path",
    ["offers.annual.score.value", "offers.annual.score.cost", "offers.annual.priority", "surfaces.shelf.min_score"],
)
def test_an_arm_may_set_what_scores_are_made_of(path):
    catalog = load(experiment("x", "percent: 10", f"{{a: {{percent: 50}}, b: {{percent: 50, set: {{{path}: 1}}}}}}"))
    assert catalog.experiments[0].arms[1].overrides == {path: 1}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([experiment("x", "percent: 1", "{a: {percent: 60}, b: {percent: 50}}")], "the arms add up to 110 percent"),
        ([experiment("x", "percent: 1", "{}")], "an experiment needs arms"),
        ([experiment("x", "percent: 50, starts_at: 60")], "60 and 50 percent end beyond 100"),
        ([experiment("x", "percent: 60"), experiment("y", "percent: 60")], "take 120 percent of it, more than 100"),
        (
            [experiment("x", "percent: 20, starts_at: 10"), experiment("y", "percent: 20, starts_at: 20")],
            "20 to 40 percent of layer l overlaps x, which has 10 to 30. Lower the percent of x to 10, or begin the "
            "newer of the two elsewhere: 40 is free.",
        ),
        (
            [experiment("x", "percent: 20"), experiment("y", "percent: 20, starts_at: 20")],
            'experiments.x: "starts_at" is missing: it shares layer l, and where it begins may not hang on the others. '
            "Write starts_at: 0, which is free.",
        ),
        (
            [experiment("x", "percent: 30"), experiment("y", "percent: 20, starts_at: 10")],
            "Write starts_at: 30, which is free. One that has run alone in the layer keeps 0.",
        ),
        (
            [experiment("x", "percent: 60"), experiment("y", "percent: 20, starts_at: 40")],
            "Nothing that wide is free: lower its percent, or another's.",
        ),
        ([experiment("x", "percent: 1", "{a: {percent: 100, set: {offers.annual.owner: 3}}}")], "an arm can't set"),
        (
            [experiment("x", "percent: 1", "{a: {percent: 100, set: {offers.anual.priority: 3}}}")],
            'unknown offer "anual". Did you mean "annual"?',
        ),
        ([experiment("x", "audience: engagd")], 'unknown audience "engagd"'),
        (
            [
                experiment("x", "percent: 1", "{a: {percent: 100, set: {offers.annual.priority: 3}}}"),
                experiment("y", "percent: 1", "{a: {percent: 100, set: {offers.annual.priority: 4}}}").replace(
                    "l,", "m,"
                ),
            ],
            "offers.annual.priority is set in layer l too",
        ),
    ],
)
def test_a_wrong_experiment_says_what_is_wrong(texts, message):
    assert message in only_problem(*texts)


COSTLY = "offers: {o: {owner: a, group: x, surfaces: [shelf], score: {value: 10, cost: 2}}}"


@pytest.mark.parametrize(
    "experiments",
    [
        [experiment("x", "percent: 9", "{a: {percent: 100, set: {offers.o.score.cost: 11}}}")],
        [experiment("x", "percent: 9", "{a: {percent: 100, set: {offers.o.score.value: 1}}}")],
        [experiment("x", "percent: 9", "{a: {percent: 100, set: {offers.o.score.value: 4, offers.o.score.cost: 5}}}")],
    ],
)
def test_an_arm_may_not_make_every_conversion_lose_money(experiments):
    assert "to earn" in only_problem(COSTLY, *experiments)


def test_arms_of_two_layers_may_not_lose_money_together():
    texts = [
        experiment("x", "percent: 9", "{a: {percent: 100, set: {offers.o.score.value: 6}}}"),
        experiment("y", "percent: 9", "{a: {percent: 100, set: {offers.o.score.cost: 7}}}"),
    ]
    found = problems(COSTLY, texts[0], texts[1].replace("l,", "m,"))
    assert [message.split(". ")[0] for message in found] == [
        f"experiments.{name}: o may cost 7 to earn 6: every conversion would lose money" for name in "xy"
    ]
    apart = [text.replace("percent: 9", f"percent: 9, starts_at: {n * 9}") for n, text in enumerate(texts)]
    assert len(load(COSTLY, *apart).experiments) == 2  # nobody is in both


def test_an_arm_may_set_value_and_cost_together():
    both = experiment(
        "x", "percent: 9", "{a: {percent: 100, set: {offers.o.score.value: 30, offers.o.score.cost: 20}}}"
    )
    assert load(COSTLY, both).experiments[0].arms[0].overrides["offers.o.score.cost"] == 20


def test_an_experiment_has_a_named_audience_or_a_condition():
    assert load(experiment("x", "audience: engaged")).experiments[0].audience == load().audiences["engaged"]
    assert load(experiment("x", "audience: {tier: free}")).experiments[0].audience.feature == "tier"


# --- The whole --------------------------------------------------------------------------------------------------------


def test_the_hash_tells_any_two_texts_apart_and_does_not_depend_on_order():
    one = load_catalog({"a.yaml": BASE.encode(), "b.yaml": b"currency: SEK"})
    other = load_catalog({"b.yaml": b"currency: SEK", "a.yaml": BASE.encode()})
    third = load_catalog({"a.yaml": BASE.encode(), "c.yaml": b"currency: SEK"})
    assert one.hash == other.hash != third.hash
    assert len(one.hash) == 16
    assert one == other


TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "-",
    " ",
    "\n",
    "null",
    "1e9",
    "-1",
    '"',
    "tier",
    "any",
    "&a",
    "*a",
    "é",
    "\x00",
    "#",
]


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_written_the_answer_is_a_catalog_or_a_catalog_error(data):
    text = BASE + dedent(
        """\
        caps: {c: {max: 3, per: 7d, by: offer}}
        levers: {l: {times: 2, until: 2026-01-01, owner: a, why: b}}
        experiments: {e: {layer: l, arms: {a: {percent: 100, set: {levers.l.times: 2}}}}}
        quiet_hours: {q: {surfaces: [shelf], from: 1:00, to: 2:00}}
        tests: [{name: t, given: {tier: free, history: [{dismiss: mix, ago: 1d}]}, on: shelf, expect: {never: [mix]}}]
        """
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.sampled_from(TOKENS)) + text[at + cut :]
    try:
        load_catalog({"x.yaml": text.encode()})
    except CatalogError as error:
        told = str(error)
        assert told.startswith("The catalog has ")


def test_a_file_that_is_no_yaml_is_not_buried_under_what_others_miss_of_it():
    offers = "offers:\n  plus: {owner: a, group: x, surfaces: [shelf]\n"
    rules = "budgets: {push: {offers: [plus], impressions: 10}}"
    assert only_problem(offers, rules).startswith("this is not YAML")

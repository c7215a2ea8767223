"""What a catalog says to no effect is told, as a warning, and only where it is proved."""

from textwrap import dedent

import pytest

from decisioning.catalog_yaml import CatalogError, check_catalog, load_catalog

NOW = 1_796_083_200.0  # 2026-12-01
BASE = """\
features:
  tier: {type: enum, values: [free, basic, premium]}
  sessions: {type: int, default: 0}
  app: {type: text, from: context}
  paid: {type: bool, if_missing: block}
surfaces:
  home: {fallback: mix}
  push: {fallback: null, allow_nothing: true, min_score: 0.1, min_p_convert: 0.005}
offers:
  mix: {owner: a, group: fallback, surfaces: []}
  annual: {owner: a, group: plan, surfaces: [home], eligible: {tier: free}}
"""


def warnings(*texts: str, now: float = NOW) -> list[str]:
    """The first line of each warning, from the path on."""
    files = {f"{number}.yaml": dedent(text).encode() for number, text in enumerate(texts)}
    _, found = check_catalog({"base.yaml": BASE.encode(), **files}, now)
    return [str(one).splitlines()[0].split(": ", 1)[1] for one in found]


def only(*texts: str, now: float = NOW) -> str:
    found = warnings(*texts, now=now)
    assert len(found) == 1, found
    return found[0]


def offer(name: str, rest: str, surfaces: str = "[home]") -> str:
    return f"offers: {{{name}: {{owner: a, group: plan, surfaces: {surfaces}, {rest}}}}}\n"


def test_a_sound_catalog_has_no_warnings():
    assert warnings() == []


def test_a_warning_has_its_place_its_line_and_what_to_do():
    (found,) = check_catalog({"base.yaml": BASE.encode(), "a.yaml": b"audiences:\n  idle: {tier: free}\n"}, NOW)[1]
    assert str(found).splitlines() == [
        "a.yaml:2:3: audiences.idle: nobody uses it. Use it, or take it away.",
        "      idle: {tier: free}",
        "      ^",
    ]


# --- Audiences and groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        "offers: {o: {owner: a, group: plan, surfaces: [home], eligible: {audience: some}}}",
        "offers: {o: {owner: a, group: plan, surfaces: [home], eligible: {none: [{audience: some}]}}}",
        "guards: {g: {block_if: {any: [{audience: some}, {sessions: 3}]}, only: {offer: annual}}}",
        "invariants: {i: {when: {audience: some}, never: {offer: annual}}}",
        "experiments: {e: {layer: l, audience: some, arms: {a: {percent: 100}}}}",
        "experiments: {e: {layer: l, audience: {audience: some}, arms: {a: {percent: 100}}}}",
        "context_weights: {w: {when: {audience: some}, except: {offer: annual}, times: 2, owner: a, why: b}}\n"
        "offers: {o: {owner: a, group: plan, surfaces: [home]}}",
        "audiences: {more: {audience: some}}\n" + offer("o", "eligible: {audience: more}"),
    ],
)
def test_an_audience_is_used_wherever_a_condition_names_it(use):
    assert warnings("audiences: {some: {tier: premium}}", use) == []


def test_audiences_that_only_use_each_other_are_used_by_nobody():
    found = warnings("audiences: {a: {tier: free}, b: {audience: a}, c: {audience: [a, b]}}")
    assert found == [f"audiences.{name}: nobody uses it. Use it, or take it away." for name in "abc"]


def test_a_declared_group_without_offers_is_told():
    groups = "groups: {plan: {}, fallback: {}, merch: {}}"
    assert only(groups) == "groups.merch: no offer is in it. Take it away, or mend a group's name."


# --- Offers -----------------------------------------------------------------------------------------------------------


def test_an_offer_that_has_ended_is_told_from_its_end_on():
    text = offer("o", "live: {from: 2026-11-01, until: 2026-11-30}")
    assert only(text).startswith("offers.o: it has ended")
    assert warnings(text, now=NOW - 1) == []


def test_an_offer_that_guards_keep_from_one_of_its_surfaces_is_told():
    guard = "guards: {big: {block_if: {tier: [free, basic]}, only: {surface: push}}}"
    text = offer("o", "eligible: {tier: basic}, score: {value: 100}", "[home, push]")
    assert only(guard, text) == (
        "offers.o: nobody can ever see it on push: its eligibility contradicts big. Take push away."
    )


def test_an_offer_that_guards_keep_from_all_its_surfaces_is_an_error():
    guard = "guards: {big: {block_if: {tier: [free, basic]}, only: {surface: push}}}"
    with pytest.raises(CatalogError, match="nobody can ever see it: its eligibility contradicts big"):
        warnings(guard, offer("o", "eligible: {tier: basic}, score: {value: 100}", "[push]"))


def test_a_guard_lets_through_those_of_whom_it_knows_nothing():
    guard = "guards: {big: {block_if: {tier: [free, basic, premium]}, only: {surface: push}}}"
    assert warnings(guard, offer("o", "score: {value: 100}", "[push]")) == []
    assert only(guard, offer("o", "score: {value: 100}, eligible: {tier: {missing: false}}", "[push, home]"))


def test_a_cap_of_none_makes_an_offer_unreachable():
    cap = "caps: {none: {max: 0, per: 1d, by: user, only: {offer: annual}}}"
    assert only(cap).startswith("offers.annual: nobody can ever see it: caps.none allows none.")


@pytest.mark.parametrize(
    ("score", "why"),
    [
        ("{value: 5, cost: 5, model: m}", "it is worth nothing, and showing nothing is allowed"),
        ("{value: 5, prior: 0.001}", "its prior is 0.001, and min_p_convert is 0.005"),
        ("{value: 5, prior: 0.01}", "it scores 0.05 at most, and min_score is 0.1"),
    ],
)
def test_an_offer_that_can_not_score_enough_is_told(score, why):
    assert f"offers.o: it can never win on push: {why}." in only(offer("o", f"score: {score}", "[push]"))


@pytest.mark.parametrize(
    "text",
    [
        "levers: {up: {only: {offer: o}, times: 2.1, until: 2026-12-31, owner: a, why: b}}",
        "context_weights: {up: {when: {tier: free}, only: {offer: o}, times: 2.1, owner: a, why: b}}",
        "experiments: {e: {layer: l, arms: {a: {percent: 100, set: {offers.o.score.value: 50}}}}}",
        "experiments: {e: {layer: l, arms: {a: {percent: 100, set: {surfaces.push.min_score: 0}}}}}",
    ],
)
def test_what_a_lever_a_weight_or_an_arm_can_lift_is_not_told(text):
    assert warnings(text, offer("o", "score: {value: 5, prior: 0.01}", "[push]")) == []


def test_what_a_model_scores_is_not_told():
    assert warnings(offer("o", "score: {value: 5, prior: 0.001, model: m}", "[push]")) == []


def test_locales_that_no_feature_tells_are_told():
    creative = "creative: {key: k, locales: [en, sv]}"
    assert only(offer("o", creative)) == (
        "offers.o: everybody gets the locale en: no feature tells the user's. "
        "Declare features: {locale: {type: text, from: context}}."
    )
    assert warnings(offer("o", creative), "features: {locale: {type: text, from: context}}") == []
    assert warnings(offer("o", "creative: {key: k, locales: [en]}")) == []


# --- Shadows ----------------------------------------------------------------------------------------------------------

HIGH = offer("high", "priority: 1, eligible: {tier: [free, basic]}")


def test_an_offer_in_the_shadow_of_a_higher_class_is_told():
    assert only(HIGH) == (
        "offers.annual: it is in the shadow of high on home: of a higher class, and there whenever it is. "
        "Lower their priority, or tell their audiences apart."
    )


@pytest.mark.parametrize(
    "text",
    [
        offer("high", "priority: 1, eligible: {tier: basic}"),
        offer("high", "priority: 1, eligible: {tier: free, sessions: {min: 1}}"),
        offer("high", "priority: 1, live: {until: 2026-12-31}"),
        offer("high", "eligible: {tier: free}"),
        HIGH + "caps: {c: {max: 3, per: 1d, by: offer}}\n",
        HIGH + "suppress: {s: {after: dismiss, for: 1d, only: {offer: high}}}\n",
        HIGH + "budgets: {b: {offers: [high], impressions: 9}}\n",
        HIGH + "guards: {g: {block_if: {sessions: {above: 9}}, only: {offer: high}}}\n",
        HIGH + "exclusive: {x: {offers: [high, annual], for: 1d}}\n",
        HIGH + "experiments: {e: {layer: l, arms: {a: {percent: 100, set: {offers.annual.priority: 2}}}}}\n",
    ],
)
def test_an_offer_that_somebody_or_some_time_sees_is_in_no_shadow(text):
    assert warnings(text) == []


def test_versions_that_are_none_are_reckoned_with():
    text = "offers: {low: {owner: a, group: plan, surfaces: [home], eligible: {app: {missing: false}}}}"
    old = "{app: {version_below: 9}}"
    high = offer("high", f"priority: 1, eligible: {{any: [{old}, {{app: {{version_min: 9}}}}]}}")
    assert warnings(text, high) == []


def test_two_slots_need_two_to_cast_a_shadow():
    surface = "surfaces: {wall: {fallback: null, slots: 2}}"
    low = offer("low", "eligible: {tier: free}", "[wall]")
    high = [offer(f"high{n}", "priority: 1", "[wall]") for n in range(2)]
    assert warnings(surface, low, high[0]) == []
    assert "in the shadow of high0, high1 on wall" in only(surface, low, *high)


# --- Levers, weights and rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levers: {l: {times: 2, until: 2026-11-29, owner: a, why: b}}", "levers.l: it has ended"),
        (
            "levers: {l: {only: {offer: annual, surface: push}, times: 2, until: 2026-12-29, owner: a, why: b}}",
            "levers.l: it never applies: no offer on any surface is in its scope",
        ),
        (
            "levers: {l: {only: {offer: o}, times: 2, until: 2026-12-29, owner: a, why: b}}\n"
            + offer("o", "live: {from: 2027-01-01}"),
            "levers.l: it never applies: its offers are not live while it is",
        ),
        (
            "context_weights: {w: {when: {tier: free}, only: {group: plan}, except: {offer: annual}, times: 2, "
            "owner: a, why: b}}",
            "context_weights.w: it never applies: no offer on any surface",
        ),
        (
            "context_weights: {w: {when: {tier: basic}, only: {offer: annual}, times: 2, owner: a, why: b}}",
            "context_weights.w: it never applies: no offer in its scope is for those of whom it speaks",
        ),
        ("guards: {g: {block_if: {tier: free}, only: {offer: annual, surface: push}}}", "guards.g: it never applies"),
        ("caps: {c: {max: 1, per: 1d, by: user, only: {surface: push}}}", "caps.c: it never applies"),
        ("suppress: {s: {after: click, for: 1d, except: {surface: home}}}", "suppress.s: it never applies"),
    ],
)
def test_what_never_applies_is_told(text, message):
    assert only(text).startswith(message)


@pytest.mark.parametrize(
    ("audience", "told"), [("{tier: basic}", True), ("{tier: free, sessions: 3}", False), ("{sessions: 3}", False)]
)
def test_an_experiment_whose_audience_never_sees_what_it_changes_is_told(audience, told):
    arms = (
        "{usual: {percent: 50}, dear: {percent: 50, set: {offers.annual.score.value: 9, surfaces.home.min_score: 0}}}"
    )
    found = warnings(f"experiments: {{e: {{layer: l, audience: {audience}, arms: {arms}}}}}")
    message = "experiments.e: it changes nothing for annual: its audience contradicts that offer's eligibility."
    assert [one.startswith(message) for one in found] == [True] * told


def test_warnings_never_keep_a_catalog_from_loading():
    files = {"base.yaml": BASE.encode(), "a.yaml": b"audiences: {idle: {tier: free}}"}
    assert load_catalog(files) == check_catalog(files, NOW)[0]

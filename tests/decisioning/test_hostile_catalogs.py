"""Catalogs that are huge, malicious or absurd: one clear error with its place, in little time and memory."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter, process_time

import pytest

from decisioning.catalog_yaml import MAX_TOTAL, MOST, CatalogError, check_catalog, load_catalog
from decisioning.yaml_nodes import MAX_BYTES, MAX_PROBLEMS

BASE = b"""\
features:
  tier: {type: enum, values: [free, premium]}
  market: {type: enum, values: [SE, NO]}
  days: {type: int}
  minutes: {type: float}
  paid: {type: bool}
  timezone: {type: text, from: context}
surfaces: {shelf: {fallback: null}}
offers: {mix: {owner: a, group: g, surfaces: [shelf]}}
"""


def refusal(content: bytes | str) -> CatalogError:
    content = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(CatalogError) as caught:
        load_catalog({"base.yaml": BASE, "bad.yaml": content})
    return caught.value


def only(content: bytes | str) -> str:
    """The one problem, on one line, with its place."""
    (problem,) = refusal(content).problems
    return str(problem).splitlines()[0]


def eligible(text: str) -> str:
    return f"offers: {{x: {{owner: a, group: g, surfaces: [shelf], eligible: {text}}}}}"


BILLION_LAUGHS = b"a: &a [x, x]\n" + b"".join(
    b"%c: &%c [*%c, *%c, *%c, *%c]\n" % (97 + n, 97 + n, *[96 + n] * 4) for n in range(1, 20)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BILLION_LAUGHS, "bad.yaml:1:4: a: anchors and aliases are not part of the language. Write it out."),
        (b"caps: {<<: *x}", "bad.yaml:1:12: caps.<<: anchors and aliases"),
        (b"a: " + b"[" * 1_000_000, "this is nested more than 20 deep"),
        (b"- " * 900_000, "this is nested more than 20 deep"),
        ("".join(" " * n + "a:\n" for n in range(1500)), "bad.yaml:22:22: a.a.a.a"),
        (b"x: !!python/object/apply:os.system ['true']", "bad.yaml:1:4: x: tags such as"),
        (b"x: !!binary aGk=", "tags such as"),
        (b"caps:\n  x:\t{max: 1}", "bad.yaml:2:5: there is a tab. Use spaces."),
        (b"offers:\n  \xff\xfe: {}", "bad.yaml:2:3: the file is not UTF-8. Save it as UTF-8."),
        ("caps: {}\n".encode("utf-16"), "bad.yaml:1:1: the file is not UTF-8. Save it as UTF-8."),
        (
            "# försäljning\ncaps: {} # på\n".encode().replace("på".encode(), "på".encode("latin-1")),
            "bad.yaml:2:13: the file is not UTF-8. Save it as UTF-8.\n    caps: {} # p�\n                ^",
        ),
        (b"caps: {}\r# a\r  x:\t1\r", "bad.yaml:3:5: there is a tab. Use spaces.\n      x: 1\n        ^"),
        (b"caps: {}\r\n  x:\t1\r\n", "bad.yaml:2:5: there is a tab. Use spaces.\n      x: 1\n        ^"),
        (b"caps: {}\r# a\rcap: {}\r", 'bad.yaml:3:1: cap: unknown section "cap". Did you mean "caps"?\n    cap: {}\n'),
        ("# \u2028\ncap: {}\n".encode(), 'bad.yaml:3:1: cap: unknown section "cap".'),
        (
            b"#" + b"x" * MAX_BYTES,
            "bad.yaml:1:1: the file has 2,000,001 bytes, more than the 2,000,000",
        ),
        (b"#" + b"x" * 10_000_000, "bad.yaml:1:1: the file has 10,000,001 bytes, more than the 2,000,000"),
        (b"exploration: {uniform: " + b"9" * 1_000_000 + b"}", "bad.yaml:1:24: exploration.uniform: "),
        (b"caps: {c: {max: " + b"9" * 5000 + b", per: 1d, by: user}}", "caps.c.max: needs a whole number"),
    ],
)
def test_what_is_too_much_is_refused_at_once_with_its_place(content, message):
    tracemalloc.start()
    started = perf_counter()
    told = refusal(content)
    seconds, (_, most) = perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in str(told)
    assert len(str(told)) < 3000
    assert seconds < 2
    assert most < 60_000_000


def test_many_files_are_refused_by_their_size_together():
    part = b"#" + b"x" * (MAX_TOTAL // 4)
    with pytest.raises(CatalogError, match="the files have 4,000,004 bytes, more than the 4,000,000 that are allowed"):
        load_catalog({f"{n}.yaml": part for n in range(4)})


@pytest.mark.parametrize(
    "content",
    [
        "".join(f"section{n}: 1\n" for n in range(50_000)),
        "caps: {" + ", ".join(f"c{n}: {{}}" for n in range(30_000)) + "}",
        "caps: {" + "c: {}, " * 100_000 + "}",
        eligible("{any: [" + "{teir: free}, " * 40_000 + "]}"),
        "exclusive:\n" + "".join(f"  e{n}: {{offers: [mx{n}, mixx{n}], for: 1d}}\n" for n in range(5000)),
    ],
    ids=["sections", "missing keys", "duplicates", "features", "offers"],
)
def test_reading_stops_at_two_hundred_problems_and_says_so(content):
    started = perf_counter()
    error = refusal(content)
    assert len(error.problems) == MAX_PROBLEMS
    assert str(error).startswith("The catalog has 200 problems, and maybe more:\n")
    assert len(str(error)) < 200_000
    assert perf_counter() - started < 5


# --- Proofs -----------------------------------------------------------------------------------------------------------


def seconds_to_check(text: str) -> float:
    started = process_time()
    with suppress(CatalogError):
        check_catalog({"a.yaml": text.encode()}, 0.0)
    return process_time() - started


def many(offers: int, surfaces: int, condition: Callable[[int], str], more: str = "") -> str:
    """Offers on all surfaces, and 16 numbers for conditions to speak of."""
    names = [f"s{n}" for n in range(surfaces)]
    lines = [f"features: {{{', '.join(f'n{n}: {{type: int}}' for n in range(16))}, x: {{type: int}}}}"]
    lines += ["surfaces:", *(f"  {name}: {{fallback: null}}" for name in names), "offers:"]
    lines += [
        f"  o{n}: {{owner: a, group: g, surfaces: [{', '.join(names)}], priority: {n}, eligible: {condition(n)}}}"
        for n in range(offers)
    ]
    return "\n".join([*lines, more])


EITHERS = [f"{{any: [{{n{n}: 0}}, {{n{n}: 1}}]}}" for n in range(16)]
PIGEONS = [f"{{any: [{', '.join(f'{{n{hole}: {pigeon}}}' for hole in range(12))}]}}" for pigeon in range(13)]
"""Thirteen of them, and twelve holes: nobody can do it, and it is hard to see why."""


def every(conditions: list[str], more: str) -> str:
    return f"{{{more}, all: [{', '.join(conditions)}]}}"


def invariants(number: int) -> str:
    conditions = (every(EITHERS, f"x: {{above: {n + 100}}}") for n in range(number))
    return "\n".join(
        ["invariants:", *(f"  i{n}: {{when: {c}, never: {{group: g}}}}" for n, c in enumerate(conditions))]
    )


@pytest.mark.parametrize(
    "text",
    [
        many(30, 20, lambda _: every(EITHERS, "x: {min: 5}"), "guards: {g: {require: {any: [{x: 1}, {x: 2}]}}}"),
        many(30, 20, lambda n: every(PIGEONS[1:], f"x: {n}"), f"guards: {{g: {{require: {PIGEONS[0]}}}}}"),
        many(150, 3, lambda n: every(PIGEONS, f"x: {n}")),
        many(60, 20, lambda n: every(EITHERS, f"x: {{min: {n}}}"), f"guards: {{g: {{block_if: {EITHERS[0]}}}}}"),
        many(60, 20, lambda n: f"{{x: {{min: {n}}}, any: [{', '.join(EITHERS)}]}}"),
        many(100, 1, lambda n: f"{{x: {n}}}", invariants(300)),
        many(100, 1, lambda n: f"{{x: {{not: [{', '.join(map(str, range(2000)))}], min: 0, max: {2000 + n}}}}}"),
    ],
    ids=["eithers", "a pigeon too many", "pigeons", "rivals", "more rivals", "invariants", "long lists"],
)
def test_what_is_hard_to_prove_is_given_up_in_time(text):
    assert seconds_to_check(text) < 6  # 2 s; the rest is for slow machines


# --- Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["__class__", "__import__('os')", "a b", "a.b", "é", "-x", "x" * 81, '"; DROP TABLE'])
@pytest.mark.parametrize("section", ["offers", "surfaces", "caps", "features", "audiences", "context_weights"])
def test_what_is_no_plain_name_is_refused_as_one(section, name):
    quoted = "'" + name.replace("'", "''") + "'"
    told = [str(problem) for problem in refusal(f"{section}: {{{quoted}: {{}}}}").problems]
    assert any("can't be a name. Use letters, digits, _ and -, at most 80." in one for one in told)
    assert all(one.startswith("bad.yaml:1:") for one in told)


@pytest.mark.parametrize(
    ("name", "told"),
    [("a\\nb", "a\\nb"), ("a\\e[2Jb", "a\\x1b[2Jb"), ("a\\u202eb", "a\\u202eb")],
)
def test_what_a_name_hides_is_told_as_it_can_be_seen(name, told):
    (problem,) = refusal(f'offers: {{x: {{owner: a, group: g, surfaces: [shelf], "{name}": 1}}}}').problems
    first, line, caret = str(problem).splitlines()
    assert f'unknown key "{told}"' in first
    assert str(problem).replace("\n", "").isprintable()
    assert line[caret.index("^")] == '"'


@pytest.mark.parametrize("name", ["__class__", "__dict__", "values", "get", "None", "lambda"])
def test_a_condition_reads_declared_names_alone(name):
    assert f'unknown feature "{name}"' in only(eligible(f"{{{name}: 1}}"))


@pytest.mark.parametrize("path", ["offers.mix.__class__", "__class__", "offers.mix.score", "offers..score.value"])
def test_an_arm_sets_known_paths_alone(path):
    arms = f"{{a: {{percent: 100, set: {{{path}: 3}}}}}}"
    told = only(f"experiments: {{e: {{layer: l, arms: {arms}}}}}")
    assert told.startswith("bad.yaml:1:")
    assert "an arm can't set" in told or 'unknown offer ""' in told


# --- Types ------------------------------------------------------------------------------------------------------------


def test_norway_is_norway_and_ten_at_night_is_a_time():
    text = eligible("{market: NO}") + "\nquiet_hours: {q: {surfaces: [shelf], from: 22:00, to: 07:00}}"
    catalog = load_catalog({"base.yaml": BASE, "a.yaml": text.encode()})
    assert catalog.offers["x"].eligible.value == ("NO",)
    assert (catalog.quiet_hours[0].start, catalog.quiet_hours[0].end) == (22 * 60, 7 * 60)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (eligible('{days: {min: "3"}}'), 'eligible.days.min: needs a whole number, got "3" in quotes, which is text'),
        (eligible('{days: "3"}'), 'needs a whole number, got "3" in quotes'),
        (eligible('{minutes: {min: "3.5"}}'), 'needs a number, got "3.5" in quotes'),
        (eligible('{paid: "true"}'), 'needs true or false, got "true" in quotes'),
        (eligible("{days: three}"), 'needs a whole number, got "three"'),
        (eligible("{days: 0x10}"), 'needs a whole number, got "0x10"'),
        (eligible("{days: 1_000}"), 'needs a whole number, got "1_000"'),
        (eligible("{days: 1e3}"), 'needs a whole number, got "1e3"'),
        (eligible("{paid: NO}"), 'needs true or false, got "NO"'),
        (eligible("{paid: 1}"), 'needs true or false, got "1"'),
        *((eligible(f"{{minutes: {{min: {nan}}}}}"), "needs a number") for nan in (".nan", "NaN", "nan", "-inf")),
        ("exploration: {uniform: .nan}", "exploration.uniform: needs a number"),
        ("exploration: {uniform: 1e999}", "exploration.uniform: needs a number"),
        ("levers: {l: {times: .nan, until: 2027-01-01, owner: a, why: b}}", "levers.l.times: needs a number"),
        ("context_weights: {w: {when: {tier: free}, times: .inf, owner: a, why: b}}", "times: needs a number"),
        ("ablations: {percent: .nan}", "ablations.percent: needs a number"),
        (eligible("{days: {min: 5, max: 3}}"), "no value can do: days is at least 5 and days is at most 3"),
        (eligible("{days: {min: 5}, all: [{days: {max: 3}}]}"), "contradicts itself: nobody can meet it"),
    ],
)
def test_a_value_of_the_wrong_type_or_an_empty_range_is_told_with_its_place(text, message):
    told = only(text)
    assert message in told
    assert told.startswith("bad.yaml:1:")


def test_duplicate_keys_are_told_with_both_places_however_deep():
    text = "offers:\n  x:\n    owner: a\n    group: g\n    surfaces: [shelf]\n"
    text += "    eligible:\n      days: 1\n      days: 2\n"
    assert only(text) == (
        'bad.yaml:8:7: offers.x.eligible.days: "days" is given twice, first at bad.yaml:7. Keep one of them.'
    )


# --- The limits that are published ------------------------------------------------------------------------------------


def of_full_size() -> dict[str, bytes]:
    """1,000 offers on 100 surfaces, one of 200 clauses, in 500 kB."""
    surfaces = "surfaces:\n" + "".join(f"  s{n}: {{slots: 3, fallback: mix}}\n" for n in range(MOST["surfaces"]))
    offers = "offers:\n  mix: {owner: a, group: fallback, surfaces: []}\n"
    clauses = ", ".join(f"{{days: {{above: {n}}}}}" for n in range(199))
    for n in range(MOST["offers"] - 1):
        extra = f"any: [{clauses}]" if n == 0 else f"any: [{{paid: true}}, {{minutes: {{min: {n % 9}}}}}]"
        offers += f"""\
  offer_{n}:
    owner: growth-product-managers
    group: {"plan" if n % 2 else "merch"}
    surfaces: [s{n % 100}, s{(n + 7) % 100}, s{(n + 13) % 100}]
    live: {{from: 2026-01-01, until: 2027-12-31}}
    score: {{model: upsell, value: {10 + n % 30}, cost: 1.0, prior: 0.02}}
    attributes: {{price: {n}, months: 12, discount: 0.2, kind: annual}}
    eligible:
      market: [SE, "NO"]
      days: {"{min: 0}" if n == 0 else "{min: 14, max: 280}"}
      {extra}
    creative: {{key: premium-annual-winter-{n}, locales: [en, sv, nb, pt, hi, id], fallback_locale: en}}
"""
        if n == 0:
            offers = offers.replace("      days: {min: 0}\n", "")
    rules = "guards: {g: {require: {tier: free}, only: {group: plan}}}\ncaps: {c: {max: 3, per: 7d, by: offer}}\n"
    features = BASE.decode().split("surfaces:")[0]
    texts = {"features": features, "surfaces": surfaces, "offers": offers, "rules": rules}
    return {f"{name}.yaml": text.encode() for name, text in texts.items()}


def test_a_catalog_at_every_limit_loads_in_a_second():
    files = of_full_size()
    assert sum(map(len, files.values())) >= 490_000
    started = process_time()
    catalog = load_catalog(files)
    assert process_time() - started < 2  # 0.5 s of an idle core; the rest is for a busy machine
    assert (len(catalog.offers), len(catalog.surfaces)) == (1000, 100)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "offers: {zz: {owner: a, group: g, surfaces: [s0]}}",
            "the catalog has 1,001 offers, more than the 1,000",
        ),
        (
            "context_weights:\n"
            + "".join(f"  w{n}: {{when: {{days: {n}}}, times: 100, owner: a, why: b}}\n" for n in range(101)),
            "the catalog has 101 context_weights, more than the 100 that are allowed",
        ),
        ("surfaces: {zz: {fallback: null}}", "the catalog has 101 surfaces, more than the 100 that are allowed"),
        (
            "audiences: {long: {any: [" + ", ".join(["{days: 1}"] * 201) + "]}}",
            "has 201 clauses with its audiences, more than 200",
        ),
    ],
)
def test_one_more_than_a_limit_is_refused(more, message):
    with pytest.raises(CatalogError) as caught:
        load_catalog({**of_full_size(), "zz.yaml": more.encode()})
    (problem,) = caught.value.problems
    assert message in str(problem)
    assert problem.place.file == "zz.yaml"

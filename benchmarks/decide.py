"""How long decisions take, beside their targets and in comparison with other rule engines: `make bench-decide`.

Prints a table and writes benchmarks/results/decide.json. Times are CPU time, but for the checker and reach, which are
by the clock on the wall.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import mean, median

from peers import PEERS, Judge, User, user_of
from timing import Figure, Timing, machine, measure, table
from workload import NOW, SHELF, SURFACE, Precomputed, Visit, catalog_text, visits

from decisioning.catalog_yaml import load_catalog
from decisioning.conditions import AllOf, Condition, reads
from decisioning.domain import Value
from decisioning.engine import Release, decide
from decisioning.index import Evaluator, build_index

RESULTS = Path(__file__).parent / "results" / "decide.json"
USERS = 300
"""Visits a round. More would time how the machine fetches them from memory; in service a request has just been read."""


def release_of(offers: int, *, challenged: bool = False) -> Release:
    """A release of the reference workload, compiled."""
    scorer = Precomputed(offers)
    challengers = {"upsell": Precomputed(offers, seed=6)} if challenged else {}
    release = Release("bench", load_catalog(catalog_text(offers)), {"upsell": scorer}, challengers, salt="salt")
    if not release.plans:
        raise SystemExit("The reference workload has no surfaces.")
    return release


def conditions_of(release: Release) -> list[Condition]:
    return [offer.eligible or AllOf(()) for offer in release.catalog.offers_on(SURFACE)]


def known_of(release: Release, some: Sequence[Visit]) -> list[dict[str, Value]]:
    return [release.knowledge.values(visit.request, visit.facts) for visit in some]


# --- What is timed ----------------------------------------------------------------------------------------------------


def deciding(release: Release, some: Sequence[Visit]) -> Callable[[], None]:
    def run() -> None:
        for visit in some:
            decide(release, visit.request, visit.facts)

    return run


def evaluating(evaluate: Evaluator, users: Sequence[dict[str, Value]]) -> Callable[[], None]:
    def run() -> None:
        for values in users:
            evaluate(values, NOW)

    return run


def with_truth(evaluate: Evaluator, users: Sequence[dict[str, Value]]) -> Callable[[], None]:
    def run() -> None:
        for values in users:
            f"{evaluate(values, NOW)[1]:x}"

    return run


def judging(judge: Judge, users: Sequence[User]) -> Callable[[], None]:
    def run() -> None:
        for user in users:
            judge(user)

    return run


def figures() -> tuple[tuple[Figure, ...], dict[str, str]]:
    """What to time, and what else is to be told."""
    small, middle, large = release_of(50), release_of(500), release_of(1000)
    conditions = conditions_of(small)
    index, wide = (
        build_index(conditions, small.catalog.features),
        build_index(conditions_of(middle), middle.catalog.features),
    )
    seen = list(visits(USERS, 50))
    known = known_of(small, seen)
    known_500 = known_of(middle, list(visits(USERS, 500)))
    found = [
        Figure("conditions_50_us", evaluating(index.evaluate, known), USERS, 2.0),
        Figure("conditions_500_us", evaluating(wide.evaluate, known_500), USERS, 20.0),
        Figure("truth_word_50_us", with_truth(index.evaluate, known), USERS, 3.0),
        Figure("decide_50_us", deciding(small, seen), USERS, 35.0),
        Figure("decide_500_us", deciding(middle, list(visits(USERS, 500))), USERS),
        Figure("decide_1000_us", deciding(large, list(visits(USERS, 1000))), USERS),
        Figure("decide_50_challenged_us", deciding(release_of(50, challenged=True), seen), USERS),
        Figure("decide_50_three_slots_us", deciding(small, list(visits(USERS, 50, SHELF))), USERS),
    ]
    text = catalog_text(500)
    found.append(Figure("check_500_offers_s", lambda: load_catalog(text), 1, 1.0, unit=1.0, wall=True))
    for name, judge, users in compared(conditions, index.evaluate, known):
        found.append(Figure(f"{name}_50_us", judging(judge, users), USERS))
    left = [len(decide(small, visit.request, visit.facts).eligible) for visit in seen]
    told = {
        "offers left for the typical user": f"{median(left):g} of 50",
        "features that the conditions read": str(len(frozenset().union(*map(reads, conditions)))),
        "distinct tests": f"{len(index.tests)} for 50 offers, {len(wide.tests)} for 500",
        "events behind a user": f"{mean(len(visit.facts.history) for visit in seen):.1f}",
    }
    return tuple(found), told


def compared(
    conditions: Sequence[Condition], evaluate: Evaluator, known: Sequence[dict[str, Value]]
) -> Iterable[tuple[str, Judge, list[User]]]:
    """The peers that are installed and answer as we do."""
    read = frozenset().union(*map(reads, conditions))
    users = [user_of(values, read) for values in known]
    ours = [[bool(evaluate(values, NOW)[0] >> n & 1) for n in range(len(conditions))] for values in known]
    for peer in PEERS:
        try:
            judge = peer.compile(conditions)
        except ImportError:
            print(f"{peer.name}: {peer.package} is not installed; `make bench-decide` installs it.")
            continue
        if [[bool(answer) for answer in judge(user)] for user in users] != ours:
            print(f"{peer.name}: its answers differ from ours, so it is not timed.")
            continue
        yield peer.name, judge, users


def reach_timing() -> Timing | None:
    """Reach over a million users; None where what it needs is not installed."""
    try:
        seconds = import_module("reach").reach_seconds()
    except ImportError as error:
        print(f"reach_1m_users_s is left out: {error}.")
        return None
    return Timing(median(seconds), min(seconds), max(seconds))


# --- What is told -----------------------------------------------------------------------------------------------------


def remarks(found: Mapping[str, Timing], growth: float) -> dict[str, str]:
    """What to say of figures that have no target of their own."""
    ours = found["conditions_50_us"].median
    said = {"decide_1000_us": f"{growth:.1f} × that of 50 offers, for 20 × the offers"}
    for peer in PEERS:
        name = f"{peer.name}_50_us"
        if name in found:
            said[name] = f"{found[name].median / ours:.0f} × ours, version {peer.version}"
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="Rounds; at least 7 for figures to publish.")
    parser.add_argument("--no-reach", action="store_true", help="Leave out reach, which takes the longest.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Where the JSON goes.")
    asked = parser.parse_args()
    some, told = figures()
    found = measure(some, asked.repeats)
    reach = None if asked.no_reach else reach_timing()
    if reach is not None:
        some = (*some, Figure("reach_1m_users_s", lambda: None, target=10.0))
        found["reach_1m_users_s"] = reach
    growth = found["decide_1000_us"].median / found["decide_50_us"].median
    print(table(some, found, remarks(found, growth)))
    versions = {peer.name: peer.version for peer in PEERS if f"{peer.name}_50_us" in found}
    for name, text in {**told, **machine(), "repeats": str(asked.repeats)}.items():
        print(f"{name}: {text}")
    result = {
        **{f"{peer.name}_50_us": None for peer in PEERS},
        "reach_1m_users_s": None,
        **{name: round(timing.median, 3) for name, timing in found.items()},
        "growth_50_to_1000": round(growth, 2),
        "spread": {name: [round(timing.low, 3), round(timing.high, 3)] for name, timing in found.items()},
        "targets": {one.name: one.target for one in some if one.target is not None},
        "workload": told,
        "peers": versions,
        "machine": machine(),
        "repeats": asked.repeats,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written to {asked.out}.")


if __name__ == "__main__":
    main()

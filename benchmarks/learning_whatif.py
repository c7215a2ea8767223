"""How long does what-if take over a million recorded decisions? `.venv/bin/python -m benchmarks.learning_whatif`

Simulates listeners under the sample catalog, trains a LightGBM model on them and lets it personalise fully (so that
every decision pays for scoring), records 20,000 real decisions with the histories that those listeners had, and writes
each of them fifty times, of other users and under other ids, with its impressions and conversions: a log of 3 GB in a
temporary folder. Then `segue whatif` with another lever and a tighter rule, from log to report, on two processes.
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.timing import say
from decisioning.domain import Event, Facts, HistoryEvent, Request
from decisioning.engine import Release, decide
from decisioning.identity import user_key
from evaluation.simulator.tables import simulate
from evaluation.whatif.asking import ask
from evaluation.whatif.proposals import Proposal
from features.frames import pack_frame
from models import artifact
from stores.catalog_files import read_catalog_files
from stores.home import Home
from stores.log.decision_log import DecisionRecord, encode, event_line
from stores.log.event_log import EventLog
from stores.registry import CHALLENGER, Registry
from stores.releases import ReleaseStore
from stores.tables import Tables
from training.prepare import model_name
from training.train import train
from workbench import SAMPLE_CATALOG, release_of

RECORDS, QUICK_RECORDS, DISTINCT = 1_000_000, 40_000, 20_000
USERS, DAYS, SEED = 6_000, 30, 1
LEVER = """
  benchmark:
    only: {offer: premium_annual}
    times: 1.3
    until: 2100-01-01
    owner: benchmark
    why: something has to change
lever_bounds:"""
SECRET = b"users of a benchmark"


def released(home: Home) -> Release:
    """A release of the sample catalog with a model that personalises fully."""
    say(f"simulate {USERS:,} listeners over {DAYS} days, and train on them")
    simulate(home, SAMPLE_CATALOG, users=USERS, days=DAYS, seed=SEED)
    files = read_catalog_files(SAMPLE_CATALOG)
    from decisioning.catalog_yaml import load_catalog

    name = model_name(load_catalog(files), None)
    train(home, load_catalog(files), seed=SEED)
    registry = Registry(home.mlflow_uri, home.artifacts)
    version = registry.alias(name, CHALLENGER)
    made = artifact.load({k: v for k, v in registry.files(name, version.version).items() if k.startswith("model")})
    bold = replace(made, shrinkage=1.0, golden=())
    bold = artifact.record_golden(bold, [(row.features, row.surface) for row in made.golden])
    content = {f"catalog/{path}": text for path, text in files.items()}
    content |= {f"models/{name}/{file}": text for file, text in artifact.save(bold).items()}
    releases = ReleaseStore(home.releases)
    release = releases.publish(content, who="benchmark", why="to be measured", now=time.time())
    releases.activate(release, expected=None, who="benchmark", why="to be measured", now=time.time())
    return releases.load(release)


def decided(home: Home, release: Release, count: int) -> Iterator[DecisionRecord]:
    """What the release decides for simulated listeners who saw and dismissed what they were shown before."""
    tables, random = Tables.read(home.data), Random(SEED)
    rows = tables.decisions.head(count)
    packed = pack_frame(tables.schema, tables.facts_of_decisions().head(count))
    budgets = {budget.name: 0 for budget in release.catalog.budgets}
    past: dict[str, list[HistoryEvent]] = {}
    for number, row in enumerate(rows.itertuples()):
        now, user = row.at.timestamp(), user_key(SECRET, row.user_id)
        history = past.setdefault(user, [])
        facts = Facts(tables.schema.unpack(packed[number].tobytes()), now - 6 * 3600, tuple(history), budgets)
        context = {"country": "SE", "device": "phone", "locale": "sv", "hour": 13, "timezone": "Europe/Stockholm"}
        request = Request(f"{number:032x}.{row.surface}", user, row.surface, now, context)
        decision = decide(release, request, facts)
        yield DecisionRecord(request, facts, decision)
        for one in decision.slate:
            history.append(HistoryEvent("impression", one.offer, row.surface, now + 1.0))
            if random.random() < 0.3:
                history.append(HistoryEvent("click", one.offer, row.surface, now + 9.0))


def write_log(home: Home, release: Release, count: int) -> None:
    """`count` records, made of fewer: the users and the ids differ, all else is as it was decided."""
    records = list(decided(home, release, DISTINCT))
    say(f"write {count:,} decisions, made of {len(records):,}")
    decisions, events, random = EventLog(home.logs / "decisions"), EventLog(home.logs / "events"), Random(SEED)
    lines = [encode(record) for record in records]
    for number in range(count):
        record, line = records[number % len(records)], lines[number % len(records)]
        request, decision_id = record.request, f"{number:032x}.{record.request.surface}"
        user = user_key(SECRET, f"copy-{number}")
        line = line.replace(request.decision_id.encode(), decision_id.encode())
        decisions.append(line.replace(request.user.encode(), user.encode()))
        if record.decision.slate:
            first = record.decision.slate[0]
            parts = (decision_id, first.offer, user, request.surface)
            events.append(event_line(Event(f"i{number}", "impression", *parts, request.now + 1.0)))
            if random.random() < (first.p_convert or 0.0):
                events.append(event_line(Event(f"c{number}", "convert", *parts, request.now + 5_000.0)))
    decisions.close()
    events.close()


def proposed(home: Home, release: Release) -> Proposal:
    """Another lever, and offers of merchandise for fewer."""
    files = dict(read_catalog_files(SAMPLE_CATALOG))
    text = files["rules.yaml"].decode()
    changed = text.replace("\nlever_bounds:", LEVER, 1).replace("per_offer:   {max: 4,", "per_offer:   {max: 2,", 1)
    if "  benchmark:" not in changed or "{max: 2, per: 7d" not in changed:
        raise SystemExit("The sample catalog's rules have moved: mend what this benchmark replaces in them.")
    return Proposal(partial(release_of, home), release.id, {**files, "rules.yaml": changed.encode()})


def build(folder: Path, count: int) -> None:
    """The work folder: a release and its log."""
    home = Home(folder)
    write_log(home, released(home), count)


def timed(folder: Path) -> dict[str, Any]:
    """What-if over the whole log of a work folder, from log to report."""
    home = Home(folder)
    releases = ReleaseStore(home.releases)
    proposal = proposed(home, releases.load(releases.current() or ""))
    size = sum(file.stat().st_size for file in (home.logs / "decisions").iterdir())
    say(f"decide {size / 2**30:.1f} GB of them again")
    started = time.perf_counter()
    found = ask(home.logs, proposal, last="all", progress=lambda done, total: say(f"  {done:,} of {total:,} MB"))
    seconds = time.perf_counter() - started
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "whatif_1m_s": round(seconds * RECORDS / found["decisions"], 1),
        "whatif": {
            "decisions": found["decisions"],
            "seconds": round(seconds, 2),
            "log_gb": round(size / 2**30, 2),
            "peak_gb": {"parent": round(peaks[0] / 2**20, 2), "largest_child": round(peaks[1] / 2**20, 2)},
            "changed_share": round(found["changed_share"], 4),
            "value": found["value"],
        },
    }


def measure(quick: bool = False) -> dict[str, Any]:
    """`whatif_1m_s`: seconds for a million decisions (`quick`: of fewer, in proportion), and what was found."""
    folder = Path(tempfile.mkdtemp(prefix="segue-whatif-"))
    try:
        build(folder, QUICK_RECORDS if quick else RECORDS)
        return timed(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A log of 40,000 decisions.")
    parser.add_argument("--folder", type=Path, help="Keep the log here; where there is one, take it as it is.")
    asked = parser.parse_args()
    if asked.folder is None:
        print(json.dumps(measure(asked.quick), indent=1))
        return
    if not (asked.folder / "logs").is_dir():
        build(asked.folder, QUICK_RECORDS if asked.quick else RECORDS)
    print(json.dumps(timed(asked.folder), indent=1))


if __name__ == "__main__":
    main()

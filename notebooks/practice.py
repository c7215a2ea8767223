"""What the notebooks share: a work folder with something in it.

The folder is `SEGUE_HOME`, or `.segue` beside this one. Whatever is there is used; what is missing is simulated, always
the same. Nothing that is there already is changed.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pandas as pd

from decisioning.catalog import DAY, Catalog
from decisioning.domain import Event, Facts, Request
from decisioning.engine import Release, decide
from decisioning.errors import UserError
from decisioning.identity import user_key
from features.frames import pack_frame
from features.schema import Schema
from features.snapshot_drift import history
from features.snapshots import Snapshot, build_snapshot, current
from stores.home import Home
from stores.log.decision_log import DecisionRecord, encode, event_line
from stores.log.event_log import EventLog
from stores.log.reader import read
from stores.tables import Tables
from workbench import SAMPLE_CATALOG, current_release, load_catalog_of

SEED = 1
USERS, DAYS = 4_000, 30
"""Half a minute's simulation."""


def practice_home() -> Home:
    """The work folder. Where it has no history, a month of listeners is simulated into it first."""
    from evaluation.simulator.tables import simulate

    home = Home(Path(os.environ.get("SEGUE_HOME") or Path(__file__).resolve().parent.parent / ".segue"))
    if not (home.data / "dataset.json").is_file():
        catalog = home.catalog if home.catalog.is_dir() else SAMPLE_CATALOG
        simulate(home, catalog, users=USERS, days=DAYS, seed=SEED)
    return home


def practice_snapshots(home: Home, catalog: Catalog, days: int = 6) -> list[Snapshot]:
    """The snapshots of the folder, the oldest first; where there is one alone, those of the days before it as well."""
    schema = Schema.of(catalog.features)
    now = current(home.snapshots) if (home.snapshots / "current").is_file() else None
    now = now or build_snapshot(home.data, home.snapshots, schema=schema)
    if len(history(home.snapshots)) == 1:
        for back in range(1, days + 1):
            moment = datetime.fromtimestamp(now.as_of, UTC) - timedelta(days=back)
            build_snapshot(home.data, home.snapshots, schema=schema, as_of=moment, make_current=False)
    return [one for one in history(home.snapshots) if one.as_of <= now.as_of]


def practice_traffic(home: Home, catalog: Catalog) -> Release:
    """The release in use, or else the bare rules; with a log of decisions, which is made where there is none.

    Simulated listeners come again on the days that they came, are decided for as a server would, and follow the
    simulator's truth. Raises UserError for other data without a log: serve some decisions first.
    """
    in_use = (home.releases / "current").is_file()
    release = current_release(home) if in_use else Release(f"catalog-{catalog.hash[:12]}", catalog)
    if any(read(home.logs / "decisions")):
        return release
    if not (home.data / "truth.parquet").is_file():
        raise UserError(f"There is no log in {home.logs}, and no simulated truth to make one from: serve some first.")
    decisions, events, dice = EventLog(home.logs / "decisions"), EventLog(home.logs / "events"), Random(SEED)
    truth = pd.read_parquet(home.data / "truth.parquet").set_index("decision_id")
    for record, truths in zip(_records(home, release), truth.to_dict("records"), strict=True):
        decisions.append(encode(record))
        for event in _what_follows(record, truths, dice):
            events.append(event_line(event))
    decisions.close()
    events.close()
    return release


def _records(home: Home, release: Release):
    """A decision of this release for each simulated one, from the facts that were known then."""
    tables, secret = Tables.read(home.data), home.secret()
    packed = pack_frame(tables.schema, tables.facts_of_decisions())
    budgets = {budget.name: 0 for budget in release.catalog.budgets}
    for number, row in enumerate(tables.decisions.itertuples()):
        now = row.at.timestamp()
        facts = Facts(tables.schema.unpack(packed[number].tobytes()), now - now % DAY, budgets=budgets)
        request = Request(f"{number:032x}.{row.surface}", user_key(secret, row.user_id), row.surface, now)
        yield DecisionRecord(request, facts, decide(release, request, facts))


def _what_follows(record: DecisionRecord, truth: dict[str, float], dice: Random):
    """An impression of what was shown; and a conversion with its true probability, 0 where that is NaN."""
    request, shown = record.request, record.decision.slate[:1]
    for one in shown:
        about = (request.decision_id, one.offer, request.user, request.surface)
        yield Event(f"i-{request.decision_id}", "impression", *about, request.now + 1)
        if dice.random() < truth.get(one.offer, 0.0):
            yield Event(f"c-{request.decision_id}", "convert", *about, request.now + dice.random() * DAY)


def practice_catalog(home: Home) -> Catalog:
    """The catalog that this folder works with, checked."""
    return load_catalog_of(home, None)

"""What reads the log can't tell that some of it was compacted: the answers are the same."""

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from kiosk import CATALOG, Kiosk, kiosk

from decisioning.catalog_yaml import load_catalog
from evaluation.drift.log import recorded_drift
from evaluation.recorded.replay import replay_log
from evaluation.recorded.traffic import latest_releases
from evaluation.whatif.asking import ask
from stores.home_logs import compact_logs
from stores.tables import Tables
from training.importers.log import import_log
from workbench import logged_decision

BOLDER = CATALOG.replace("value: 40, prior: 0.02", "value: 90, prior: 0.02")
RULES = load_catalog({"all.yaml": CATALOG.encode()})
NEW = 100
"""Decisions that are written after the compaction."""


def imported(shop: Kiosk) -> tuple[Any, ...]:
    told = import_log(shop.home, RULES)
    tables = Tables.read(shop.home.data)
    ordered = (tables.facts, tables.decisions, tables.outcomes)
    return told, *(frame.sort_values(list(frame.columns)[:1]).to_dict("records") for frame in ordered)


def drift(shop: Kiosk) -> dict[str, Any]:
    return recorded_drift(shop.home.logs / "decisions", RULES, last="3d").to_json()


def replayed(shop: Kiosk, last: str) -> tuple[Any, ...]:
    """Sums of fractions may differ in their last bit, as the parts do in which they are added up."""
    found = replay_log(shop.home.logs / "decisions", shop.load, last)
    tallies = {**found.log.whole, **found.log.arms}
    sums = {name: pytest.approx(tally.observed) for name, tally in tallies.items()}
    return found.decisions, found.identical, found.different, found.log.problems(), sums


READERS: dict[str, Callable[[Kiosk], Any]] = {
    "replay of all": lambda shop: replayed(shop, "all"),
    "replay of the last": lambda shop: replayed(shop, "250"),
    "replay of days": lambda shop: replayed(shop, "30h"),
    "what if": lambda shop: ask(shop.home.logs, shop.proposal(BOLDER), last="8d"),
    "drift": drift,
    "import": imported,
    "latest releases": lambda shop: latest_releases(shop.home.logs / "decisions"),
}


@pytest.fixture(scope="module")
def shops(tmp_path_factory) -> tuple[Kiosk, Kiosk]:
    """The same log twice: as it was written, and with its first part compacted."""
    plain, compacted = (kiosk(tmp_path_factory.mktemp(name)) for name in ("plain", "compacted"))
    records = sorted(plain.records(900, days=12.0, users=60), key=lambda one: one.request.now)
    for shop in (plain, compacted):
        (shop.home.path / "secret.key").write_text("5e" * 32)
        shop.log(records[:-NEW], seed=1)
        if shop is compacted:
            compact_logs(shop.home)
        shop.log(records[-NEW:], seed=2)
    assert list((compacted.home.logs / "tables" / "decisions").glob("day=*"))
    return plain, compacted


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_the_same_in_compacted_days_and_in_segments(shops, reader):
    found, expected = (READERS[reader](shop) for shop in reversed(shops))
    assert found == expected


def test_a_decision_of_a_compacted_day_is_explained_from_its_exact_record(shops):
    plain, compacted = shops
    table = next((compacted.home.logs / "tables" / "decisions").glob("day=*/*.parquet"))
    named = pq.read_table(table)["decision_id"][0].as_py()
    assert logged_decision(compacted.home, named) == logged_decision(plain.home, named)

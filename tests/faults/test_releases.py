"""Releases that come while two workers serve: good ones, damaged ones, and ones that would take a process down."""

import time
from dataclasses import replace

import phones
import pytest
from activating import activate, in_use
from steady_load import SteadyLoad
from trials import agreeing

from decisioning.catalog_yaml import load_catalog
from decisioning.engine import decide
from models.artifact import record_golden
from models.calibration import Platt
from models.encoding import Encoding
from stores.log import reader as log_reader
from stores.log.decision_log import decode
from stores.releases import ReleaseStore

BANNER = {"surface": "banner", "context": {"device": "phone", "minutes": 5.0}}


def version(number: int) -> dict[str, bytes]:
    """The files of a release whose answers tell it from others: its offers and its model bear its number."""
    catalog = phones.CATALOG.replace(b"annual", b"annual%d" % number).replace(b"generic", b"generic%d" % number)
    model = phones.fitted()
    encoding = Encoding.of(load_catalog({"all.yaml": catalog}), ["banner"], [f"annual{number}"])
    golden = [(row.features, row.surface) for row in model.golden]
    named = record_golden(replace(model, version=number, encoding=encoding), golden)
    return phones.release_files(phones.saved(named), catalog)


@pytest.fixture
def home(home):
    """Holds one release with a model."""
    activate(home, version(1))
    return home


@pytest.fixture
def pair(serve, home):
    return serve("", "--workers", "2")


def releases(server) -> list[str]:
    return [one["release"] for one in server.http.get("/version").json()["workers"]]


def is_by_model(server, model: str) -> bool:
    """A worker that is behind, on a busy machine, spares itself the model."""
    return server.decide(**BANNER)["model"] == model


def refused(server) -> list[dict]:
    return [line for line in list(server.lines) if line["event"] == "release_refused"]


def test_releases_that_change_under_load_drop_nothing_and_mix_nothing(pair, home, within):
    taken = {ReleaseStore(home.releases).current(): 1}
    coming = {number: version(number) for number in range(2, 7)}
    host, port = pair.http.base_url.host, pair.http.base_url.port
    with SteadyLoad(host, port, BANNER) as asked:
        asked.more(50)
        for number, files in coming.items():
            new = activate(home, files)
            taken[new] = number
            within(10.0, lambda new=new: releases(pair) == [new, new])
            asked.more(50)
    assert asked.failed == []
    for answer in (one.answer for one in asked.answers):
        number = taken[answer["release"]]
        assert answer["offers"][0]["offer"] in (f"annual{number}", f"generic{number}")
        assert answer["model"] in (f"upsell/{number}", "none"), (
            "none: a worker on a busy machine spares itself the model"
        )
    assert {one.answer["release"] for one in asked.answers} == set(taken)
    replays(home, {one.answer["decision_id"] for one in asked.answers})


def replays(home, asked: set[str]) -> None:
    """Every answer is on record, and comes out the same from the release that it names."""
    store, loaded, seen = ReleaseStore(home.releases), {}, set()
    for record in map(decode, log_reader.read(home.logs / "decisions")):
        name = record.decision.release
        release = loaded.get(name) or loaded.setdefault(name, store.load(name))
        assert decide(release, record.request, record.facts) == record.decision
        seen.add(record.decision.decision_id)
    assert asked <= seen


def cut(files: dict[str, bytes]) -> dict[str, bytes]:
    """A model file that ends in the middle, though every digest agrees."""
    return phones.release_files(agreeing(phones.saved(), phones.saved()["model.txt"][:2000]))


def of_other_features(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "catalog/all.yaml": files["catalog/all.yaml"].replace(b"[phone, tv]", b"[tv, phone]")}


def of_one_score(files: dict[str, bytes]) -> dict[str, bytes]:
    model = phones.fitted()
    alike = record_golden(
        replace(model, calibration=Platt(0.0, 0.5)), [(row.features, row.surface) for row in model.golden]
    )
    return phones.release_files(phones.saved(alike))


def of_a_bad_catalog(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "catalog/more.yaml": b"offers: {broken: }"}


FAULTS = {
    cut: "is cut off",
    of_other_features: "other features than the catalog declares",
    of_one_score: "scores every user and every offer alike",
    of_a_bad_catalog: "broken",
}


def test_what_is_wrong_with_a_new_release_is_told_once_and_changes_no_worker(pair, home, within):
    good = ReleaseStore(home.releases).current()
    for number, (fault, words) in enumerate(FAULTS.items()):
        bad = activate(home, fault(in_use(home) if number == 0 else version(1)))
        within(10.0, lambda bad=bad: bad in [line["release"] for line in refused(pair)])
        assert words in refused(pair)[-1]["why"]
        assert refused(pair)[-1]["kept"] == good
        within(2.0, lambda bad=bad: pair.http.get("/version").json()["refused"] == bad)  # a line comes before the board
    time.sleep(0.3)  # for workers that would take it all the same
    assert releases(pair) == [good, good]
    assert len(refused(pair)) == len(FAULTS), "one trial for all workers, one line for all attempts"
    within(10.0, lambda: is_by_model(pair, "upsell/1"))
    assert pair.http.get("/readyz").status_code == 200
    mended = activate(home, version(2))
    within(10.0, lambda: releases(pair) == [mended, mended])
    assert pair.http.get("/version").json()["refused"] is None


def damage(home, release: str) -> None:
    """What a bad disk does to a release."""
    file = home.releases / release / "models" / "upsell" / "model.txt"
    file.write_bytes(file.read_bytes()[:100])


def test_a_server_whose_current_release_is_damaged_starts_with_the_one_before(serve, home, within):
    before, current = ReleaseStore(home.releases).current(), activate(home, version(2))
    damage(home, current)
    server = serve("", "--workers", "2")
    assert releases(server) == [before, before]
    (line,) = refused(server)
    assert (line["release"], line["kept"]) == (current, before)
    assert server.http.get("/readyz").status_code == 200
    within(10.0, lambda: is_by_model(server, "upsell/1"))


def test_where_no_release_is_good_the_rules_of_the_catalog_decide(serve, home, tmp_path):
    for folder in home.releases.iterdir():
        if (folder / "models").exists():
            damage(home, folder.name)
        elif folder.is_dir():
            (folder / "catalog" / "all.yaml").unlink()
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "all.yaml").write_bytes(phones.CATALOG)
    server = serve("", "--workers", "2", "--catalog", str(rules))
    assert all(name.startswith("catalog-") for name in releases(server))
    answer = server.decide(**BANNER)
    assert (answer["source"], answer["model"]) == ("rules", "none")
    assert [line["kept"] for line in refused(server)] == ["none"]


def test_a_registry_that_is_down_is_nothing_to_a_server_that_starts(serve, home, within):
    server = serve("", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    within(10.0, lambda: is_by_model(server, "upsell/1"))
    assert server.http.get("/readyz").status_code == 200

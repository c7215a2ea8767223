"""A version beside the champion, on the server itself: scored, logged, timed, and shown in its share alone."""

import asyncio
import json
from dataclasses import replace
from shutil import copytree

import pytest

from decisioning.domain import Event
from decisioning.errors import UserError
from evaluation.gate.lines import Verdict, shadow_lines
from evaluation.recorded.log_checks import check_log
from features.schema import Schema
from features.snapshots import build_snapshot, snapshot_rows
from models import artifact
from serving.deciding import decide
from serving.guarded.breaker import GuardedStore
from serving.runtime import Runtime, prepared
from stores.home import Home
from stores.log.decision_log import CHALLENGER, decode, event_line
from stores.log.event_log import EventLog
from stores.log.reader import read
from stores.online.memory_store import MemoryStore
from stores.publishing.publish import publish
from stores.registry import CHALLENGER as ALIAS
from stores.registry import Registry
from stores.releases import ReleaseStore
from training.evidence import rivalry
from training.prepare import silent
from training.promote import promote
from training.shadowing import challenge, log_problems, shadow_of, withdraw

BY = {"who": "ann", "why": "worth a look", "now": 1_780_000_000.0}
READERS = 400


@pytest.fixture
def home(trained_home, catalog, tmp_path):
    """Two versions, and no release yet."""
    where = Home(tmp_path / "home")
    copytree(trained_home.path, where.path, ignore=lambda *_: ["releases", "logs"])
    file = where.data / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "features": Schema.of(catalog.features).to_json()}))
    return where


@pytest.fixture
def releases(home):
    return ReleaseStore(home.releases)


@pytest.fixture
def champion(home, catalog_files, releases):
    promote(home, catalog_files, None, 1, **BY)
    return releases.current()


def serve(home, releases, *, times=1, distort=lambda rows: rows, fresh=()):
    """`READERS` decisions by the release in use, over the store in memory; returns the answers and the records."""
    snapshot = build_snapshot(home.data, home.snapshots)
    store = MemoryStore()
    rows = list(distort(snapshot_rows(snapshot, home.secret())))
    publish(store, rows, schema=snapshot.schema, as_of=snapshot.as_of, snapshot_id="s", count=len(rows))
    for user, _ in rows[: READERS // 2] if fresh else ():
        asyncio.run(store.refresh(user, dict(fresh), snapshot.as_of + 60.0))
    folder = home.logs / "decisions"
    runtime = Runtime(
        home.secret(),
        GuardedStore(store),
        EventLog(folder),
        EventLog(home.logs / "events"),
        clock=lambda: snapshot.as_of + 3600.0,
        current=prepared(releases.load(releases.current())),
    )

    async def story():
        asked = [{"user_id": f"u{n % READERS}", "surface": "front"} for n in range(READERS * times)]
        answers = [json.loads(await decide.answer(runtime, json.dumps(body).encode())) for body in asked]
        await runtime.stop()
        return answers

    before = len(list(read(folder))) if folder.is_dir() else 0
    answers = asyncio.run(story())
    return answers, [decode(line) for line in read(folder)][before:]


def test_a_shadow_is_scored_and_logged_and_timed_but_never_shown(home, releases, champion):
    plain, alone = serve(home, releases)
    made = challenge(home, None, 2, 0.0, **BY)
    assert (made.release, made.champion, made.version, made.share) == (releases.current(), 1, 2, 0.0)
    answers, records = serve(home, releases)
    assert all(CHALLENGER not in record.durations for record in alone)
    assert all(0 < record.durations[CHALLENGER] < record.durations["decide"] for record in records)
    policies = [record.decision.policy for record in records]
    assert {policy.canary for policy in policies} == {0}
    assert len({policy.challenger for policy in policies}) == 1, "the best single offer is the same for all"
    assert len({policy.champion for policy in policies}) == 2
    # By who sees what, nothing has changed: the same shares for the same choices.
    assert [p.weight(p.champion) for p in policies] == [
        r.decision.policy.weight(r.decision.policy.champion) for r in alone
    ]
    assert {answer["model"] for answer in answers} == {answer["model"] for answer in plain} == {"passes/1"}


def test_what_a_shadow_showed_is_evidence(home, releases, champion):
    challenge(home, None, 2, 0.0, **BY)
    serve(home, releases, times=4)
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 2))
    shadow = shadow_of(home, releases, model)
    assert shadow.decisions == shadow.timed == shadow.replayed == shadow.identical == 4 * READERS
    assert (shadow.compared, shadow.off, shadow.uncompared) == (4 * READERS * 2, 0, 0)
    assert 0 < shadow.scoring_p99 <= shadow.p99
    found = {line.check: line.verdict for line in shadow_lines(replace(shadow, p99=0.001))}
    assert found == {"skew": Verdict.PASS, "latency": Verdict.PASS, "replay": Verdict.PASS}
    assert shadow_of(home, releases, replace(model, version=9)) is None


def test_features_that_reached_the_server_otherwise_are_skew(home, releases, champion):
    """One reader in twenty is served the vector of another."""
    challenge(home, None, 2, 0.0, **BY)

    def swapped(rows):
        rows = list(rows)
        return [(user, rows[n - 1][1] if n % 20 == 0 else packed) for n, (user, packed) in enumerate(rows)]

    serve(home, releases, times=2, distort=swapped)
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 2))
    shadow = shadow_of(home, releases, model)
    assert 0 < shadow.off < 0.1 * shadow.compared
    (line,) = [line for line in shadow_lines(shadow) if line.check == "skew"]
    assert line.verdict is Verdict.FAIL


def test_what_was_fresher_than_the_snapshot_is_no_skew(home, releases, champion):
    challenge(home, None, 2, 0.0, **BY)
    _, records = serve(home, releases, times=2, fresh={"age": 99})
    assert any(record.facts.fresh for record in records)
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 2))
    shadow = shadow_of(home, releases, model)
    left_out = sum(len(record.facts.fresh) for record in records)
    assert (shadow.compared, shadow.off) == (2 * READERS * 2 - left_out, 0)
    assert shadow.identical == shadow.replayed == 2 * READERS, "replay sees what the decision saw"


def test_decisions_whose_snapshot_is_gone_are_not_compared_and_said(home, releases, champion):
    challenge(home, None, 2, 0.0, **BY)
    serve(home, releases)
    for manifest in home.snapshots.glob("*/manifest.json"):
        manifest.unlink()
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 2))
    shadow = shadow_of(home, releases, model)
    assert (shadow.compared, shadow.uncompared) == (0, READERS)
    (line,) = [line for line in shadow_lines(shadow) if line.check == "skew"]
    assert line.verdict is Verdict.UNSHOWN


def test_a_canary_is_shown_in_its_share_and_the_log_says_so(home, releases, champion):
    challenge(home, None, 2, 0.25, **BY)
    _, records = serve(home, releases, times=3)
    assert check_log(record.decision for record in records).ok
    differing = [r.decision for r in records if r.decision.policy.challenger != r.decision.policy.champion]
    shown = sum(decision.first == decision.policy.challenger for decision in differing) / len(differing)
    assert shown == pytest.approx(0.25 + 0.05 / 3, abs=0.05)


def test_a_filter_behind_the_draw_and_a_torn_line_are_told_and_promotion_is_refused(
    home, catalog_files, releases, champion
):
    challenge(home, None, 2, 0.25, **BY)
    serve(home, releases, times=3)
    model = artifact.load(Registry(home.mlflow_uri, home.artifacts).files("passes", 2))
    assert log_problems(home, releases, model) == ()

    def is_kept(decision):
        return decision.policy.challenger == decision.policy.champion or decision.first != decision.policy.challenger

    folder = home.logs / "decisions"
    for file in folder.rglob("*.jsonl"):
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(line for line in lines if is_kept(decode(line).decision)) + lines[0][:700])
    assert any("the challenger's choice" in problem for problem in log_problems(home, releases, model))
    with pytest.raises(UserError, match=r"FAIL +log: it is not what its probabilities say"):
        promote(home, catalog_files, None, 2, **BY)


def test_own_traffic_that_is_too_little_to_tell_is_said_beside_the_tables(home, catalog, releases, champion):
    challenge(home, None, 2, 0.25, **BY)
    _, records = serve(home, releases)
    request, shown = records[0].request, records[0].decision.first
    later = request.now + 20 * 86_400.0  # all windows have closed by then
    log = EventLog(home.logs / "events")
    log.append(event_line(Event("e", "convert", request.decision_id, shown, request.user, request.surface, later)))
    log.close()
    registry = Registry(home.mlflow_uri, home.artifacts)
    ours, theirs = (artifact.load(registry.files("passes", version)) for version in (2, 1))
    found = rivalry(home, catalog, ours, theirs, silent).comparison
    assert found.note is None
    procedures, own = found.source.split("; own traffic: ")
    assert procedures == "3,000 decisions; its procedure and that of passes/1 cross-fitted"
    assert own.startswith("400 decisions, too few: effective sample size")


def test_the_champion_and_its_catalog_stay_what_they_were(home, releases, champion):
    before = releases.files(champion)
    files = releases.files(challenge(home, None, 2, 0.05, **BY).release)
    assert {path: files[path] for path in before} == before
    assert {path.split("/")[0] for path in files.keys() - before.keys()} == {"challengers", "challenge.json"}
    assert releases.load(releases.current()).catalog.exploration.challenger == 0.05
    registry = Registry(home.mlflow_uri, home.artifacts)
    assert registry.alias("passes", ALIAS).version == 2
    assert json.loads(registry.version("passes", 2).tags["challenge"])["share"] == 0.05


def test_taken_out_again_the_release_is_the_one_before(home, releases, champion):
    challenge(home, None, 2, 0.05, **BY)
    assert withdraw(home, **BY)[1] == champion == releases.current()
    with pytest.raises(UserError, match="Nothing challenges"):
        withdraw(home, **BY)


def test_without_a_share_the_catalog_says_it(home, catalog_files, releases):
    promote(home, {**catalog_files, "e.yaml": b"exploration: {uniform: 0.05, challenger: 0.1}\n"}, None, 1, **BY)
    assert challenge(home, None, 2, None, **BY).share == 0.1


@pytest.mark.parametrize(
    ("version", "share", "message"),
    [
        (1, 0.0, "passes/1 is the champion itself"),
        (2, 0.6, "--share 0.6"),
        (2, -0.1, "--share -0.1"),
        (9, 0.0, "no version 9"),
    ],
)
def test_what_can_challenge_nothing_is_refused_and_changes_nothing(home, releases, champion, version, share, message):
    with pytest.raises(UserError, match=message):
        challenge(home, None, version, share, **BY)
    assert releases.current() == champion


def test_without_a_release_there_is_nothing_to_challenge(home):
    with pytest.raises(UserError, match="no release yet"):
        challenge(home, None, 2, 0.0, **BY)


def test_new_rules_keep_the_challenger_and_a_new_champion_does_not(home, catalog_files, releases, champion):
    challenge(home, None, 2, 0.05, **BY)
    other = {**catalog_files, "t.yaml": b"tests: []\n"}
    promote(home, other, None, "champion", **BY)
    assert sorted(releases.load(releases.current()).challengers) == ["passes"]
    promote(home, other, None, 2, force=True, **BY)
    loaded = releases.load(releases.current())
    assert (loaded.challengers, loaded.catalog.exploration.challenger) == ({}, 0.0)

import copy
import json
import socket
from dataclasses import replace
from shutil import copytree, rmtree

import pandas as pd
import pytest
from typer.testing import CliRunner

from decisioning.catalog_yaml import load_catalog
from decisioning.domain import Facts, Request
from decisioning.engine import decide
from decisioning.errors import UserError
from evaluation.gate.lines import Verdict
from models import artifact
from stores.home import Home
from stores.registry import CHAMPION, Registry
from stores.releases import ReleaseStore
from training.evidence import against_best, rivalry
from training.prepare import silent
from training.promote import gate, promote
from training.rollback import rollback
from training.train import train
from verbs.learning import learning

START = pd.Timestamp("2026-03-01", tz="UTC")
FAILING_TEST = b"tests:\n  - {name: no crime, given: {}, on: front, expect: {never: [crime_pass]}}\n"
CERTAINTY = "certainty against the best single offer"
BY = {"who": "ann", "why": "it earns more", "now": 1_780_000_000.0}


@pytest.fixture
def registry(trained_home):
    return Registry(trained_home.mlflow_uri, trained_home.artifacts)


@pytest.fixture
def releases(trained_home):
    return ReleaseStore(trained_home.releases)


@pytest.fixture
def proven(registry):
    """The model with a gain to show, and its evidence."""
    files = registry.files("passes", 1)
    return artifact.load(files), json.loads(files["evidence.json"])


def recorded(releases):
    """How the model in use came into use, as its release has it."""
    return json.loads(releases.files(releases.current())["evidence.json"])["passes"]


def results(lines):
    return {line.check: line.passed for line in lines}


def changed(evidence, **values):
    """The evidence with another DR record of the trained policy."""
    copied = copy.deepcopy(evidence)
    for record in copied["policy_values"]:
        if (record["policy"], record["outcome"], record["estimator"]) == ("trained", copied["objective"], "dr"):
            record.update(values)
    return copied


def test_a_version_with_a_gain_becomes_the_release_in_use(trained_home, catalog_files, registry, releases):
    promoted = promote(trained_home, catalog_files, None, 1, **BY)
    assert releases.current() == promoted.release
    assert registry.alias("passes", CHAMPION).version == 1
    record = json.loads(registry.version("passes", 1).tags["gate"])
    assert (record["release"], record["who"], record["forced"]) == (promoted.release, "ann", False)
    assert recorded(releases)["evidence"]["decisions"] == 3000
    assert releases.history()[-1].why == "it earns more"


def test_the_release_decides_with_the_model(trained_home, catalog_files, releases):
    release = releases.load(promote(trained_home, catalog_files, "passes", "1", **BY).release)
    assert sorted(release.scorers) == ["passes"]
    facts = Facts({"likes_crime": True, "age": 30}, as_of=BY["now"])
    decision = decide(release, Request("d1", "u1", "front", BY["now"]), facts)
    assert decision.model == "passes/1"
    assert decision.policy.champion == "crime_pass"


def test_promoting_the_same_again_is_the_same_release(trained_home, catalog_files):
    first, again = (promote(trained_home, catalog_files, None, 1, **BY) for _ in range(2))
    assert first.release == again.release


def test_without_a_version_the_challenger_goes_and_has_to_match_the_champion(trained_home, catalog_files, releases):
    """Version 2 is the best single offer, and worth a third less than the champion."""
    promote(trained_home, catalog_files, None, 1, **BY)
    before = releases.current()
    with pytest.raises(
        UserError, match=r"passes/2 was not promoted(.|\n)*FAIL       worth against the champion passes/1"
    ):
        promote(trained_home, catalog_files, None, None, **BY)
    assert releases.current() == before


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"diff": -0.001}, "worth against the best single offer"),
        ({"diff_lower": -0.01}, "certainty against the best single offer"),
        ({"diff_lower": None}, "certainty against the best single offer"),
        ({"note": "not enough support: 3 matched positives, needs 10"}, "support against the best single offer"),
    ],
)
def test_each_line_of_evidence_can_fail(catalog, proven, change, fails):
    model, evidence = proven
    assert all(results(gate(catalog, model, evidence)).values())
    found = results(gate(catalog, model, changed(evidence, **change)))
    assert [check for check, passed in found.items() if not passed] == [fails]


def test_a_control_that_came_out_wrong_refuses_whatever_was_found(catalog, proven):
    model, evidence = proven
    wrong = copy.deepcopy(evidence)
    wrong["controls"][0] |= {"held": False, "value": 0.75}
    (line,) = [line for line in gate(catalog, model, wrong) if not line.passed]
    assert str(line).endswith("should be 1 and is 0.75")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"value: 1", b"value: 2"), (b"within: 14d", b"within: 7d"), (b"converts_on: convert", b"converts_on: click")],
)
def test_evidence_of_other_terms_is_none(catalog_files, catalog, proven, old, new):
    assert results(gate(catalog, *proven))["terms"]
    changed_files = {name: text.replace(old, new) for name, text in catalog_files.items()}
    assert changed_files != catalog_files
    assert not results(gate(load_catalog(changed_files), *proven))["terms"]


def test_the_simplest_policy_without_support_is_not_called_proven(catalog, proven):
    model, evidence = proven
    thin = copy.deepcopy(evidence)
    for record in thin["policy_values"]:
        record["note"] = record["diff_note"] = "not enough support: effective sample size 22, needs 1,000"
    (line,) = [line for line in gate(catalog, replace(model, shrinkage=0.0), thin) if line.check == "worth"]
    assert line.verdict is Verdict.UNSHOWN
    assert line.detail.endswith("effective sample size 22, needs 1,000")


def test_a_bound_within_one_percent_of_the_best_single_offer_passes(catalog, proven):
    model, evidence = proven
    best = next(r["value"] for r in evidence["policy_values"] if r["policy"] == "best_single_offer")
    assert results(gate(catalog, model, changed(evidence, diff_lower=-0.0099 * best)))[CERTAINTY]
    assert not results(gate(catalog, model, changed(evidence, diff_lower=-0.0101 * best)))[CERTAINTY]


def test_no_evidence_no_promotion(catalog, proven):
    assert not results(gate(catalog, proven[0], None))["evidence"]


@pytest.fixture
def harmful(trained_home, registry, proven):
    """A version that its own evidence speaks against."""
    files = registry.files("passes", 1)
    files["evidence.json"] = json.dumps(changed(proven[1], diff=-0.02, diff_lower=-0.04)).encode()
    return registry.register("passes", files, {}, {}, {}).version


def test_a_harmful_version_is_refused_with_every_line_and_changes_nothing(
    trained_home, catalog_files, registry, releases, harmful
):
    before, champion = releases.current(), registry.alias("passes", CHAMPION)
    with pytest.raises(UserError) as refused:
        promote(trained_home, catalog_files, None, harmful, **BY)
    text = str(refused.value)
    assert "FAIL       worth against" in text
    assert "FAIL       certainty against" in text
    assert "pass       schema" in text
    assert "--force" in text
    assert releases.current() == before
    assert registry.alias("passes", CHAMPION) == champion


def test_force_needs_a_reason_and_is_recorded(trained_home, catalog_files, registry, releases, harmful):
    with pytest.raises(UserError, match="--why"):
        promote(trained_home, catalog_files, None, harmful, who="ann", why=" ", force=True, now=1.0)
    promoted = promote(trained_home, catalog_files, None, harmful, force=True, **BY)
    assert promoted.forced
    assert json.loads(registry.version("passes", harmful).tags["gate"])["forced"]
    assert recorded(releases)["forced"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("features.yaml", b"age: {type: int}", b"age: {type: float}", "features that changed since training: age"),
        ("features.yaml", b"age: {type: int}", b"height: {type: int}", "changed since training: age, height"),
        ("tests.yaml", b"", FAILING_TEST, "FAIL       catalog tests"),
    ],
)
def test_a_release_that_would_not_work_cannot_be_forced(trained_home, catalog_files, file, old, new, message):
    files = {**catalog_files, file: catalog_files.get(file, b"").replace(old, new) if old else new}
    with pytest.raises(UserError, match=message):
        promote(trained_home, files, None, 1, force=True, **BY)


def test_the_other_models_of_the_release_in_use_stay(trained_home, catalog_files, registry, releases):
    promote(trained_home, catalog_files, None, 1, **BY)
    more = catalog_files["offers.yaml"] + (
        b"  prose_pass: {owner: pm, group: passes, surfaces: [front], score: {model: prose, value: 1}}\n"
    )
    files = registry.files("passes", 1)
    prose = registry.register("prose", files, {}, {}, {}).version
    promoted = promote(trained_home, {**catalog_files, "offers.yaml": more}, "prose", prose, **BY)
    assert sorted(releases.load(promoted.release).scorers) == ["passes", "prose"]


def test_models_that_the_release_lacks_and_offers_that_were_never_trained_on_are_said(trained_home, catalog_files):
    files = {name: text.replace(b"model: passes", b"model: pases", 1) for name, text in catalog_files.items()}
    files["new.yaml"] = b"offers: {noir_pass: {owner: a, group: passes, surfaces: [front], score: {model: passes}}}"
    lines = {line.check: line.detail for line in promote(trained_home, files, "passes", 1, **BY).lines}
    assert lines["models"] == "not in the release, so offers that ask for them go by priors: pases"
    assert lines["offers"].endswith("never trained on, scored at their group's rate: noir_pass")


@pytest.fixture
def apart(trained_home, tmp_path):
    """A work folder of its own, with the versions and without a release."""
    copytree(trained_home.path, tmp_path / "home", ignore=lambda *_: ["releases", "logs"])
    return Home(tmp_path / "home")


def test_an_offer_that_left_the_catalog_is_named_and_the_model_goes_on(apart, catalog_files):
    promote(apart, catalog_files, None, 1, **BY)
    gone = {**catalog_files, "offers.yaml": catalog_files["offers.yaml"].replace(b"poetry_pass", b"prose_pass")}
    promoted = promote(apart, gone, None, "champion", **BY)
    (line,) = [line for line in promoted.lines if line.check == "offers"]
    assert line.passed
    assert "retired since: poetry_pass" in line.detail
    assert "never trained on, scored at their group's rate: prose_pass" in line.detail
    release = ReleaseStore(apart.releases).load(promoted.release)
    decision = decide(release, Request("d1", "u1", "front", BY["now"]), Facts({"likes_crime": True}, as_of=BY["now"]))
    assert decision.eligible == ("crime_pass", "prose_pass")


def test_new_rules_need_no_evidence_and_keep_the_record_of_how_the_champion_came(apart, catalog_files):
    releases, registry = ReleaseStore(apart.releases), Registry(apart.mlflow_uri, apart.artifacts)
    promote(apart, catalog_files, None, 1, **BY)
    before, tag = recorded(releases), registry.version("passes", 1).tags["gate"]
    promoted = promote(apart, {**catalog_files, "t.yaml": b"tests: []\n"}, None, "champion", **BY)
    assert promoted.lines[0].check == "champion"
    assert recorded(releases) == before
    assert registry.version("passes", 1).tags["gate"] == tag


def test_of_two_promotions_at_once_one_is_refused_and_leaves_no_trace(apart, catalog_files, monkeypatch):
    """The other one comes between the evidence and the release: a whole promotion of its own."""
    releases, registry = ReleaseStore(apart.releases), Registry(apart.mlflow_uri, apart.artifacts)
    promote(apart, catalog_files, None, 1, **BY)
    publish, rival = ReleaseStore.publish, {}

    def interrupted(store, *args, **more):
        found = publish(store, *args, **more)
        if not rival:
            rival["running"] = True
            other = {**catalog_files, "t.yaml": b"tests: []\n"}
            rival["release"] = promote(apart, other, None, 1, who="bob", why="first", now=2.0).release
        return found

    monkeypatch.setattr(ReleaseStore, "publish", interrupted)
    with pytest.raises(UserError, match="somebody else changed it"):
        promote(apart, catalog_files, None, 2, force=True, **BY)
    assert releases.current() == rival["release"]
    assert releases.history()[-1].who == "bob"
    assert registry.alias("passes", CHAMPION).version == 1
    assert "gate" not in registry.version("passes", 2).tags


def test_the_first_release_can_be_lost_to_another_one_too(apart, catalog_files, monkeypatch):
    releases, publish = ReleaseStore(apart.releases), ReleaseStore.publish

    def interrupted(store, *args, **more):
        found = publish(store, *args, **more)
        monkeypatch.setattr(ReleaseStore, "publish", publish)
        promote(apart, catalog_files, None, 2, who="bob", why="first", now=2.0)
        return found

    monkeypatch.setattr(ReleaseStore, "publish", interrupted)
    with pytest.raises(UserError, match="somebody else changed it"):
        promote(apart, catalog_files, None, 1, **BY)
    assert (len(releases.history()), releases.history()[0].who) == (1, "bob")


def test_rollback_restores_the_champions(apart, catalog_files):
    releases, registry = ReleaseStore(apart.releases), Registry(apart.mlflow_uri, apart.artifacts)
    first = promote(apart, catalog_files, None, 1, **BY).release
    promote(apart, catalog_files, None, 2, force=True, **BY)
    assert registry.alias("passes", CHAMPION).version == 2
    assert recorded(releases)["forced"]
    second = releases.current()
    assert rollback(apart, who="ann", why="it fell", now=3.0) == (second, first)
    assert releases.current() == first
    assert registry.alias("passes", CHAMPION).version == 1


def test_rolled_back_to_before_its_first_release_a_model_has_no_champion(apart, catalog_files, proven):
    registry = Registry(apart.mlflow_uri, apart.artifacts)
    promote(apart, catalog_files, None, 1, **BY)
    more = catalog_files["offers.yaml"] + (
        b"  prose_pass: {owner: pm, group: passes, surfaces: [front], score: {model: prose, value: 1}}\n"
    )
    prose = registry.register("prose", registry.files("passes", 1), {}, {}, {}).version
    promote(apart, {**catalog_files, "offers.yaml": more}, "prose", prose, **BY)
    assert registry.alias("prose", CHAMPION).version == prose
    rollback(apart, who="ann", why="it fell", now=3.0)
    assert registry.alias("prose", CHAMPION) is None
    assert registry.alias("passes", CHAMPION).version == 1


def test_data_that_cannot_tell_are_no_evidence_against_a_champion(apart, catalog_files):
    promote(apart, catalog_files, None, 1, **BY)
    rmtree(apart.data)
    with pytest.raises(UserError, match=r"FAIL       support against the champion passes/1: the data in .* can't tell"):
        promote(apart, catalog_files, None, 2, **BY)


def test_a_champion_is_judged_as_it_is_by_what_came_after_its_training(apart, catalog_files, make_history):
    """Readers changed their minds: what the champion shows is now wrong, whatever its procedure would learn."""
    promote(apart, catalog_files, None, 1, **BY)
    later = make_history(seed=5, right=0.1, wrong=0.35, start=START + pd.Timedelta(days=30))
    later.write(apart.data)
    train(apart, load_catalog(catalog_files), config="logistic")
    lines = promote(apart, catalog_files, None, None, **BY).lines
    (worth,) = [line.detail for line in lines if line.check == "worth against the champion passes/1"]
    assert 0.15 < float(worth.split()[0]) < 0.35  # 0.35 instead of 0.1
    (support,) = [line.detail for line in lines if line.check == "support against the champion passes/1"]
    assert "passes/1 as it is on decisions after its training" in support


def test_the_bound_against_a_constant_champion_is_the_one_against_the_best_single_offer(apart, catalog, make_history):
    """It is the same comparison on the same folds. With little to learn, folds owe one another much."""
    make_history(seed=1, right=0.22, wrong=0.2).write(apart.data)
    registry = Registry(apart.mlflow_uri, apart.artifacts)
    files = [registry.files("passes", train(apart, catalog, config=name).version) for name in ("constant", "logistic")]
    champion, candidate = map(artifact.load, files)
    best = against_best(json.loads(files[1]["evidence.json"]))
    found = rivalry(apart, catalog, candidate, champion, silent).comparison
    assert candidate.shrinkage > champion.shrinkage == 0.0
    assert (found.value, found.difference) == pytest.approx((best.value, best.difference))
    assert found.lower == pytest.approx(best.lower)  # 0.0046; by user alone 0.0074


def test_the_same_procedure_on_the_same_decisions_changes_nothing_and_passes(apart, catalog_files):
    """Whatever seeds drew the folds of its training."""
    promote(apart, catalog_files, None, 1, **BY)
    train(apart, load_catalog(catalog_files), config="logistic", seed=7)
    lines = {line.check: line.detail for line in promote(apart, catalog_files, None, None, **BY).lines}
    assert lines["the champion passes/1"].startswith("chooses the same on every decision (3,000 decisions")


def test_the_verbs_tell_a_refusal_a_challenge_and_its_end(apart, catalog_files, tmp_path):
    for name, text in catalog_files.items():
        (tmp_path / "home" / "catalog").mkdir(exist_ok=True)
        (tmp_path / "home" / "catalog" / name).write_bytes(text)

    def segue(*words):
        return CliRunner().invoke(learning, [*words, "--home", str(apart.path), "--json"])

    assert "no release yet" in str(segue("challenge", "--version", "1", "--why", "a trial").exception)
    promoted = json.loads(segue("promote", "--version", "1", "--why", "it earns more").stdout)
    assert promoted["lines"][0] == "pass       evidence: 3,000 decisions of 3,000 users"
    assert "passes/2 was not promoted" in str(segue("promote", "--version", "2").exception)
    assert "--why" in str(segue("challenge", "--version", "2").exception)
    assert "--end" in str(segue("challenge", "--version", "2", "--end", "--why", "so").exception)
    made = json.loads(segue("challenge", "--version", "2", "--share", "0", "--why", "a trial").stdout)
    assert (made["champion"], made["version"], made["share"]) == (1, 2, 0.0)
    assert json.loads(segue("challenge", "--end", "--why", "seen enough").stdout)["to"] == promoted["release"]


def test_a_registry_that_is_down_is_told_as_such(apart, catalog_files, monkeypatch):
    promote(apart, catalog_files, None, 1, **BY)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for version in (None, 1, "champion"):
            with pytest.raises(UserError, match="can't be reached"):
                promote(apart, catalog_files, None, version, **BY)
        assert len(ReleaseStore(apart.releases).history()) == 1

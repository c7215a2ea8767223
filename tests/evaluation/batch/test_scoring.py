"""Scores of everybody: the model's own, in files that are whole or not there."""

from dataclasses import dataclass, replace
from operator import mul

import pandas as pd
import pyarrow.parquet as pq
import pytest
from post_office import NOW, model_of

from decisioning.domain import Facts, Request
from decisioning.errors import UserError
from evaluation.batch.jobs import Question, score_all
from evaluation.batch.versions import Tried
from models import artifact
from models.frames import facts_row
from scaling.local import Local


def score(office, out, *, workers=1, top=None, **more):
    asked = {"load": office.load, "surface": "push", "snapshot": office.snapshot, "users": None, "at": NOW, **more}
    return score_all(Question(out=out, **asked), Local(workers), top=top)


def rows(folder) -> pd.DataFrame:
    return pq.read_table(folder).to_pandas()


def alone(office, surface, user: pd.DataFrame, context=None):
    """What the release says of one user on the way of a request: by offer, p_convert, effect and score."""
    release, schema = office.release, office.snapshot.schema
    plan = release.plans[surface]
    values = facts_row(release.scorers["upsell"].encoding, user, 0)
    facts = Facts(schema.unpack(schema.pack(values)), as_of=office.snapshot.as_of)
    known = release.knowledge.values(Request("d", "u", surface, NOW, context or {}), facts)
    worth = dict(zip([offer.name for offer in plan.offers], plan.factors(NOW, {}).worth, strict=True))
    found = {}
    for offer in release.catalog.offers_on(surface):
        p = effect = offer.score.prior
        if offer.score.model:
            scores = release.scorers[offer.score.model].score(known, surface, (offer.name,))
            p, effect = scores.p_convert[0], scores.effect[0]
        found[offer.name] = (p, effect, mul(effect, worth[offer.name]))
    return found


@pytest.mark.parametrize("surface", ["push", "mail"])
def test_every_score_is_what_the_release_says_of_that_user_to_the_last_bit(office, tmp_path, surface):
    tally = score(office, tmp_path / "out", surface=surface)["tally"]
    assert (tally["users"], tally["stale_features"]) == (300, ["minutes"])
    found = rows(tmp_path / "out")
    assert len(found) == 300 * 4
    assert found["p_convert"].nunique() > 100  # or all this would prove little
    frame = office.snapshot.frame()
    for row in range(0, 300, 10):
        wanted = alone(office, surface, frame.iloc[[row]])
        theirs = found[found["user_id"] == frame["user_id"].iloc[row]]
        assert {
            row.offer: (row.p_convert, row.effect, row.score) for row in theirs.itertuples()
        } == wanted  # equal floats, not close ones
        assert set(theirs["model"].dropna()) == {"upsell/3"}
        assert theirs[theirs["offer"] == "poster"]["model"].isna().all()


def test_the_best_offers_come_first(office, tmp_path):
    score(office, tmp_path / "all")
    score(office, tmp_path / "best", top=2)
    every, best = rows(tmp_path / "all"), rows(tmp_path / "best")
    assert best.groupby("user_id", sort=False).size().eq(2).all()
    for user, theirs in best.groupby("user_id"):
        wanted = every[every["user_id"] == user]["score"].nlargest(2)
        assert theirs["score"].tolist() == wanted.tolist()


def test_the_context_of_a_file_of_users_counts(office, tmp_path):
    file = office.list_of(tmp_path / "u.csv", ["user-3", "who", "user-5"], device=["tv", "tv", "phone"])
    manifest = score(office, tmp_path / "out", users=file, surface="mail")
    assert manifest["tally"]["users"] == 2
    assert manifest["tally"]["file"]["unknown"] == 1
    frame, found = office.snapshot.frame().set_index("user_id"), rows(tmp_path / "out")
    for user, device in (("user-3", "tv"), ("user-5", "phone")):
        wanted = alone(office, "mail", frame.loc[[user]], {"device": device})
        assert {row.offer: row.p_convert for row in found[found["user_id"] == user].itertuples()} == {
            offer: p for offer, (p, _, _) in wanted.items()
        }


def test_two_processes_write_the_same_files_as_one(crowd, tmp_path):
    file = crowd.list_of(tmp_path / "u.csv")
    names = [score(crowd, tmp_path / f"out{n}", workers=n, users=file, part_rows=2048)["parts"] for n in (1, 2)]
    assert names[0] == names[1] == [f"part-{n:05d}.parquet" for n in range(3)]
    for name in names[0]:
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


@dataclass(frozen=True)
class Unlucky:
    """An engine that stops before a part."""

    stop: int

    def map(self, task, parts):
        opened = task()
        for part in parts:
            if part.number == self.stop:
                raise KeyboardInterrupt
            yield opened(part)


def test_a_run_that_was_interrupted_goes_on_where_it_was(crowd, tmp_path):
    file, out = crowd.list_of(tmp_path / "u.csv"), tmp_path / "out"
    question = Question(crowd.load, "push", crowd.snapshot, file, out, None, part_rows=2048, now=NOW)
    with pytest.raises(KeyboardInterrupt):
        score_all(question, Unlucky(2))
    assert not (out / "_manifest.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert sorted(before) == ["part-00000.parquet", "part-00001.parquet"]
    manifest = score_all(replace(question, now=NOW + 999), Local(1))
    assert manifest["at"] == NOW  # the moment at which it began
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert manifest["tally"]["users"] == 4200
    score(crowd, tmp_path / "whole", users=file, part_rows=2048)
    assert rows(out).equals(rows(tmp_path / "whole"))
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "_manifest.json", "_plan.json", *sorted(before), "part-00002.parquet",
    ]  # fmt: skip


def test_the_same_again_changes_nothing(office, tmp_path):
    first = score(office, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert score(office, tmp_path / "out") == first
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_result_is_replaced_only_when_told_so(office, tmp_path):
    score(office, tmp_path / "out")
    with pytest.raises(
        UserError, match=r"another surface: push, and not mail\. Choose another --out, or say --replace"
    ):
        score(office, tmp_path / "out", surface="mail")
    assert len(rows(tmp_path / "out")) == 1200
    manifest = score(office, tmp_path / "out", surface="mail", replace=True, top=1)
    assert manifest["surface"] == "mail"
    assert len(rows(tmp_path / "out")) == 300
    some = office.list_of(tmp_path / "u.csv", ["user-1"])
    with pytest.raises(UserError, match="for other users: for another file, or for this one before it was changed"):
        score(office, tmp_path / "out", surface="mail", users=some, top=1)


def test_a_file_that_was_refused_and_mended_is_taken(office, tmp_path):
    users, out = office.list_of(tmp_path / "u.csv", ["user-1", ""]), tmp_path / "out"
    with pytest.raises(UserError, match="line 3: there is no user_id"):
        score(office, out, users=users)
    office.list_of(users, ["user-1", "user-2"])
    assert score(office, out, users=users)["tally"]["users"] == 2


@pytest.mark.parametrize("told", [{}, {"replace": True}])
def test_what_is_not_ours_is_never_touched(office, tmp_path, told):
    for name in ("thesis.doc", "part-00000.parquet"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match="is not empty"):
            score(office, folder, **told)
        assert (folder / name).read_text() == "mine"
        assert not (folder / "_plan.json").exists()


def test_a_part_that_fails_leaves_nothing_half_done(office, tmp_path):
    broken = replace(office.snapshot, path=tmp_path / "snapshot")
    broken.path.mkdir()
    for part in office.snapshot.manifest["parts"]:
        content = bytearray((office.snapshot.path / part).read_bytes())
        content[200:1200] = bytes(1000)
        (broken.path / part).write_bytes(content)
    with pytest.raises(UserError, match="can't be read"):
        score(office, tmp_path / "out", snapshot=broken)
    assert not list((tmp_path / "out").glob("*part*"))
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_an_unknown_surface_is_refused_with_the_nearest_name(office, tmp_path):
    with pytest.raises(UserError, match=r'no surface pusk in release .* Did you mean "push"'):
        score(office, tmp_path / "out", surface="pusk")
    assert not (tmp_path / "out").exists()


def test_a_snapshot_of_another_schema_is_refused_with_what_is_apart(office, tmp_path):
    schema = office.snapshot.schema.to_json()
    schema["features"] = [one for one in schema["features"] if one["name"] != "sessions"]
    del schema["hash"]
    other = replace(office.snapshot, manifest={**office.snapshot.manifest, "schema": schema})
    with pytest.raises(UserError, match=r"does not fit release .* \(it lacks sessions\)"):
        score(office, tmp_path / "out", snapshot=other)
    assert not (tmp_path / "out").exists()


def test_another_version_of_the_model_can_be_tried(office, tmp_path):
    files = artifact.save(model_of(office.release.catalog, "logistic", version=9))
    score(office, tmp_path / "out", load=Tried(office.load, files))
    found = rows(tmp_path / "out")
    assert set(found["model"].dropna()) == {"upsell/9"}
    assert set(found["release"]) == {office.release.id}


def test_top_0_is_refused(office, tmp_path):
    with pytest.raises(UserError, match="--top 0"):
        score(office, tmp_path / "out", top=0)
    assert not (tmp_path / "out").exists()

"""What every engine holds to: the same results, in order, whoever did the work; mistakes told as what they are."""

import builtins
import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from kiosk import kiosk
from parts_of_work import Dies, Goes, Opens, Refuses, Squares

from decisioning.errors import UserError
from evaluation.recorded import sweeping, traffic
from evaluation.recorded.replay import replay_log
from scaling.engines import engine_of
from scaling.local import ALONE, Local
from stores.log.chunks import chunks


def test_results_come_in_the_order_of_the_parts(twin):
    assert list(twin.map(Squares(slow_until=4), range(12))) == [n * n for n in range(12)]


def test_no_parts_are_no_work(twin):
    assert list(twin.map(Squares(), [])) == []


def test_parts_are_asked_for_only_a_few_ahead(twin):
    asked = []

    def parts():
        for number in range(1000):
            asked.append(number)
            yield number

    results = twin.map(Squares(), parts())
    assert next(results) == 0
    assert len(asked) < 30
    results.close()


def test_a_task_is_opened_once_in_each_worker(twin, tmp_path):
    workers = set(twin.map(Opens(tmp_path), range(20)))
    assert 1 <= len(workers) <= twin.workers
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {str(pid): "opened\n" for pid in workers}


@pytest.mark.parametrize(("task", "told"), [(Refuses(3), "3 is no good"), (Refuses(), "this work can't begin")])
def test_a_mistake_in_the_work_is_told_as_what_it_is(twin, task, told):
    with pytest.raises(UserError) as raised:
        list(twin.map(task, range(6)))
    assert str(raised.value) == told
    assert type(raised.value) is UserError


def test_what_came_before_a_mistake_is_given(twin):
    results = twin.map(Refuses(3), range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()


def test_a_worker_that_is_lost_for_good_is_one_clear_message(twin):
    with pytest.raises(UserError, match="memory ran out: try fewer --workers"):
        list(twin.map(Dies(2), range(4)))


def test_an_engine_goes_on_after_work_that_failed(twin):
    assert list(twin.map(Squares(), [5])) == [25]


def test_on_ray_a_worker_that_is_lost_once_is_replaced_and_its_part_done_again(ray_engine, tmp_path, capfd):
    assert list(ray_engine.map(Dies(2, tmp_path / "died"), range(5))) == list(range(5))
    assert (tmp_path / "died").exists()
    assert capfd.readouterr() == ("", "")  # standard output is where a verb's JSON goes


def test_a_ray_of_our_own_cannot_be_reached_from_elsewhere(ray_engine):
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_a_ray_that_runs_already_is_used_and_left_running(ray_engine):
    import ray

    before = ray.get_runtime_context().gcs_address
    with engine_of("ray", workers=64) as again:
        assert again.workers == 2  # of CPUs there are two: more workers would wait for ever
        assert list(again.map(Squares(), [3])) == [9]
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == before


def test_nobody_works_on_for_a_process_that_was_killed(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_all, args=(Local(2), Goes(tmp_path), range(100)))
    process.start()
    until(lambda: len(workers_of(tmp_path)) == 2)
    process.kill()
    process.join()
    until(lambda: not any(map(is_running, workers_of(tmp_path))))
    begun = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun


def test_ctrl_c_is_not_heard_by_processes_that_still_import(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text(
        "import os, signal\n"
        "if __name__ == '__mp_main__':\n"
        "    os.kill(os.getpid(), signal.SIGINT)  # a terminal sends it to the workers too\n"
        "from scaling.local import Local\n"
        "from parts_of_work import Squares\n"
        "if __name__ == '__main__':\n"
        "    print(list(Local(2).map(Squares(), range(3))))\n"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=paths, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[0, 1, 4]\n", "")


def _all(engine, task, parts):
    list(engine.map(task, parts))


def workers_of(folder):
    return {int(file.suffix[1:]) for file in folder.iterdir()}


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until(happened, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_one_local_worker_is_this_very_process(tmp_path):
    assert list(Local(1).map(Opens(tmp_path), [1, 2])) == [os.getpid()] * 2


@pytest.mark.parametrize(("name", "workers", "told"), [("spark", None, "local or ray"), ("local", 0, "1 or more")])
def test_an_engine_that_cannot_be_is_refused(name, workers, told):
    with pytest.raises(UserError, match=told), engine_of(name, workers):
        pass


def test_without_ray_installed_the_message_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "ray":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'segue\[ray\]', or take --engine local"), engine_of("ray"):
        pass


def test_a_log_replayed_on_ray_is_found_as_it_is_found_here(tmp_path, ray_engine, monkeypatch):
    shop = kiosk(tmp_path)
    shop.log(shop.records(800))
    monkeypatch.setattr(sweeping, "SMALL", 0)
    monkeypatch.setattr(traffic, "chunks", partial(chunks, size=2**17))
    told = []
    here = replay_log(shop.home.logs / "decisions", shop.load, "all", engine=ALONE)
    there = replay_log(
        shop.home.logs / "decisions", shop.load, "all", engine=ray_engine, progress=lambda *at: told.append(at)
    )
    assert there == here
    assert (there.decisions, there.identical) == (800, 800)
    assert len(told) > 3


def test_alone_is_the_one_rank_and_has_nobody_to_join():
    assert ALONE.ranks == 1
    assert ALONE.together(lambda shard, network: [("digest", (shard, network))], ["all"]) == [("all", {})]

"""Finding a Ray: a cluster that is there, one that isn't, and what is left when all is over."""

import os
import socket
from pathlib import Path

import pytest
from parts_of_work import Squares, shared_sum

from decisioning.errors import UserError
from scaling.engines import engine_of


def test_a_cluster_that_is_not_there_is_told_within_seconds(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UserError, match=r"can't be reached: .*refused.* unset RAY_ADDRESS"), engine_of("ray"):
            pass


@pytest.mark.heavy
def test_a_cluster_of_two_nodes_is_used_whole_and_left_running(monkeypatch, tmp_path):
    from ray.cluster_utils import Cluster

    paths = (Path.cwd(), Path.cwd() / "tests" / "support")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))  # as if all were installed on its nodes
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        monkeypatch.setenv("SEGUE_RAY_STORAGE", str(tmp_path))
        for _ in range(2):
            with engine_of("ray") as engine:
                assert engine.workers == 2  # a CPU of each node
                assert list(engine.map(Squares(), range(20))) == [n * n for n in range(20)]
                assert engine.together(shared_sum, [[1, 2], [3]]) == [2, 3]  # what the first rank made
    finally:
        cluster.shutdown()

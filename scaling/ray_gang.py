"""Ranks on Ray that make one thing together, by Ray Train: each holds a part of the data, all must come to the same."""

import os
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, get_context
from ray.train.collective import broadcast_from_rank_zero
from ray.train.lightgbm import LightGBMTrainer, get_network_params

from decisioning.errors import UserError
from scaling.engines import Disagreement, Together

STORAGE = "SEGUE_RAY_STORAGE"


def together(work: Together[Any, Any], shards: Sequence[Any]) -> list[Any]:
    """As `engines.Engine.together`, on one Ray actor per shard.

    Ray Train marks a folder that all nodes have to see: a temporary one, unless SEGUE_RAY_STORAGE names another.
    """
    with tempfile.TemporaryDirectory(prefix="segue-ray-train-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Ray's own options, which it reads itself
        trainer = LightGBMTrainer(
            _rank,
            train_loop_config={"work": ray.put(work), "shards": [ray.put(shard) for shard in shards]},
            scaling_config=ScalingConfig(num_workers=len(shards)),
            run_config=RunConfig(storage_path=os.environ.get(STORAGE, folder)),
        )
        try:
            return trainer.fit().return_value
        except TrainingFailedError as error:
            raise _cause(error) from None


def _rank(config: dict[str, Any]) -> list[Any]:
    """The loop of one rank; what the first returns is the result."""
    rank = get_context().get_world_rank()
    work, shard = ray.get(config["work"]), ray.get(config["shards"][rank])
    made = []
    for digest, thing in work(shard, get_network_params()):
        first = broadcast_from_rank_zero(digest)
        if digest != first:
            raise Disagreement(
                f"Rank {rank} came to another model than rank 0 ({digest[:12]} and {first[:12]}): they did not train "
                "together, each on its own part of the data."
            )
        made.append(thing)
    return made


def _cause(error: TrainingFailedError) -> Exception:
    """What went wrong in a rank, as what it is; the others failed because one did."""
    failures = [getattr(one, "_base_exc", one) for one in getattr(error, "worker_failures", {}).values()]
    for kind in (UserError, Disagreement):
        found = next((one for one in failures if isinstance(one, kind)), None)
        if found is not None:
            return found
    if any(isinstance(one, RayError) for one in failures):
        return UserError(
            "A Ray worker was lost while all trained together, most often because memory ran out: try nodes with more "
            "memory, more --workers so that each holds less, or --engine local."
        )
    return failures[0] if failures else error

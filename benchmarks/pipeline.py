"""The figures of the feature platform and of batches, beside their targets: `make bench-pipeline`.

Each `benchmarks/pipeline_<part>.py` measures its own; this asks them all, prints a table and writes
benchmarks/results/pipeline.json. A part that is missing or fails leaves its figures empty, is said, and fails the run;
`--only publish` measures one part anew and keeps the rest of the file.
"""

from benchmarks.assembly import Assembly, Target

PIPELINE = Assembly(
    "pipeline",
    {
        "snapshot_vs_pandas_time": Target("snapshot", "of the time that pandas takes for the same features", 1.0, True),
        "snapshot_vs_pandas_memory": Target("snapshot", "of the memory that pandas takes", 1.0, True),
        "publish_users_per_s": Target("publish", "users a second, from Parquet to the switched pointer", 200_000.0),
        "bytes_per_user": Target("publish", "bytes a user of 40 features, by the server's account", 210.0, True),
        "read_vs_get_p50": Target("publish", "of a plain GET of one blob, the field of a bucket", 1.2, True),
        "flip_reads": Target("publish", "reads while versions were flipped", 10_000.0),
        "flip_misses": Target("publish", "of them found no features", 0.0, True),
        "flip_mixed": Target("publish", "of them found values of different versions", 0.0, True),
        "feast_publish_ratio": Target("feast", "times the users a second that Feast writes", None),
        "feast_read_ratio": Target("feast", "times as long Feast's read of one user takes", None),
        "append_us": Target("log", "µs of request time that an append to the log takes", 10.0, True),
        "batch_score_vs_booster": Target("score", "of the throughput of LightGBM's own predict", 0.9),
    },
)

if __name__ == "__main__":
    PIPELINE.main(__doc__)

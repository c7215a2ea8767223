"""The figures of serving, beside the floors and aims of design/serving.md: `make bench`, `make bench-peers`.

Each `benchmarks/serving_<part>.py` measures its own; this asks them, prints a table and writes
benchmarks/results/serving.json and the chart of the README. Other people's servers, which need environments of their
own, are asked by `--only peers` alone; their figures stay in the file from one run to the next. Beside three of them
the floors are those of docs/adr/0017, as they are faster here than serving.md has them (20, 150 and 25 there).
"""

from benchmarks.assembly import Assembly, Target
from benchmarks.serving_chart import draw

SERVING = Assembly(
    "serving",
    {
        "vs_echo": Target("path", "times the requests a second of a FastAPI echo of the same body", 1.2, aim=2.0),
        "vs_hand_assembled": Target("path", "times those of the same service assembled by hand", 10.0, aim=15.0),
        "vs_floor_cpu": Target("path", "of the CPU of a raw socket that reads the same keys", 7.0, True, 3.5),
        "p99_over_p50": Target("path", "of the median, the latency of the slowest hundredth", 4.0, True, 3.0),
        "workers_cpu_ratio": Target("path", "of the CPU a decision with one worker, that with two", 1.15, True, 1.05),
        "offers_1000_over_50": Target("path", "of the CPU with 50 offers, that with 1,000", 8.0, True, 5.0),
        "scorer_c_vs_booster": Target("scorer", "times as fast as Booster.predict: the C scorer", 40.0, aim=52.0),
        "scorer_numpy_vs_booster": Target("scorer", "times as fast: the numpy scorer", 8.0, aim=10.0),
        "vs_feast": Target("peers", "times the requests a second of Feast + Booster in FastAPI", 12.0, aim=30.0),
        "vs_mlflow": Target("peers", "times those of `mlflow models serve`, scoring a data frame", 102.0, aim=227.0),
        "vs_bentoml": Target("peers", "times those of BentoML, scoring alone", 17.0, aim=38.0),
        "vs_ray_serve": Target("peers", "times those of Ray Serve, scoring alone", 50.0, aim=82.0),
        "vs_mlserver": Target("peers", "times those of MLServer, scoring alone", 8.0, aim=12.0),
    },
    apart=frozenset({"peers"}),
)

if __name__ == "__main__":
    SERVING.main(__doc__)
    draw(SERVING.file)

"""The plan for 300 million users that the measured slopes come to: the arithmetic, line by line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GB, TB, HOUR, DAY = 1e9, 1e12, 3600.0, 86_400.0
RAY_NODES = 4


@dataclass(frozen=True)
class Load:
    """What is assumed of the product; everything else was measured."""

    users: float = 300e6
    events_a_user: float = 25
    """In the window that features look back on."""
    with_history: float = 0.6
    """The share of users who saw anything in the 90 days that histories are kept for."""
    decisions_a_day: float = 400e6
    kept_days: float = 90
    train_rows: float = 50e6
    """After sampling users, or days."""
    features: int = 40
    node_cores: int = 16
    node_memory: float = 64 * GB
    store_share: float = 0.6
    """Of a store node's memory: the rest is for the copy that a save writes, buffers and fragments."""


@dataclass(frozen=True)
class Line:
    what: str
    arithmetic: str
    comes_to: str


def plan(found: Mapping[str, Any], load: Load | None = None) -> str:
    """A table in Markdown."""
    lines = [Line("what", "arithmetic", "comes to"), Line("---", "---", "---"), *_lines(found, load or Load())]
    return "\n".join(f"| {line.what} | {line.arithmetic} | {line.comes_to} |" for line in lines)


def _lines(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    yield from _features(found, load)
    yield from _store(found, load)
    yield from _batches(found, load)
    yield from _training(found, load)
    yield from _log(found, load)


def _features(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    slope, users = found["snapshot"]["slope"], load.users
    core_hours = slope["core_seconds"] * users / HOUR
    yield Line(
        f"snapshot from nothing, {load.events_a_user:.0f} events a user",
        f"{slope['core_seconds'] * 1e6:.1f} core seconds a million users × {users / 1e6:.0f}",
        f"{core_hours:.1f} core hours; {_time(core_hours / load.node_cores)} on {load.node_cores} cores",
    )
    yield Line(
        "its memory, where there is enough",
        f"{slope['peak_bytes'] / 1e3:.2f} GB a million users × {users / 1e6:.0f}",
        f"{slope['peak_bytes'] * users / GB:,.0f} GB in one process",
    )
    yield Line(
        "its Parquet",
        f"{slope['disk_bytes']:.0f} bytes a user",
        f"{slope['disk_bytes'] * users / GB:.0f} GB a snapshot",
    )


def _store(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    users, publish = load.users, found["publish"]["slope"]
    version = publish["store_bytes"] * users
    history = found["history"]["slope"]["store_bytes"] * load.with_history * users
    memory = load.node_memory * load.store_share
    nodes = -(-(2 * version + history) // memory)
    yield Line(
        "a version of features", f"{publish['store_bytes']:.0f} bytes a user × {users / 1e6:.0f} M", _gb(version)
    )
    yield Line("the version before it, kept", "the same again", _gb(version))
    yield Line(
        "histories for caps",
        f"{found['history']['slope']['store_bytes']:,.0f} bytes for 20 impressions × {load.with_history:.0%} of users",
        _gb(history),
    )
    yield Line(
        "store nodes",
        f"({2 * version / GB:.0f} + {history / GB:.0f}) GB ÷ ({load.node_memory / GB:.0f} GB × {load.store_share:.0%})",
        f"{nodes:.0f} primaries, and a replica each",
    )
    yield Line(
        "publishing",
        f"{publish['core_seconds'] * 1e6:.1f} core seconds a million users × {users / 1e6:.0f}",
        f"{publish['core_seconds'] * users / 60:.0f} core minutes, of publisher and servers together",
    )


def _batches(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    slope = found["score"]["slope"]
    for what, key in (("`segue score`, 50 offers", "score"), ("`segue decide-all`, 50 offers", "decide_all")):
        core_hours = slope[key] * load.users / HOUR
        on_ray = _time(core_hours / (RAY_NODES * load.node_cores))
        yield Line(
            f"{what}, everybody",
            f"{slope[key] * 1e6:.0f} µs of a core a user × {load.users / 1e6:.0f} M",
            f"{core_hours:.0f} core hours; {on_ray} on {RAY_NODES} Ray nodes",
        )


def _training(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    rows = load.train_rows
    for what, key in (("one fit, 80 trees", "fit"), ("`segue train`, 16 fits and all evidence", "train")):
        seconds, memory = found[key]["slope"]["core_seconds"], found[key]["slope"]["peak_bytes"]
        yield Line(
            what,
            f"{seconds * 1e6:.0f} core seconds and {memory / 1e3:.2f} GB a million × {rows / 1e6:.0f}",
            f"{_time(seconds * rows / HOUR)} of one core, {memory * rows / GB:.0f} GB in one process",
        )
    yield Line(
        f"decisions that `segue train` takes in {load.node_memory / GB:.0f} GB",
        f"{load.node_memory / GB:.0f} GB ÷ {memory / 1e3:.2f} GB a million",
        f"{load.node_memory / memory / 1e6:.0f} million",
    )


def _log(found: Mapping[str, Any], load: Load) -> Iterator[Line]:
    log, day = found["log"], load.decisions_a_day
    compacted = log["parquet_bytes"] * day
    yield Line(
        "the log as written",
        f"{log['line_bytes']:,.0f} bytes a decision × {day / 1e6:.0f} M a day",
        f"{log['line_bytes'] * day / TB:.2f} TB a day, {log['line_bytes'] * day / DAY / 1e6:.0f} MB/s over all servers",
    )
    yield Line(
        "compacted",
        f"{log['parquet_bytes']:.0f} bytes a decision × {day / 1e6:.0f} M × {load.kept_days:.0f} days",
        f"{compacted / GB:.0f} GB a day, {compacted * load.kept_days / TB:.1f} TB kept",
    )


def _gb(size: float) -> str:
    return f"{size / GB:.0f} GB"


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"

"""What is left of a soak: whether it holds, and the table that says so."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.soak_faults import Scene
from evaluation.recorded.replay import replay_log
from stores.log import reader
from stores.log.decision_log import decode, decode_event
from stores.releases import ReleaseStore

GROWS = 1.0
"""Megabytes a minute: a process that grows faster leaks."""
EXCUSED = 1.0
"""Seconds after a worker was killed within which connections end because of it."""
BUGS = {"request_failed", "decide_failed", "explain_failed", "sticky_failed", "record_failed", "answer_failed"}
"""What the server's own log must never say."""


def judged(scene: Scene, told: dict, processes: Sequence[dict], lines: Sequence[dict], page: str) -> dict[str, Any]:
    """`told`: what the client found, and the terms of the run. `lines`: the server's own log. `page`: its /metrics."""

    def is_excused(at: float) -> bool:
        return any(0.0 <= at - killed < EXCUSED for killed in scene.killed)

    decisions, events = set(told.pop("decisions")), set(told.pop("events"))
    folder = scene.home.logs
    lost = {
        "decisions": len(decisions - {decode(line).decision.decision_id for line in reader.read(folder / "decisions")}),
        "events": len(events - {decode_event(line).event_id for line in reader.read(folder / "events")}),
    }
    replay = replay_log(folder / "decisions", ReleaseStore(scene.home.releases).load, "all")
    failed = [one for one in told["failed"] if not is_excused(one[0])]
    repeated = [one for one in told["repeated"] if not is_excused(one)]
    in_flight = len(told["failed"]) - len(failed) + len(told["repeated"]) - len(repeated)
    said = Counter(line["event"] for line in lines)
    statuses = {int(status): times for status, times in told["statuses"].items()}
    checks = {
        "no request failed": not failed and not statuses.keys() - {200, 503},
        "memory is flat": bool(processes) and all(one["mb_a_minute"] < GROWS for one in processes),
        "every decision came out the same again": replay.ok,
        "all that was acknowledged is in the logs": not any(lost.values()),
        "the log never told of a bug": not BUGS & said.keys(),
        "the server ended well": told.pop("code") == 0,
    }
    return {
        **told,
        "ok": all(checks.values()),
        "checks": checks,
        "statuses": statuses,
        "failed": failed[:20],
        "failures": len(failed),
        "repeated": len(repeated),
        "in_flight_on_a_killed_worker": in_flight,
        "acknowledged": {"decisions": len(decisions), "events": len(events)},
        "not_in_the_logs": lost,
        "replayed": replay.decisions,
        "identical": replay.identical,
        "different": replay.different[:5],
        "memory": list(processes),
        "log": dict(said.most_common()),
        "dropped": [one for one in page.splitlines() if one.startswith(("segue_log_dropped", "segue_store_missed"))],
    }


def table(found: dict) -> str:
    acknowledged, lost = found["acknowledged"], found["not_in_the_logs"]
    minutes, capacity = found["seconds"] / 60, found["capacity_per_second"]
    rows = [
        (
            "requests",
            f"{found['requests']:,} in {minutes:.1f} minutes: {found['share']:.0%} of {capacity:,.0f} a second",
        ),
        ("failed", f"{found['failures']:,}"),
        ("in the hands of workers that were killed", f"{found['in_flight_on_a_killed_worker']:,}, sent once more"),
        ("sent on a connection that was closing", f"{found['repeated']:,}, sent once more"),
        ("shed (503 with Retry-After)", f"{found['statuses'].get(503, 0):,}"),
        ("not sent, as all connections waited", f"{found['unsent']:,}"),
        ("p50, p99, longest", f"{found['p50_ms']:g}, {found['p99_ms']:g}, {found['longest_ms']:g} ms"),
        ("decisions acknowledged", f"{acknowledged['decisions']:,}; not in the log: {lost['decisions']:,}"),
        ("events acknowledged", f"{acknowledged['events']:,}; not in the log: {lost['events']:,}"),
        ("decided again", f"{found['replayed']:,}; identical: {found['identical']:,}"),
    ]
    for one in found["memory"]:
        sizes = f"{one['median_mb']:.1f} MB, at most {one['largest_mb']:.1f}, {one['mb_a_minute']:+.2f} a minute"
        rows.append((f"memory of process {one['pid']}", f"{sizes}, over {one['seconds']} s"))
    rows += [("fault", f"{one['fault']}, {one['until'] - one['from']:.1f} s") for one in found["faults"]]
    rows += [(name, "yes" if holds else "NO") for name, holds in found["checks"].items()]
    return "\n".join(f"{name:<42} {value}" for name, value in rows)

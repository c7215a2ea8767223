"""The watch of these tests leaves out what a busy machine adds, and nothing that anybody waits for."""

import os
import subprocess
import sys
import time
from pathlib import Path

from own_time import Watch


def test_whatever_is_waited_for_counts():
    watch = Watch()
    time.sleep(0.3)
    assert watch.seconds > 0.29


def runs(process: subprocess.Popen) -> bool:
    """Not so of one that has ended, though nobody has waited for it."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_time_in_which_a_process_was_ready_and_another_one_ran_does_not_count():
    """Two that share a processor wait for each other."""
    one = f"import os, time; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    spin = f"{one}while time.process_time() < 0.4: pass"
    began, watch = time.monotonic(), Watch()
    both = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    while any(map(runs, both)):
        told, took = watch.seconds, time.monotonic() - began
        time.sleep(0.01)
    for each in both:
        each.wait()
    assert told < took - 0.2

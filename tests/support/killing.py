"""Killing a process before one of its steps: whatever it does to files by a call of `os`."""

import os
import signal
import traceback
from collections.abc import Callable

STEPS = ("rename", "replace", "unlink", "fsync", "mkdir", "rmdir", "link", "ftruncate")


def killed_before(fatal: int, work: Callable[[], object]) -> bool:
    """Does the work in a child process that kills itself (SIGKILL) before its `fatal`-th step, from 1.

    False where the work has fewer steps, and was done. To be called from a process without threads: it forks.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _kill_at(fatal)
            work()
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise AssertionError("the work failed by itself")
    return status == -signal.SIGKILL


def _kill_at(fatal: int) -> None:
    done = 0

    def counted(real: Callable) -> Callable:
        def step(*words, **more):
            nonlocal done
            done += 1
            if done == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        return step

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))

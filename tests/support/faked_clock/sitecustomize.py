"""For processes under libfaketime, by PYTHONPATH: `time.sleep` by another call of the system.

libfaketime 0.9.10 refuses the one that Python makes (an absolute moment of a clock that it is told not to fake).
"""

import select
import time


def sleep(seconds: float) -> None:
    select.select((), (), (), seconds)


time.sleep = sleep

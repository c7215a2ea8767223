"""`python -m benchmarks.shedding_server serve …`: the real server with another way of shedding, to compare with.

SHEDDING in the environment: `rungs` is the server as it is; `nothing` puts all the work into every request, however
old; `cap` does too, and refuses what comes while CAP others are in flight; `cached`, `prior` and `fallback` put every
request on that rung, and `refused` refuses it, to measure what each costs.
"""

import os

import serving.deciding.decide
from decisioning.domain import Rung
from serving.pressure import Pressure

CAP = 64


def install(way: str) -> None:
    if way == "rungs":
        return
    most = CAP if way == "cap" else 0 if way == "refused" else 1 << 30
    Pressure.is_late = lambda self, arrived: len(self.in_hand) >= most  # type: ignore[method-assign]
    step = Rung(way) if way in ("cached", "prior", "fallback") else Rung.MODEL
    serving.deciding.decide.rung = lambda age, budget, is_read=False: step  # type: ignore[assignment]


if __name__ == "__main__":
    install(os.environ["SHEDDING"])
    from segue import main

    main()

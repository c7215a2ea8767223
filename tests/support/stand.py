"""One server, its store and a proxy between them, shared by the tests of many faults; and what must hold in each."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

from figures import Figures
from own_time import Watch

from stores.online.layout import Keys

USERS = tuple(f"user{number}" for number in range(100))
PROMPT = 0.25
"""Far above the surfaces' deadline of 30 ms, and far below what a client library would wait for a dead store."""
LATEST = 1.0
RECOVERED_WITHIN = 2.0
READ_ONLY = "store:read_only"
BEHIND = {"scores:cached", "scores:prior", "overload:fallback", "explain:shed"}
"""What an answer says of a server that is behind."""
BUSY = {"store:slow", *BEHIND}
"""The same, of a server or a store."""


def shown(answer: dict) -> list[str]:
    return [one["offer"] for one in answer["offers"]]


class Stand:
    """`server`, `valkey` and `home` as tests/faults/conftest.py makes them; `between`: the proxy."""

    def __init__(self, server: Any, valkey: Any, between: Any, home: Any) -> None:
        self.server, self.valkey, self.between, self.home = server, valkey, between, home
        self._users, self._numbers = iter(USERS), count()
        self.seconds: list[float] = []
        """How long each request took, without what a busy machine added."""

    def user(self) -> str:
        """Somebody who consented, and of whom nothing is known yet; once whatever was before is over."""
        self.until(self.is_well)
        return next(self._users)

    def ask(self, user: str, surface: str = "banner", **more: Any) -> dict:
        """A decision. It is a 200, whatever is down."""
        watch = Watch()
        answer = self.server.decide(surface, user_id=user, **more)
        self.seconds.append(watch.seconds)
        return answer

    def ask_well(self, user: str, surface: str = "banner", *, late: set[str] = BUSY, **more: Any) -> dict:
        """The same where nothing is `late`: a machine busy with other things is so now and then, not each time."""
        for _ in range(20):
            answer = self.ask(user, surface, **more)
            if not late & {*answer["degraded"]}:
                break
        return answer

    def report(self, event_id: str, user: str, **more: Any) -> dict:
        """An impression of `annual`, accepted whatever is down."""
        answer = self.server.report(event_id, user_id=user, **more)
        assert (answer["accepted"], answer["rejected"]) == (1, [])
        return answer

    def figures(self) -> Figures:
        """What /metrics tells; it is brought up to date five times a second."""
        return Figures(self.server.http.get("/metrics").content)

    def is_breaker(self, state: str) -> bool:
        return self.figures().by("segue_store_breakers", "state")[state] == 1.0

    def said(self, event: str) -> int:
        """How often the server's own log says so."""
        return self.server.events().count(event)

    def until(self, holds: Callable[[], Any], seconds: float = RECOVERED_WITHIN) -> None:
        watch = Watch()
        while not holds():
            assert watch.seconds < seconds, f"not so within {seconds} s"
            time.sleep(0.02)

    def is_well(self, user: str = "ann") -> bool:
        return self.ask(user)["degraded"] == []

    def is_capped(self, user: str) -> bool:
        """Whether the two impressions of `annual` that its cap allows are counted, by the store and whole."""
        answer = self.ask(user, explain=True)
        return (
            answer["degraded"] == []
            and {"annual": "cap"}.items() <= {one["offer"]: one["stage"] for one in answer["reasons"]}.items()
        )

    def free_budget(self) -> None:
        """All units of the hard budget, of which each test takes one."""
        with self.valkey.admin() as admin:
            admin.delete(*Keys().budget("few"))

    def was_in_time(self) -> bool:
        """Every request: up to one in ten may have met a busy machine, and none a client library's time-out."""
        late = sorted(seconds for seconds in self.seconds if seconds > PROMPT)
        assert len(late) <= len(self.seconds) / 10, late
        assert late[-1:] < [LATEST], late
        return True

    def endures(self, fault: AbstractContextManager, *, says: set[str], rounds: int = 15) -> None:
        """What the matrix asks where the store can't be read, from before the fault until after it.

        Every request is answered in time and says what is missing; consent, caps, hard budgets and the kill switches
        that were read last hold; the breaker opens; what is reported meanwhile is counted once, within two seconds of
        the end.
        """
        user, number = self.user(), next(self._numbers)
        self.free_budget()
        with self.valkey.admin() as admin:
            admin.sadd("segue:killed", "poster")
            assert shown(self.ask_well(user)) == ["annual"]
            assert shown(self.ask_well(user, "deal")) == ["scarce"]
            assert shown(self.ask_well(user, "strip")) == ["generic"]
            downs, self.seconds = self.said("store_down"), []
            with fault:
                for _ in range(rounds):
                    for surface, offer in (("banner", "generic"), ("deal", "plenty"), ("strip", "generic")):
                        answer = self.ask_well(user, surface, late=BEHIND)
                        assert shown(answer) == [offer], answer
                        assert {one for one in answer["degraded"] if one.startswith("store:")} <= says
                        assert answer["degraded"]
                events = [f"{kind}{number}" for kind in ("first", "second", "first")]
                for event in events:
                    assert set(self.report(event, user)["degraded"]) <= says
                assert self.server.http.get("/readyz").status_code == 200, "readiness never depends on the store"
                self.until(lambda: self.said("store_down") > downs)
                self.until(lambda: self.is_breaker("open"))
                assert self.figures()("segue_store_reads_total", outcome="store:down") > 0
                assert self.figures()("segue_store_backlog_events") > 0
            assert self.was_in_time()
            self.until(lambda: self.is_well(user))
            self.until(lambda: self.is_capped(user))
            assert [self.report(event, user)["duplicates"] for event in events] == [1, 1, 1]
            admin.srem("segue:killed", "poster")
            assert shown(self.ask_well(user, "strip")) == ["poster"]

    def reads_on(self, fault: AbstractContextManager, *, moves: bool = False) -> None:
        """What the matrix asks where the store is read but takes no writes, from before the fault until after it.

        Every request is answered in time, from the facts, and says what is wrong; hard budgets are closed; caps know of
        what waits; the breaker never opens (or once, where the fault ends with a new address, which `moves`); what is
        reported meanwhile is counted once, soon after the end.
        """
        user, number = self.user(), next(self._numbers)
        self.free_budget()
        assert (shown(self.ask_well(user)), shown(self.ask_well(user, "deal"))) == (["annual"], ["scarce"])
        told, downs, self.seconds = self.said("store_read_only"), self.said("store_down"), []
        with fault:
            self.until(lambda: self.report(f"first{number}", user)["degraded"] == [READ_ONLY])
            for _ in range(15):
                answer = self.ask_well(user)
                assert (shown(answer), answer["source"], answer["degraded"]) == (["annual"], "rules", [READ_ONLY])
                answer = self.ask_well(user, "deal")
                assert shown(answer) == ["plenty"], "nobody can take a unit"
                assert answer["degraded"] == [READ_ONLY, "budgets:unread"]
            assert shown(self.ask_well("noah")) == ["generic"], "he did not consent"
            self.until(lambda: self.report(f"second{number}", user)["degraded"] == [READ_ONLY])
            assert shown(self.ask_well(user)) == ["generic"], (
                "two impressions fill the cap, though nobody could count them"
            )
            self.until(lambda: self.said("store_read_only") > told)
            self.until(lambda: self.is_breaker("read_only"))
            self.until(lambda: self.figures()("segue_store_backlog_events") == 2)
        assert self.was_in_time()
        self.until(lambda: self.is_capped(user))
        self.until(lambda: shown(self.ask_well(user, "deal", dry_run=True)) == ["scarce"])
        assert [self.report(f"{kind}{number}", user)["duplicates"] for kind in ("first", "second")] == [1, 1]
        assert self.said("store_read_only") == told + 1
        assert self.said("store_down") <= downs + moves
